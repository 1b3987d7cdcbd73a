"""A results folder, local or on object storage: the few verbs the store is built from.

`publish` is the commit: it makes a finished file visible under its name, unless somebody else
did before (first writer wins). Names are relative, with `/`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import fsspec

from vis_core.errors import StorageFullError, UsageError
from vis_core.failpoints import failpoint

STAGING_PREFIX = ".staging-"


class Folder(Protocol):
    """Where a run's tables and manifest live."""

    root: str
    creates_exclusively: bool

    def names(self, under: str) -> list[str]:
        """Names of the files directly in the sub-folder `under`, sorted, hidden ones left out."""
        ...

    def exists(self, name: str) -> bool: ...

    def size(self, name: str) -> int: ...

    def read(self, name: str) -> bytes: ...

    def open(self, name: str) -> BinaryIO:
        """A seekable file for reading."""
        ...

    def staging(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A local path to write to before `publish`; removed afterwards if still there."""
        ...

    def publish(self, staged: Path, name: str) -> bool:
        """Makes `staged` durable as `name`; False, and no change, if `name` exists already."""
        ...

    def replace(self, name: str, data: bytes) -> None:
        """Writes `name` atomically, whether it exists or not."""
        ...

    def delete(self, name: str) -> None:
        """Removes `name`; one that is gone already is fine."""
        ...

    def remove_stale_staging(self) -> int:
        """Deletes what dead processes of this host left half-written."""
        ...


def open_folder(root: str, *, create: bool = True) -> Folder:
    """The folder behind a local path or an fsspec URL."""
    if "://" in root and not root.startswith("file://"):
        return ObjectFolder(root)
    path = Path(root.removeprefix("file://"))
    if path.exists() and not path.is_dir():
        raise UsageError(f"{root!r} is a file; a results folder was expected")
    if create:
        path.mkdir(parents=True, exist_ok=True)
    elif not path.is_dir():
        raise UsageError(f"no results folder at {root!r}; check the path, or run `reelmask label`")
    return LocalFolder(path)


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
    """A results folder on a file system that can hard-link."""

    creates_exclusively = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = str(path)

    def names(self, under: str) -> list[str]:
        try:
            with os.scandir(self.path / under) as entries:
                found = [entry.name for entry in entries if entry.is_file()]
        except FileNotFoundError:
            return []
        return sorted(name for name in found if not name.startswith("."))

    def exists(self, name: str) -> bool:
        return (self.path / name).exists()

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def open(self, name: str) -> BinaryIO:
        return (self.path / name).open("rb")

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
            _sync(staged)
            failpoint("before_publish")
            try:
                os.link(staged, target)
            except FileExistsError:
                return False
            failpoint("after_publish")
            _sync(target.parent)
        return True

    def replace(self, name: str, data: bytes) -> None:
        with self.staging(name) as staged:
            failpoint("replace")
            staged.write_bytes(data)
            _sync(staged)
            staged.replace(self.path / name)
            _sync((self.path / name).parent)

    def delete(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def remove_stale_staging(self) -> int:
        removed = 0
        for staged in self.path.glob(f"*/**/{STAGING_PREFIX}*"):
            host, pid, _ = staged.name.removeprefix(STAGING_PREFIX).rsplit("-", 2)
            if host == socket.gethostname() and not Path(f"/proc/{pid}").exists():
                staged.unlink(missing_ok=True)
                removed += 1
        return removed


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class ObjectFolder:
    """A results folder on object storage, through fsspec.

    One PUT per file. Where the store can create-if-absent, so do we; where it cannot, `publish`
    overwrites, and callers put a nonce into names (the manifest picks one of two equal files).
    """

    def __init__(self, root: str, **options: Any) -> None:
        self.root = root.rstrip("/")
        try:
            self._fs, self._path = fsspec.core.url_to_fs(self.root, **options)
        except (ImportError, ValueError) as error:
            raise UsageError(f"cannot open {root!r}: {error}") from error
        self.creates_exclusively = self._can_create_exclusively()

    def _full(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _can_create_exclusively(self) -> bool:
        """Tries it: some stores take the condition and ignore it."""
        name = self._full(f"manifest/.probe-{secrets.token_hex(4)}")
        try:
            self._fs.pipe_file(name, b"1", mode="create")
        except (NotImplementedError, TypeError, ValueError):
            return False
        try:
            self._fs.pipe_file(name, b"2", mode="create")
        except FileExistsError:
            return True
        except OSError:
            return False
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(name)
        return False

    def names(self, under: str) -> list[str]:
        self._fs.invalidate_cache(self._full(under))
        try:
            found = self._fs.ls(self._full(under), detail=False)
        except FileNotFoundError:
            return []
        names = (str(path).rstrip("/").rsplit("/", 1)[-1] for path in found)
        return sorted(name for name in names if name and not name.startswith("."))

    def exists(self, name: str) -> bool:
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._full(name)))

    def size(self, name: str) -> int:
        return int(self._fs.size(self._full(name)))

    def read(self, name: str) -> bytes:
        return bytes(self._fs.cat_file(self._full(name)))

    def open(self, name: str) -> BinaryIO:
        return self._fs.open(self._full(name), "rb")

    @contextlib.contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        scratch = Path(tempfile.mkdtemp(prefix="reelmask-"))
        try:
            with full_disk_is_clear(str(scratch)):
                yield scratch / "staged"
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def publish(self, staged: Path, name: str) -> bool:
        failpoint("before_publish")
        if self.creates_exclusively:
            try:
                self._fs.pipe_file(self._full(name), staged.read_bytes(), mode="create")
            except FileExistsError:
                return False
        else:
            self._fs.put_file(str(staged), self._full(name))
        failpoint("after_publish")
        return True

    def replace(self, name: str, data: bytes) -> None:
        failpoint("replace")
        self._fs.pipe_file(self._full(name), data)

    def delete(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._full(name))

    def remove_stale_staging(self) -> int:
        return 0  # half-written objects never become visible
