"""Ray, started here or joined on purpose; every way it can fail becomes one clear line."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from typing import TextIO

import ray

from vis_core.errors import ReelmaskError, UsageError

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """A Ray session for the block: local and private by default, `address` joins a cluster.

    Plain `ray.init()` may silently join another cluster on this machine; `local` never does. A
    session that is there already, as in tests, is used and left alone.
    """
    if ray.is_initialized():
        yield
        return
    if address is not None:
        _check_reachable(address)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray's own C++ lines, such as one about arguments that we keep alive, are not for our users;
    # nor is the one that says so. What is wrong with a start is raised.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    with _captured_stderr() as said, _kept_handlers():
        try:
            ray.init(
                address=address or "local",
                include_dashboard=False if address is None else None,
                log_to_driver=False,
                logging_level=logging.WARNING,
                configure_logging=True,
            )
        except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
            said.seek(0)
            raise _explained(error, address, said.read()) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Ray itself would try for minutes, and say nothing."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():
        return  # `auto` and the like: Ray knows where to look
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _nobody(address) from error


def _explained(error: Exception, address: str | None, said: str) -> ReelmaskError:
    """What a failed start means; that a token is missing is only said on stderr."""
    if isinstance(error, ray.exceptions.AuthenticationError) or "InvalidAuthToken" in said:
        return UsageError(
            f"the cluster at {address!r} wants a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN"
            " to its owner's"
        )
    if isinstance(error, ConnectionError):
        return _nobody(address)
    if "ersion mismatch" in str(error):
        return UsageError(
            f"the cluster at {address!r} runs other versions of Ray or Python than this program;"
            f" install the same here ({error})"
        )
    return ReelmaskError(f"Ray did not start: {error}")


def _nobody(address: str | None) -> UsageError:
    return UsageError(
        f"no Ray cluster answers at {address!r}: start one with `ray start --head`, or leave"
        " --address out to run on this machine alone"
    )


@contextlib.contextmanager
def _kept_handlers() -> Iterator[None]:
    """Ray takes SIGTERM for itself and ends the process at once: receipts would be lost."""
    kept = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, kept)


@contextlib.contextmanager
def _captured_stderr() -> Iterator[TextIO]:
    """Keeps what C++ code writes to the file descriptor: to look at, if a start fails."""
    kept = os.dup(2)
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        os.dup2(said.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
