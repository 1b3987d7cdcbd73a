"""Which folders and files of a results folder are ours; nothing else in it is ever touched."""

from __future__ import annotations

import re

FOLDERS = ("frames", "tracks", "masks", "videos", "categories", "failures", "manifest")
_PART = re.compile(r"part-[0-9a-f]{32}(~[0-9a-f]{12})?\.parquet|part-empty\.parquet")


def is_part(name: str) -> bool:
    """Whether a name under `frames/`, `tracks/` or `masks/` is one of ours; others are not touched.

    People label into folders that hold their own `videos/` and `masks/`.
    """
    return _PART.fullmatch(name) is not None
