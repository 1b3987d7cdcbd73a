"""Files below a results folder that are not what was written there: cut, emptied, overwritten."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from vis_core.errors import ReelmaskError
from vis_core.store.folder import Folder
from vis_core.store.patience import StorageError

AGAIN = "a run of the job sets the file aside, and makes anew what it held"


class DamagedFile(ReelmaskError, OSError):
    """A file of ours cannot be read as what it should be; says which, and what to do.

    An OSError too, so that code which blames a video for its exceptions lets it pass.
    """

    name = ""  # within the folder


def damaged(folder: Folder, name: str, why: object, remedy: str = AGAIN) -> DamagedFile:
    error = DamagedFile(f"{folder.root}/{name} cannot be read ({_brief(why)}); {remedy}")
    error.name = name
    return error


@contextlib.contextmanager
def reading(folder: Folder, name: str, remedy: str = AGAIN) -> Iterator[None]:
    """Arrow's errors do not say which file they are about; errors of storage pass as they are."""
    try:
        yield
    except (DamagedFile, StorageError):
        raise
    except (
        OSError,
        pa.ArrowException,
        MemoryError,
        ValueError,
        LookupError,
        OverflowError,
    ) as error:
        if not is_damage(error):
            raise
        raise damaged(folder, name, error, remedy) from error


def is_damage(error: BaseException) -> bool:
    """Whether the content is at fault, not the storage: Arrow's own OSErrors have no number."""
    if isinstance(error, ReelmaskError):
        return isinstance(error, DamagedFile)
    if isinstance(error, FileNotFoundError | PermissionError | ConnectionError | TimeoutError):
        return False
    return not (isinstance(error, OSError) and error.errno is not None)


def _brief(why: object) -> str:
    text = " ".join(str(why).split())
    return text if len(text) <= 200 else text[:200] + "…"
