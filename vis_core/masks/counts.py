"""The text form of COCO run lengths, decoded and encoded for many masks at once.

A mask is runs of equal pixels in column-major order, background first. Its text writes each run
in groups of five bits, least significant first, one byte (48 to 111) per group: bit 5 says that
more follow, bit 4 of the last is the sign. From the fourth run on, what is written is the
difference to the run two before. pycocotools reads such text without checking it and crashes on
bad input, so what comes from outside passes `validate_counts` first.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vis_core.columns import offsets_of

IntArray = npt.NDArray[np.int64]

Size = tuple[int, int]  # height, width

_MAX_GROUPS = 7  # 35 bits hold every difference of two runs below 2 ** 31
_MAX_PIXELS = 2**31 - 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Runs:
    """Run lengths of N masks one after the other: mask i owns `offsets[i]:offsets[i + 1]`."""

    lengths: IntArray  # (M,)
    offsets: IntArray  # (N + 1,)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def position(self) -> IntArray:
        """(M,) rank of each run within its mask; odd ranks are foreground."""
        return np.arange(len(self.lengths)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))

    @property
    def mask_index(self) -> IntArray:
        """(M,) which mask a run belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))


def check_size(size: Size) -> None:
    height, width = size
    if height < 1 or width < 1 or height * width > _MAX_PIXELS:
        raise ValueError(
            f"mask size: expected (height, width) from 1 to {_MAX_PIXELS} pixels, got {size}"
        )


# --- decoding -------------------------------------------------------------------------------------


def decode_counts(masks: Sequence[bytes]) -> Runs:
    """The run lengths of well-formed masks."""
    chars = np.frombuffer(b"".join(masks), np.uint8)
    char_offsets = offsets_of(np.fromiter(map(len, masks), np.int64, len(masks)))
    groups = chars.astype(np.int64) - 48
    last = np.flatnonzero((groups & 0x20) == 0)
    starts = np.concatenate([[0], last[:-1] + 1]) if len(last) else last
    values = _join_groups(groups[: last[-1] + 1] if len(last) else groups[:0], starts, last)
    offsets = np.searchsorted(last, char_offsets)  # values that end before each mask's text
    return Runs(lengths=_undo_differences(values, offsets), offsets=offsets)


def _join_groups(groups: IntArray, starts: IntArray, last: IntArray) -> IntArray:
    """Signed values from their five-bit groups."""
    if not len(starts):
        return np.zeros(0, np.int64)
    num_groups = last - starts + 1
    values = ((groups[starts] & 0x1F) ^ 16) - 16
    long = np.flatnonzero(num_groups > 1)  # few: most differences between runs are small
    if len(long):
        counts = num_groups[long]
        offsets = offsets_of(counts)
        rank = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        parts = groups[np.repeat(starts[long], counts) + rank] & 0x1F
        joined = np.add.reduceat(parts << np.minimum(5 * rank, 58), offsets[:-1])
        sign = np.int64(1) << np.minimum(5 * counts - 1, 62)
        values[long] = (joined ^ sign) - sign
    return values


def _undo_differences(values: IntArray, offsets: IntArray) -> IntArray:
    """Each run plus the run two before, from the fourth run of a mask on."""
    lengths = values.copy()
    first = np.zeros(len(values) + 3, bool)  # chains begin at the runs 0, 1 and 2 of each mask
    for rank in range(3):
        first[np.minimum(offsets[:-1] + rank, offsets[1:])] = True
    first = first[: len(values)]
    for parity in (0, 1):
        chain = lengths[parity::2]
        lengths[parity::2] = _segment_sums(chain, first[parity::2])
    return lengths


def _segment_sums(values: IntArray, first: npt.NDArray[np.bool_]) -> IntArray:
    """Cumulative sums that start again wherever `first` is true."""
    sums = np.cumsum(values)
    begin = np.flatnonzero(first)
    before = sums[begin] - values[begin]
    return sums - np.repeat(before, np.diff(np.append(begin, len(values))))


# --- encoding -------------------------------------------------------------------------------------


def encode_counts(runs: Runs) -> list[bytes]:
    """The text of each mask, byte for byte what pycocotools writes."""
    values = runs.lengths.astype(np.int64)
    later = np.flatnonzero(runs.position > 2)
    values[later] -= runs.lengths[later - 2]
    magnitude = np.where(values < 0, ~values, values)
    num_groups = np.ones(len(values), np.int64)
    for group in range(1, _MAX_GROUPS):
        larger = magnitude >= 1 << (5 * group - 1)
        if not larger.any():
            break
        num_groups += larger
    chars, value_offsets = _text(values, num_groups)
    bounds = value_offsets[runs.offsets].tolist()
    text = chars.tobytes()
    return [text[a:b] for a, b in itertools.pairwise(bounds)]


def _text(values: IntArray, num_groups: IntArray) -> tuple[npt.NDArray[np.uint8], IntArray]:
    """Bytes of all values, and where each value begins."""
    offsets = offsets_of(num_groups)
    group = np.arange(offsets[-1]) - np.repeat(offsets[:-1], num_groups)
    bits = (np.repeat(values, num_groups) >> (5 * group)) & 0x1F
    bits[group < np.repeat(num_groups, num_groups) - 1] |= 0x20
    return (bits + 48).astype(np.uint8), offsets


def encode_runs(runs: Sequence[npt.ArrayLike], size: Size) -> list[bytes]:
    """Masks from untrusted lists of run lengths (uncompressed COCO counts)."""
    rows = [_run_row(row, index) for index, row in enumerate(runs)]
    lengths = np.concatenate(rows) if rows else np.zeros(0, np.int64)
    checked = Runs(lengths=lengths, offsets=offsets_of([len(row) for row in rows]))
    return encode_counts(_canonical(_checked(checked, size)))


def _run_row(row: npt.ArrayLike, index: int) -> IntArray:
    values = np.asarray(row)
    if values.ndim != 1 or (len(values) and values.dtype.kind not in "iu"):
        raise ValueError(f"mask {index}: run lengths must be a flat list of whole numbers")
    return values.astype(np.int64)


# --- validation -----------------------------------------------------------------------------------


def validate_counts(masks: Sequence[bytes], size: Size) -> list[bytes]:
    """The masks, if they are well formed and of this size; a ValueError names the first bad one.

    Text with empty runs inside is legal but breaks pycocotools' merge and box, so it comes back
    rewritten without them.
    """
    check_size(size)
    for index, mask in enumerate(masks):
        if not isinstance(mask, bytes):
            raise ValueError(f"mask {index}: expected bytes, got {type(mask).__name__}")
    _check_text(masks)
    runs = _checked(decode_counts(masks), size)
    if (runs.lengths[runs.position > 0] > 0).all():
        return list(masks)
    return encode_counts(_canonical(runs))


def _check_text(masks: Sequence[bytes]) -> None:
    chars = np.frombuffer(b"".join(masks), np.uint8)
    owner = np.repeat(np.arange(len(masks)), [len(mask) for mask in masks])
    bad = np.flatnonzero((chars < 48) | (chars > 111))
    if len(bad):
        raise ValueError(f"mask {owner[bad[0]]}: byte {chars[bad[0]]} is not COCO RLE text")
    for index, mask in enumerate(masks):
        if not mask:
            raise ValueError(f"mask {index}: no run lengths at all")
        if (mask[-1] - 48) & 0x20:
            raise ValueError(f"mask {index}: the text breaks off within a run length")
    last = np.flatnonzero(((chars - 48) & 0x20) == 0)
    long = np.flatnonzero(np.diff(last, prepend=-1) > _MAX_GROUPS)
    if len(long):
        raise ValueError(f"mask {owner[last[long[0]]]}: a run length of more than 35 bits")


def _checked(runs: Runs, size: Size) -> Runs:
    check_size(size)
    negative = np.flatnonzero((runs.lengths < 0) | (runs.lengths > _MAX_PIXELS))
    if len(negative):
        index = runs.mask_index[negative[0]]
        raise ValueError(f"mask {index}: a run of {runs.lengths[negative[0]]} pixels")
    sums = offsets_of(runs.lengths)
    totals = np.diff(sums[runs.offsets])
    wrong = np.flatnonzero(totals != size[0] * size[1])
    if len(wrong):
        raise ValueError(
            f"mask {wrong[0]}: its runs cover {totals[wrong[0]]} pixels, but {size[0]} x {size[1]} "
            f"(height x width) are {size[0] * size[1]}"
        )
    return runs


def _canonical(runs: Runs) -> Runs:
    """The same masks without empty runs, but for a first one."""
    stops = np.cumsum(runs.lengths)
    foreground = (runs.position % 2 == 1) & (runs.lengths > 0)
    pixels = np.diff(offsets_of(runs.lengths)[runs.offsets])
    base = offsets_of(pixels)[:-1]
    mask_index = runs.mask_index[foreground]
    stop = stops[foreground] - base[mask_index]
    start = stop - runs.lengths[foreground]
    return runs_of_intervals(mask_index, start, stop, pixels)


def runs_of_intervals(
    mask_index: IntArray, start: IntArray, stop: IntArray, pixels: IntArray
) -> Runs:
    """Runs from foreground intervals [start, stop) of column-major positions.

    Sorted by mask, then position; disjoint, but they may touch. `pixels` is each mask's size.
    """
    mask_index, start, stop = _merged(mask_index, start, stop)
    num_masks = len(pixels)
    counts = np.bincount(mask_index, minlength=num_masks)
    offsets = offsets_of(2 * counts + 2)  # edges: 0, start, stop, start, …, pixels
    edges = np.zeros(offsets[-1], np.int64)
    edges[offsets[1:] - 1] = pixels
    slot = 2 * np.arange(len(start)) + 2 * mask_index + 1
    edges[slot], edges[slot + 1] = start, stop
    lengths = np.diff(edges)
    keep = np.ones(len(lengths), bool)
    keep[offsets[1:-1] - 1] = False  # from one mask's last edge to the next one's first
    full = offsets[1:] - 2
    keep[full] = lengths[full] > 0  # no empty background run at the end
    kept = offsets_of(keep)
    return Runs(lengths=lengths[keep], offsets=kept[np.append(offsets[:-1], len(lengths))])


def _merged(
    mask_index: IntArray, start: IntArray, stop: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """The same intervals, joined where they touch."""
    if not len(start):
        return mask_index.astype(np.int64), start, stop
    opens = (mask_index[1:] != mask_index[:-1]) | (start[1:] > stop[:-1])
    first = np.concatenate([[True], opens])
    last = np.concatenate([opens, [True]])
    return mask_index[first], start[first], stop[last]
