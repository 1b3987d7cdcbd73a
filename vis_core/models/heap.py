"""What the C library keeps of memory that is free again, given back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def _trim() -> Callable[[int], object] | None:
    """glibc's; other libraries do without."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None


_MALLOC_TRIM = _trim()


def give_back() -> None:
    """Pages that are free between those in use; glibc alone returns only those at the end.

    For the end of long work, with tensors of many sizes: else every such piece of work may find
    no hole of its sizes, and take new ones.
    """
    if _MALLOC_TRIM is not None:
        _MALLOC_TRIM(0)
