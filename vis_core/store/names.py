"""Which folders and files of a results folder are ours; nothing else in it is ever touched.

A name that comes out of a file (a receipt, a row of the manifest) is held against `is_part`
before anything is opened or deleted by it: the file may be anybody's.
"""

from __future__ import annotations

import re

FOLDERS = ("frames", "tracks", "masks", "videos", "categories", "failures", "manifest")
# Where people glob: every `.parquet` file there is read as results.
GLOBBED = ("tracks", "masks", "videos", "categories", "failures")
SET_ASIDE_SUFFIX = ".damaged"  # no glob for `.parquet` finds them, hidden ones included
_PART = re.compile(r"part-[0-9a-f]{32}(~[0-9a-f]{12})?\.parquet|part-empty\.parquet")
_LOG_FILE = re.compile(r"(tail|snapshot)-[0-9a-f]{12}-[0-9]{6,}\.parquet")
_NEEDS_NO_LEASE = ("frames/", "manifest/in_flight/", "manifest/lease/")


def is_part(name: object) -> bool:
    """Whether a name under `frames/`, `tracks/` or `masks/` is one of ours; others are not touched.

    People label into folders that hold their own `videos/` and `masks/`.
    """
    return isinstance(name, str) and _PART.fullmatch(name) is not None


def is_log_file(name: str) -> bool:
    """Whether a name under `manifest/<log>/` is one of ours."""
    return _LOG_FILE.fullmatch(name) is not None


def needs_lease(name: str) -> bool:
    """Whether only the run that holds the lease may write `name`.

    Parts and notes of what is in flight are written by workers, and do no harm when they come late.
    """
    return not name.startswith(_NEEDS_NO_LEASE)


def set_aside_name(name: str) -> str:
    """Where a damaged file is kept, hidden: `frames/part-1` → `frames/.part-1.damaged`."""
    under, slash, last = name.rpartition("/")
    return f"{under}{slash}.{last}{SET_ASIDE_SUFFIX}"
