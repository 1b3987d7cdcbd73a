"""Masks put aside in the order they come: the first in memory, more of them on disk."""

from __future__ import annotations

import array
import itertools
import tempfile
from collections.abc import Sequence

import numpy as np

from vis_core.columns import offsets_of
from vis_core.types import IntArray

_MEMORY_BYTES = 16 << 20


class MaskFile:
    """Costs 16 MiB at most, 4 bytes per mask, and 8 more from the first reading on."""

    def __init__(self) -> None:
        memory, prefix = _MEMORY_BYTES, "reelmask-masks-"
        self._file = tempfile.SpooledTemporaryFile(memory, prefix=prefix)  # noqa: SIM115 - `close`
        self._lengths = array.array("i")
        self._offsets = offsets_of([])

    def __len__(self) -> int:
        return len(self._lengths)

    def close(self) -> None:
        """Gives the space back; what was put aside is gone."""
        self._file.close()

    def add(self, masks: Sequence[bytes]) -> None:
        self._file.seek(0, 2)
        self._file.write(b"".join(masks))
        self._lengths.extend(map(len, masks))

    def read(self, positions: IntArray) -> list[bytes]:
        """The masks at these positions, counted in the order in which they came."""
        if len(self._offsets) <= len(self._lengths):
            self._offsets = offsets_of(self._lengths)
        masks: list[bytes] = []
        for run in np.split(positions, np.flatnonzero(np.diff(positions) != 1) + 1):
            if len(run):
                masks += self._read_run(int(run[0]), int(run[-1]) + 1)
        return masks

    def _read_run(self, first: int, stop: int) -> list[bytes]:
        bounds = self._offsets[first : stop + 1]
        self._file.seek(int(bounds[0]))
        data = self._file.read(int(bounds[-1] - bounds[0]))
        return [data[a:b] for a, b in itertools.pairwise((bounds - bounds[0]).tolist())]
