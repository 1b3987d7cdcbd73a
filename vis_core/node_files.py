"""Files and folders that settings name, on the machine that needs them: weights, truth, label maps.

A job is made on one machine and computed on many. Each makes sure, once, that it sees the content
the fingerprint was made of: a path must hold the same bytes, an address is fetched to local disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vis_core import config
from vis_core.addresses import is_remote, public
from vis_core.errors import UsageError
from vis_core.fingerprints import digest_of_file, digest_of_path, files_in, reading
from vis_core.video.uris import open_file

CACHE_VARIABLE = "REELMASK_CACHE"


class NoCache(UsageError):
    """There is no place to keep files, and nobody named one."""


def prepare(settings: Any, digests: Mapping[str, str]) -> Any:
    """The settings with every file they name ready on this machine; `digests` are by field.

    Safe to call from many processes at once: one fetches or reads, the others wait.
    """
    local: dict[str, str] = {}
    for name, path in config.file_fields(settings).items():
        if name not in digests:
            continue  # a symbolic value, such as `formula:3`
        with _only_one(digests[name]):
            fetch = _fetched if is_remote(path) else _checked
            local[name] = fetch(path, digests[name])
    return dataclasses.replace(settings, **local) if local else settings


def cache_folder() -> Path:
    """Where fetched files stay: $REELMASK_CACHE, or the user's cache."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    try:
        return Path.home() / ".cache" / "reelmask"
    except RuntimeError as error:
        raise NoCache(
            f"this user has no home directory to keep files in: set {CACHE_VARIABLE} to a folder"
        ) from error


def _fetched(address: str, digest: str) -> str:
    kept = cache_folder() / "files" / f"{digest}{_suffix(address)}"
    if kept.exists():
        return str(kept)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with (
        reading(address, f"{socket.gethostname()} cannot fetch"),
        open_file(address) as source,
        tempfile.NamedTemporaryFile(dir=kept.parent, delete=False) as target,
    ):
        shutil.copyfileobj(source, target, 1 << 20)
    if digest_of_file(target.name) != digest:
        Path(target.name).unlink()
        raise UsageError(
            f"{public(address)!r} has changed since the job was made; run the command again"
        )
    Path(target.name).replace(kept)
    return str(kept)


def _suffix(address: str) -> str:
    """What tells readers the format; a query is no part of a name."""
    return Path(public(address).partition("?")[0]).suffix


def _checked(path: str, digest: str) -> str:
    """A local path, read once per machine and state of the file or of all files of the folder."""
    state = f"{Path(path).absolute()}:{_state(path)}:{digest}"
    marker = None
    with contextlib.suppress(NoCache):  # then it is read every time
        marker = cache_folder() / "seen" / hashlib.sha256(os.fsencode(state)).hexdigest()
    if marker is not None and marker.exists():
        return path
    if digest_of_path(path) != digest:
        kind = "folder" if Path(path).is_dir() else "file"
        raise UsageError(
            f"{path!r} on {socket.gethostname()} is not the {kind} the job was made with; put the"
            " same one on every node"
        )
    with contextlib.suppress(OSError):  # without a cache it is read again next time
        if marker is None:
            return path
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
    return path


def _state(path: str) -> str:
    """What changes when somebody writes to the file, or to a file of the folder."""
    try:
        status = Path(path).stat()
    except OSError as error:
        raise UsageError(
            f"{socket.gethostname()} has no {path!r}, which the job names: put it on every node,"
            " on storage that all share, or give a URL"
        ) from error
    if not Path(path).is_dir():
        return f"{status.st_size}:{status.st_mtime_ns}"
    files = sorted(files_in(path).items())
    return repr([(name, each.st_size, each.st_mtime_ns) for name, each in files])


@contextlib.contextmanager
def _only_one(digest: str) -> Iterator[None]:
    """One process of this machine at a time, as far as the cache can be written to."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, NoCache):
            lock = cache_folder() / "locks" / digest
            lock.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context(lock.open("w")), fcntl.LOCK_EX)
        yield
