"""Memory that is free again goes back to the system."""

from __future__ import annotations

import platform
import sys

import numpy as np
import psutil
import pytest

from vis_core.models import heap

SMALL = 100_000  # bytes: never a mapping of its own
NUMBER = 2_000


@pytest.mark.skipif(heap._MALLOC_TRIM is None, reason="this C library has no malloc_trim")
def test_pages_between_those_in_use_are_given_back():
    process = psutil.Process()
    arrays = [np.ones(SMALL, np.uint8) for _ in range(NUMBER)]
    kept = arrays[::20]  # the last of them keeps the end of the heap in use
    del arrays
    before = process.memory_info().rss
    heap.give_back()
    assert before - process.memory_info().rss > SMALL * NUMBER / 2
    assert all(array.all() for array in kept)


def test_other_libraries_do_without(monkeypatch):
    monkeypatch.setattr(heap, "_MALLOC_TRIM", None)
    heap.give_back()


def test_linux_with_glibc_has_it():
    """Else the first test would be skipped where it matters."""
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        assert heap._MALLOC_TRIM is not None
