"""Overlap of mask sequences in space and time (Propose-Reduce Eq. 3, the IoU of YouTube-VIS).

Areas and common pixels are summed frame by frame as masks come, and no mask is kept. A sequence
costs 8 bytes, a pair that ever meets 16; pairs that never meet cost nothing.
N sequences; P pairs that meet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vis_core.association.mask_overlap import common_pixels
from vis_core.columns import offsets_of
from vis_core.masks import rle
from vis_core.types import FloatArray, IntArray

_MERGE_PAIRS = 1 << 19  # pairs waiting to be summed up: 8 MB


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Overlaps:
    """For each sequence the others that it meets, and the IoU with each of them."""

    offsets: IntArray  # (N + 1,): sequence i owns entries offsets[i]:offsets[i + 1]
    other: IntArray  # (2P,) ascending within a sequence
    iou: FloatArray  # (2P,) float64

    @classmethod
    def of_pairs(
        cls, one: IntArray, other: IntArray, iou: FloatArray, num_sequences: int
    ) -> Overlaps:
        """From all pairs that meet, each named in both directions."""
        order = np.lexsort([other, one])
        offsets = offsets_of(np.bincount(one, minlength=num_sequences))
        return cls(offsets=offsets, other=other[order], iou=iou[order])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, sequence: int) -> tuple[IntArray, FloatArray]:
        """The sequences that meet this one, and their IoU with it; with all others it is 0."""
        part = slice(int(self.offsets[sequence]), int(self.offsets[sequence + 1]))
        return self.other[part], self.iou[part]

    def among(self, chosen: IntArray) -> Overlaps:
        """The same between some sequences only, which are numbered by their place in `chosen`."""
        place = np.full(len(self), -1, np.int64)
        place[chosen] = np.arange(len(chosen))
        one = place[np.repeat(np.arange(len(self)), np.diff(self.offsets))]
        other = place[self.other]
        inside = (one >= 0) & (other >= 0)
        return Overlaps.of_pairs(one[inside], other[inside], self.iou[inside], len(chosen))


class OverlapSums:
    """Areas of sequences and pixels common to pairs, summed over frames."""

    def __init__(self) -> None:
        self._areas = np.zeros(0, np.int64)
        self._keys: list[IntArray] = []  # lower sequence << 32 | higher
        self._common: list[IntArray] = []
        self._waiting = 0

    def add(self, sequence: IntArray, masks: Sequence[bytes], size: rle.Size) -> IntArray:
        """Takes a frame: at most one mask of each sequence. Returns the masks' areas."""
        common = common_pixels(masks, size)
        self._add_pairs(sequence, sequence, np.triu(common, 1))
        areas = np.diagonal(common)
        self.add_areas(sequence, areas)
        return areas

    def add_between(
        self,
        sequence: IntArray,
        masks: Sequence[bytes],
        others: IntArray,
        other_masks: Sequence[bytes],
        size: rle.Size,
    ) -> None:
        """Takes what two disjoint sets of sequences have in common in a frame, without areas."""
        self._add_pairs(sequence, others, rle.intersection_areas(masks, other_masks, size))

    def add_areas(self, sequence: IntArray, areas: IntArray) -> None:
        missing = int(sequence.max(initial=-1)) + 1 - len(self._areas)
        if missing > 0:
            self._areas = np.pad(self._areas, (0, max(missing, len(self._areas))))
        self._areas[sequence] += areas

    def _add_pairs(self, rows: IntArray, columns: IntArray, common: IntArray) -> None:
        row, column = np.nonzero(common)
        a, b = rows[row].astype(np.int64), columns[column].astype(np.int64)
        self._keys.append(np.minimum(a, b) << 32 | np.maximum(a, b))
        self._common.append(common[row, column])
        self._waiting += len(row)
        if self._waiting > _MERGE_PAIRS:
            self._merge()

    def _merge(self) -> None:
        """One entry per pair; the next merge waits until as many have come again."""
        none = np.zeros(0, np.int64)
        keys, which = np.unique(np.concatenate([none, *self._keys]), return_inverse=True)
        sums = np.zeros(len(keys), np.int64)
        np.add.at(sums, which, np.concatenate([none, *self._common]))
        self._keys, self._common, self._waiting = [keys], [sums], -len(keys)

    def overlaps(self, num_sequences: int) -> Overlaps:
        """The IoU of all pairs that meet, among sequences 0 to `num_sequences` - 1."""
        self._merge()
        keys, common = self._keys[0], self._common[0]
        low, high = keys >> 32, keys & 0xFFFFFFFF
        areas = np.pad(self._areas, (0, max(0, num_sequences - len(self._areas))))
        iou = common / (areas[low] + areas[high] - common)
        one, other = np.concatenate([low, high]), np.concatenate([high, low])
        return Overlaps.of_pairs(one, other, np.concatenate([iou, iou]), num_sequences)


def keep_best(order: npt.ArrayLike, overlaps: Overlaps, threshold: float) -> IntArray:
    """Greedy suppression: whoever comes first removes all that overlap it at least so much."""
    gone = np.zeros(len(overlaps), bool)
    kept = []
    for sequence in np.asarray(order, np.int64).tolist():
        if gone[sequence]:
            continue
        kept.append(sequence)
        other, iou = overlaps.of(sequence)
        gone[other[iou >= threshold]] = True
    return np.array(kept, np.int64)
