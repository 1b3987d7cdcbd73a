"""Storage behind a network: what is worth another try, and what to say when it is not.

The client libraries below try again by themselves for some seconds. This is the longer breath, for
a server that restarts or throttles: about a minute in all, then the run stops, resumable. A store
that has never answered gets no second minute: there the address is wrong.
"""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar

from vis_core.errors import ReelmaskError, UsageError

logger = logging.getLogger(__name__)

T = TypeVar("T")

DELAYS_SECONDS = (1.0, 5.0, 20.0)
_TRANSIENT_STATUS = frozenset({408, 409, 429, 500, 502, 503, 504})
_TRANSIENT_ERRNO = frozenset(
    {
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ESTALE,
        errno.EREMOTEIO,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.ECONNREFUSED,
        errno.ECONNABORTED,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
    }
)
# Classes of botocore and aiohttp, by name: neither is a dependency of this package.
_TRANSIENT_CLASSES = frozenset({"ConnectionError", "HTTPClientError", "ClientConnectionError"})


class StorageError(ReelmaskError, OSError):
    """The store did not answer, however often it was asked; nothing committed is lost.

    An OSError too, so that code which blames a video for its exceptions lets it pass.
    """


class Patience:
    """Calls the store again after transient errors; every other error it explains."""

    def __init__(
        self,
        root: str,
        *,
        delays: Sequence[float] = DELAYS_SECONDS,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        self._root = root
        self._delays = tuple(delays)
        self._sleep = sleep
        self._answered = False

    def __call__(self, operation: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        for delay in (*self._delays, None):
            try:
                result = operation(*args, **kwargs)
            except Exception as error:
                self._answered |= http_status(error) is not None
                if not is_transient(error):
                    self._raise_explained(error)
                if delay is None or not self._answered:
                    raise self._gave_up(error) from error
                logger.warning("%s: %s; trying again in %.0f s", self._root, error, delay)
                # Spread out, so that workers that failed together do not come back together.
                (self._sleep or time.sleep)(delay * random.uniform(0.5, 1.5))
            else:
                self._answered = True
                return result
        raise AssertionError("the last try returns or raises")

    def _raise_explained(self, error: Exception) -> NoReturn:
        self._answered = True
        better = explained(error, self._root)
        if better is error:
            raise error
        raise better from error

    def _gave_up(self, error: Exception) -> ReelmaskError:
        if not self._answered:
            return UsageError(
                f"cannot reach the store of {self._root} ({error}); check the network, and the"
                " endpoint (AWS_ENDPOINT_URL) where it is not Amazon's"
            )
        return StorageError(
            f"the store of {self._root} fails ({error}); run the same command again later: what"
            " was committed is kept"
        )


def is_transient(error: BaseException) -> bool:
    """Whether the same call may succeed in a while."""
    if isinstance(error, FileNotFoundError | FileExistsError | PermissionError):
        return False
    status = http_status(error)
    if status is not None:
        return status in _TRANSIENT_STATUS
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError):
        return error.errno in _TRANSIENT_ERRNO
    return any(kind.__name__ in _TRANSIENT_CLASSES for kind in type(error).__mro__)


def already_exists(error: BaseException) -> bool:
    """Whether a conditional write was refused because the object is there."""
    # s3fs knows only Amazon's wording of it; other stores answer with the bare status.
    return isinstance(error, FileExistsError) or http_status(error) == 412


def explained(error: Exception, root: str) -> Exception:
    """The error as a person can act on it; itself, where it says enough already."""
    if isinstance(error, ReelmaskError):
        return error
    if _error_code(error) == "NoSuchBucket":
        bucket = root.split("://", 1)[-1].split("/", 1)[0]
        return UsageError(f"bucket {bucket!r} of {root} does not exist; create it, or check --out")
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return UsageError(
            f"the store refuses access to {root} ({error}); check the keys (for s3://:"
            " AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE) and what they may do"
        )
    if type(error).__module__.startswith("botocore."):
        return UsageError(f"cannot use {root}: {error}")
    return error


def http_status(error: BaseException) -> int | None:
    """The HTTP status behind an error, if the server answered at all."""
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            return int(status) if status is not None else None
    return None


def _error_code(error: BaseException) -> str | None:
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            code = response.get("Error", {}).get("Code")
            return None if code is None else str(code)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
