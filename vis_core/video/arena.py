"""Memory that parent and decoder child share for pixels: a few slots, and no file left over."""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np
import numpy.typing as npt

NUM_SLOTS = 3  # one being filled, one on its way, one being read
CHUNK_BYTES = 16 << 20


def slot_bytes_for(max_frame_pixels: int) -> int:
    """A slot holds a chunk, or one frame of the largest size allowed."""
    size = max(CHUNK_BYTES, max_frame_pixels * 3)
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


class Arena:
    """Slots of equal size. Pages that nobody wrote cost nothing, so slots may be large."""

    def __init__(self, fd: int, slot_bytes: int) -> None:
        self.fd = fd
        self.slot_bytes = slot_bytes
        self._map = mmap.mmap(fd, slot_bytes * NUM_SLOTS)
        self._bytes = np.frombuffer(self._map, np.uint8)

    @classmethod
    def create(cls, slot_bytes: int) -> Arena:
        fd = _anonymous_file()
        os.ftruncate(fd, slot_bytes * NUM_SLOTS)
        return cls(fd, slot_bytes)

    def frames(self, slot: int, num_frames: int, height: int, width: int) -> npt.NDArray[np.uint8]:
        """A slot as (num_frames, height, width, 3)."""
        size = num_frames * height * width * 3
        if not 0 <= slot < NUM_SLOTS or size > self.slot_bytes:
            raise ValueError(f"slot {slot}: {size} bytes do not fit in {self.slot_bytes}")
        start = slot * self.slot_bytes
        return self._bytes[start : start + size].reshape(num_frames, height, width, 3)

    def close(self) -> None:
        """Gives the memory back, once no view of it is left."""
        os.close(self.fd)
        del self._bytes, self._map


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("frames", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:  # macOS
        return os.dup(file.fileno())
