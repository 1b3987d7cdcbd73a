"""A limit on the child's memory, and telling its effects from damage.

FFmpeg's decoders report a failed allocation as invalid data more often than not; without this a
video that needs more memory would quietly come out with holes.
"""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

_STATM = Path("/proc/self/statm")  # Linux; elsewhere RLIMIT_AS is ignored or counts other things
_FRAME_BYTES_PER_PIXEL = 8  # a picture of 16 bit 4:4:4 and its tables
_SPARE_BYTES = 8 << 20


def limit_memory(max_bytes: int) -> None:
    """Address space on top of what the interpreter, FFmpeg and the arena take already."""
    if _STATM.exists():
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (_used_bytes() + max_bytes,) * 2)


def check_memory(num_pixels: int) -> None:
    """Raises MemoryError where one more picture of this size would not fit."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY or not _STATM.exists():
        return
    if limit - _used_bytes() < num_pixels * _FRAME_BYTES_PER_PIXEL + _SPARE_BYTES:
        raise MemoryError


def _used_bytes() -> int:
    return int(_STATM.read_text().split()[0]) * resource.getpagesize()
