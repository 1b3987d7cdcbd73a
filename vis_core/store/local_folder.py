"""A results folder on a file system."""

from __future__ import annotations

import contextlib
import copy
import errno
import functools
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from vis_core.errors import StorageFullError, UsageError
from vis_core.failpoints import failpoint
from vis_core.store.names import FOLDERS, needs_lease, set_aside_name
from vis_core.video.uris import open_regular

STAGING_PREFIX = ".staging-"
# What file systems answer to a request they do not know: FAT and exFAT, some FUSE, SMB and NFS.
_UNSUPPORTED = frozenset(
    {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EMLINK}
)


@contextlib.contextmanager
def full_disk_is_clear(root: str) -> Iterator[None]:
    """Turns "no space left" into an error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(
                f"no space left while writing to {root}: free some and run the same command again;"
                " what was committed is kept"
            ) from error
        raise


class LocalFolder:
    """A results folder on a file system; first writer wins where it can hard-link.

    Where it cannot, the same fall-back as on object storage: parts carry a nonce in their names
    and the manifest picks one of two. An empty file created exclusively under the final name would
    not do: if its writer dies before the rename, readers find a file that is no Parquet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = str(path)
        self._check: Callable[[], None] | None = None

    def guarded(self, check: Callable[[], None]) -> LocalFolder:
        guarded = copy.copy(self)
        guarded._check = check
        return guarded

    def check(self) -> None:
        if self._check is not None:
            self._check()

    def _check_for(self, name: str) -> None:
        if needs_lease(name):
            self.check()

    @functools.cached_property
    def creates_exclusively(self) -> bool:
        """Whether `publish` never overwrites; tried with a file of our own."""
        with self.staging("manifest/probe") as one, self.staging("manifest/probe") as other:
            one.touch()
            try:
                os.link(one, other)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
                return False
        return True

    def names(self, under: str, prefix: str = "") -> list[str]:
        return sorted(entry.name for entry in self._entries(under, prefix))

    def sizes(self, under: str) -> dict[str, int]:
        found = {}
        for entry in self._entries(under):
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                found[entry.name] = entry.stat().st_size
        return found

    def _entries(self, under: str, prefix: str = "") -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.path / under) as entries:
                return [
                    entry
                    for entry in entries
                    if entry.name.startswith(prefix)
                    and (prefix.startswith(".") or not entry.name.startswith("."))
                    and entry.is_file()
                ]
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            raise UsageError(
                f"{self.path / under}: expected a folder, found a file; move it away and run again"
            ) from error

    def exists(self, name: str) -> bool:
        return (self.path / name).exists()

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def read(self, name: str) -> bytes:
        with open_regular(self.path / name) as file:
            return file.read()

    def open(self, name: str) -> Any:
        # Arrow's own file, not Python's: no GIL per read, and no Python object that Arrow's
        # threads could still hold when the interpreter ends (seen as a rare abort at exit).
        # As bytes, because names need not be UTF-8.
        open_regular(self.path / name).close()  # Arrow would wait for a pipe
        return pa.OSFile(os.fsencode(self.path / name), "rb")

    @contextlib.contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        staged = target.parent / f"{STAGING_PREFIX}{owner}"
        try:
            with full_disk_is_clear(self.root):
                yield staged
        finally:
            staged.unlink(missing_ok=True)

    def publish(self, staged: Path, name: str) -> bool:
        target = self.path / name
        with full_disk_is_clear(self.root):
            _sync_file(staged)
            failpoint("before_publish")
            self._check_for(name)
            if not _link_or_rename(staged, target):
                return False
            failpoint("after_publish")
            _sync_folder(target.parent)
        return True

    def replace(self, name: str, data: bytes) -> None:
        with self.staging(name) as staged:
            failpoint("replace")
            staged.write_bytes(data)
            _sync_file(staged)
            self._check_for(name)
            staged.replace(self.path / name)
            _sync_folder((self.path / name).parent)

    def delete(self, name: str) -> None:
        failpoint("delete")
        self.check()
        self.retract(name)

    def retract(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def set_aside(self, name: str) -> None:
        self.check()
        with contextlib.suppress(FileNotFoundError):
            (self.path / name).replace(self.path / set_aside_name(name))

    def staged_files(self) -> list[Path]:
        """Files being written, or left half-written, in the folders that are ours."""
        found = list(self.path.glob(f"{STAGING_PREFIX}*"))
        for under in FOLDERS:
            found += (self.path / under).glob(f"**/{STAGING_PREFIX}*")
        return found

    def remove_stale_staging(self) -> int:
        removed = 0
        for staged in self.staged_files():
            host, _, pid = (
                staged.name.removeprefix(STAGING_PREFIX).rpartition("-")[0].rpartition("-")
            )
            if host == socket.gethostname() and pid.isdecimal() and not _is_alive(int(pid)):
                staged.unlink(missing_ok=True)
                removed += 1
        return removed


def _link_or_rename(staged: Path, target: Path) -> bool:
    try:
        os.link(staged, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        # No hard links here. Between the look and the rename another writer may come, whose file
        # is then overwritten: `creates_exclusively` is False, so names that matter are unique.
        if target.exists():
            return False
        staged.rename(target)
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's, but there
    return True


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(path: Path) -> None:
    """Makes a new name durable; some file systems refuse, and then keep names in their own way."""
    try:
        _sync_file(path)
    except OSError as error:
        if error.errno not in {*_UNSUPPORTED, errno.EACCES, errno.EBADF, errno.EISDIR}:
            raise
