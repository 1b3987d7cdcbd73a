"""Ray, started here or joined on purpose; every way it can fail becomes one clear line."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import ray

from vis_core.errors import ReelmaskError, UsageError

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """A Ray session for the block: local and private by default, `address` joins a cluster.

    Plain `ray.init()` may silently join another cluster on this machine; `local` never does. A
    session that is there already, as in tests, is used and left alone.
    """
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray's own C++ lines, such as one about arguments that we keep alive, are not for our users;
    # nor is the one that says so. What is wrong with a start is raised.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        with _silent_stderr():
            ray.init(
                address=address or "local",
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.WARNING,
                configure_logging=True,
            )
    except ConnectionError as error:
        raise UsageError(
            f"no Ray cluster answers at {address!r}: start one with `ray start --head`, or leave"
            " --address out to run on this machine alone"
        ) from error
    except ray.exceptions.AuthenticationError as error:
        raise UsageError(
            f"the cluster at {address!r} refuses the token: set RAY_AUTH_MODE=token and"
            f" RAY_AUTH_TOKEN as its owner did ({error})"
        ) from error
    except RuntimeError as error:
        if "ersion mismatch" in str(error):
            raise UsageError(
                f"the cluster at {address!r} runs other versions of Ray or Python than this"
                f" program; install the same here ({error})"
            ) from error
        raise ReelmaskError(f"Ray did not start: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drops what C++ code writes to the file descriptor; Python's errors are exceptions."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
