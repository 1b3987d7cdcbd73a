"""Masks from outside, checked: pycocotools reads beyond its memory when a text is malformed.

Readers check every mask they take, so the usual case is made cheap: all texts well formed and
without empty runs are recognised, and measured, in one go. Anything else goes the careful way,
which names the bad mask or rewrites it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vis_core.columns import Offsets as IntArray
from vis_core.columns import offsets_of
from vis_core.masks import rle

_CHUNK = 1 << 16  # bytes of text at a time: what a core keeps close by
_MAX_GROUPS = 6  # five bits each: runs of up to half a billion pixels


def check_masks(masks: Sequence[bytes], size: rle.Size) -> tuple[list[bytes], IntArray]:
    """The masks and the pixels of each; a ValueError names the first that is malformed."""
    rle.check_size(size)
    areas = None
    if set(map(type, masks)) <= {bytes} and all(masks):
        areas = _areas_of_plain(masks, size)
    if areas is not None:
        return list(masks), areas
    checked = rle.validate_counts(masks, size)
    return checked, rle.areas(checked, size)


def _areas_of_plain(masks: Sequence[bytes], size: rle.Size) -> IntArray | None:
    """Pixels of each mask, or None unless every text is as an encoder writes it."""
    ends = np.cumsum(np.fromiter(map(len, masks), np.int64, len(masks)))
    parts = [np.zeros(0, np.int64)]
    start = 0
    while start < len(masks):
        reach = (ends[start - 1] if start else 0) + _CHUNK
        stop = max(start + 1, int(np.searchsorted(ends, reach, "right")))
        part = _areas_of_chunk(masks[start:stop], size)
        if part is None:
            return None
        parts.append(part)
        start = stop
    return np.concatenate(parts)


def _areas_of_chunk(masks: Sequence[bytes], size: rle.Size) -> IntArray | None:
    ends = offsets_of(np.fromiter(map(len, masks), np.int64, len(masks)))
    groups = np.frombuffer(b"".join(masks), np.uint8) - np.uint8(48)
    last = np.flatnonzero(groups < 32)  # of each run length
    if groups.max() > 63 or (groups[ends[1:] - 1] > 31).any():
        return None
    num_groups = np.diff(last, prepend=-1)
    if num_groups.max() > _MAX_GROUPS:
        return None
    begin = np.searchsorted(last, ends[:-1])
    runs = _runs(groups, last, num_groups, begin)
    least = int(runs.min())
    empty = runs <= 0
    empty[begin] = False  # the background before may be
    sums = np.add.reduceat(runs, begin, dtype=np.int64)
    if least < 0 or empty.any() or (sums != size[0] * size[1]).any():
        return None
    # Background minus foreground, up to the sign of where a mask begins.
    runs[1::2] *= -1
    surplus = np.add.reduceat(runs, begin, dtype=np.int64) * (1 - 2 * (begin & 1))
    return np.asarray((size[0] * size[1] - surplus) // 2, np.int64)


def _runs(
    groups: npt.NDArray[np.uint8], last: IntArray, num_groups: IntArray, begin: IntArray
) -> npt.NDArray[np.int32]:
    """Run lengths; `begin` is where those of each mask begin.

    In 32 bits that wrap, as pycocotools has them: what it would take for negative is so here.
    """
    values = (groups[last].astype(np.int32) ^ 16) - 16  # the group that is last has the sign
    for place in range(1, int(num_groups.max())):
        longer = np.flatnonzero(num_groups > place)
        values[longer] = (values[longer] << 5) | (groups[last[longer] - place] & 31)
    # From the fourth of a mask on, what is written is the difference to the run two before.
    fresh = np.zeros(len(values) + 3, bool)
    for rank in range(3):
        fresh[np.minimum(begin + rank, np.append(begin[1:], len(values)))] = True
    for parity in (0, 1):
        chain = values[parity::2]
        starts = np.flatnonzero(fresh[: len(values)][parity::2])
        sums = np.cumsum(chain, dtype=np.int32)
        before = sums[starts] - chain[starts]
        values[parity::2] = sums - np.repeat(before, np.diff(np.append(starts, len(chain))))
    return values
