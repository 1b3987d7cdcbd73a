"""Random reads of one object, in few requests: made for Parquet, whose footer is read first.

A reader asks for the last bytes, then for column chunks, most of them tiny and close together. So
the tail comes in one request, small reads are served from blocks, large ones are fetched as they
are.
"""

from __future__ import annotations

import collections
import io
import os
from collections.abc import Callable

TAIL_BYTES = 256 << 10  # a footer with many row groups still fits
BLOCK_BYTES = 2 << 20  # smaller: more requests per row group; larger: more bytes nobody asked for
MAX_BLOCKS = 8

Fetch = Callable[[int, int], bytes]  # start, stop -> exactly those bytes


class ObjectFile(io.RawIOBase):
    """A seekable file over `fetch`; at most about 16 MB of it are in memory."""

    def __init__(self, fetch: Fetch, size: int) -> None:
        self._fetch = fetch
        self._size = size
        self._position = 0
        self._tail_start = max(0, size - TAIL_BYTES)
        self._tail: bytes | None = None
        self._blocks: collections.OrderedDict[int, bytes] = collections.OrderedDict()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readall(self) -> bytes:
        return self.read(-1)

    def read(self, size: int | None = -1) -> bytes:
        if self.closed:
            raise ValueError("read of a closed file")
        start = min(self._position, self._size)
        stop = self._size if size is None or size < 0 else min(start + size, self._size)
        data = self._range(start, stop) if start < stop else b""
        self._position = start + len(data)
        return data

    def _range(self, start: int, stop: int) -> bytes:
        if start >= self._tail_start:
            if self._tail is None:
                self._tail = self._fetch(self._tail_start, self._size)
            return self._tail[start - self._tail_start : stop - self._tail_start]
        if stop - start >= BLOCK_BYTES:
            return self._fetch(start, stop)
        first, last = start // BLOCK_BYTES, (stop - 1) // BLOCK_BYTES
        data = b"".join(self._block(index) for index in range(first, last + 1))
        offset = first * BLOCK_BYTES
        return data[start - offset : stop - offset]

    def _block(self, index: int) -> bytes:
        if index not in self._blocks:
            start = index * BLOCK_BYTES
            self._blocks[index] = self._fetch(start, min(start + BLOCK_BYTES, self._size))
            if len(self._blocks) > MAX_BLOCKS:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(index)
        return self._blocks[index]
