"""Names of files for videos: an id may hold slashes, dots and worse, and must not leave the folder.

One flat name per id, the same on every run, different for different ids, readable for usual ones.
"""

from __future__ import annotations

import hashlib
import urllib.parse

_LONGEST = 180  # file systems allow 255 bytes; suffixes and staging names need room


def file_name(video_id: str) -> str:
    """The id with everything but letters, digits and `_.-~` percent-encoded."""
    name = urllib.parse.quote(video_id, safe="")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _LONGEST:
        digest = hashlib.sha256(video_id.encode()).hexdigest()[:32]
        return f"{name[:_LONGEST]}%-{digest}"  # no encoding holds "%-"
    return name or "%"


def video_id_of(name: str) -> str:
    """The id a name was made of; of one that had to be cut, the name stands for it."""
    if "%-" in name:
        return name
    return "" if name == "%" else urllib.parse.unquote(name)


def relative_path(video_id: str) -> str:
    """The id as a path for lists of file names: slashes kept, parts that climb are encoded."""
    parts = [
        part if part.isprintable() and part.strip(". ") and "\\" not in part else file_name(part)
        for part in video_id.split("/")
    ]
    return "/".join(parts)
