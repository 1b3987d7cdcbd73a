"""A results folder, local or on object storage: the few verbs the store is built from.

`publish` is the commit: it makes a finished file visible under its name, unless somebody else
did before (first writer wins). Names are relative, with `/`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from vis_core.addresses import is_remote
from vis_core.errors import UsageError
from vis_core.store.local_folder import STAGING_PREFIX, LocalFolder, full_disk_is_clear
from vis_core.store.object_folder import ObjectFolder

__all__ = [
    "STAGING_PREFIX",
    "Folder",
    "LocalFolder",
    "ObjectFolder",
    "full_disk_is_clear",
    "open_folder",
]


class Folder(Protocol):
    """Where a run's tables and manifest live."""

    root: str

    @property
    def creates_exclusively(self) -> bool:
        """Whether `publish` never overwrites, even if two writers come at once.

        Where it is False, names of files that must not be overwritten carry a nonce.
        """
        ...

    def names(self, under: str, prefix: str = "") -> list[str]:
        """Names of the files directly in the sub-folder `under`, sorted, hidden ones left out.

        With `prefix` only those that start with it, at the cost of as many; one that begins with
        a dot finds hidden ones.
        """
        ...

    def sizes(self, under: str) -> dict[str, int]:
        """Bytes of the files that `names` gives, at the same cost on object storage."""
        ...

    def exists(self, name: str) -> bool: ...

    def size(self, name: str) -> int: ...

    def read(self, name: str) -> bytes: ...

    def open(self, name: str) -> Any:
        """A seekable file for pyarrow to read, to be used as a context manager."""
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

    def retract(self, name: str) -> None:
        """Removes a file that the caller has just published under a name nobody else uses."""
        ...

    def set_aside(self, name: str) -> None:
        """Hides a damaged file, under a name that `names` leaves out; one that is gone is fine."""
        ...

    def guarded(self, check: Callable[[], None]) -> Folder:
        """The same folder for a run that holds its lease.

        `check` is called before every delete, and before every write that needs the lease: right
        before the request, and before each further try of it.
        """
        ...

    def check(self) -> None:
        """Raises if this folder is guarded and another run has taken over."""
        ...

    def remove_stale_staging(self) -> int:
        """Deletes what dead processes of this host left half-written."""
        ...


def open_folder(root: str, *, create: bool = True) -> Folder:
    """The folder behind a local path or an address."""
    if is_remote(root):
        return ObjectFolder(root)
    path = Path(root.removeprefix("file://"))
    if path.exists() and not path.is_dir():
        raise UsageError(f"{root!r} is a file; a results folder was expected")
    if create:
        path.mkdir(parents=True, exist_ok=True)
    elif not path.is_dir():
        raise UsageError(f"no results folder at {root!r}; check the path, or run `reelmask label`")
    return LocalFolder(path)
