"""Pixels that pairs of masks of one frame have in common, for many and large masks.

pycocotools walks the runs of both masks for every pair. Where that would take long, masks are laid
out by columns instead: most have one run per column of the frame, so a pair costs one pass over the
columns of both. What is more intricate takes several rows, one per run of a column.
N masks; R rows, one or more per mask; H x W the frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vis_core.columns import offsets_of
from vis_core.masks import rle
from vis_core.types import IntArray

# From so many masks of so many bytes each on, columns are faster (measured with 20 to 500 masks).
_MANY_MASKS = 16
_LARGE_BYTES = 200  # an outline of about 100 columns
_MAX_CELLS = 1 << 22  # R x W, above which masks are too intricate: 16 MB


def common_pixels(masks: Sequence[bytes], size: rle.Size) -> IntArray:
    """(N, N) pixels in both of two masks; on the diagonal the areas."""
    large = sum(map(len, masks)) >= max(_MANY_MASKS, len(masks)) * _LARGE_BYTES
    if large and size[0] <= np.iinfo(np.int16).max:
        runs = _column_runs(masks, size)
        num_rows = np.ones(len(masks), np.int64)
        if runs.rank.any():
            np.maximum.at(num_rows, runs.mask, runs.rank + 1)
        if num_rows.sum() * size[1] <= _MAX_CELLS:
            return _by_columns(runs, num_rows, size)
    return rle.intersection_areas(masks, masks, size)


class _ColumnRuns(NamedTuple):
    """Runs of foreground, none longer than its column, in the order of masks and columns."""

    mask: IntArray
    column: IntArray
    start: IntArray  # within the column
    stop: IntArray
    rank: IntArray  # among the runs of one mask in one column


def _column_runs(masks: Sequence[bytes], size: rle.Size) -> _ColumnRuns:
    height, width = size
    runs = rle.decode_counts(masks)
    ends = np.cumsum(runs.lengths)  # frames one behind the other
    inside = np.flatnonzero((runs.position % 2 == 1) & (runs.lengths > 0))
    stop = ends[inside]
    start = stop - runs.lengths[inside]
    first = start // height
    num_columns = (stop - 1) // height - first + 1
    if num_columns.max(initial=1) > 1:  # runs that go on in the next column are cut
        offsets = offsets_of(num_columns)
        first = np.repeat(first - offsets[:-1], num_columns) + np.arange(offsets[-1])
        start = np.maximum(np.repeat(start, num_columns), first * height)
        stop = np.minimum(np.repeat(stop, num_columns), (first + 1) * height)
    opens = np.flatnonzero(np.diff(first, prepend=-1))
    rank = np.arange(len(first)) - np.repeat(opens, np.diff(opens, append=len(first)))
    mask, column = np.divmod(first, width)
    top = first * height
    return _ColumnRuns(mask, column, start - top, stop - top, rank)


def _by_columns(runs: _ColumnRuns, num_rows: IntArray, size: rle.Size) -> IntArray:
    num_masks, width = len(num_rows), size[1]
    bounds = np.searchsorted(runs.mask, np.arange(num_masks + 1))
    shown = bounds[1:] > bounds[:-1]
    left, right = np.zeros((2, num_masks), np.int64)
    left[shown] = runs.column[bounds[:-1][shown]]
    right[shown] = runs.column[bounds[1:][shown] - 1] + 1
    order = np.argsort(left, kind="stable")  # so that those that may meet lie side by side
    offsets = offsets_of(num_rows[order])
    first_row = np.empty(num_masks, np.int64)
    first_row[order] = offsets[:-1]
    cell = (first_row[runs.mask] + runs.rank) * width + runs.column
    starts, stops = np.zeros((2, offsets[-1] * width), np.int16)
    starts[cell], stops[cell] = runs.start, runs.stop
    owner = np.repeat(order, num_rows[order])
    shape = (len(owner), width)
    exact = np.float32 if size[0] * width <= 1 << 24 else np.float64  # holds every area
    common = _overlaps(
        starts.reshape(shape), stops.reshape(shape), left[owner], right[owner], np.dtype(exact)
    )
    if len(owner) == num_masks:
        return common[np.ix_(first_row, first_row)]
    found = np.zeros((num_masks, num_masks), np.int64)
    np.add.at(found, (owner[:, None], owner[None]), common)
    return found


def _overlaps(
    starts_RW: npt.NDArray[np.int16],
    stops_RW: npt.NDArray[np.int16],
    left: IntArray,
    right: IntArray,
    exact: np.dtype[np.floating],
) -> IntArray:
    """(R, R) sums over columns of the pixels in both runs; rows sorted by their first column."""
    found = np.zeros((len(left), len(left)), np.int64)
    ones = np.ones(starts_RW.shape[1], exact)
    meets = np.searchsorted(left, right).tolist()
    for i, (x0, x1) in enumerate(zip(left.tolist(), right.tolist(), strict=True)):
        rows, columns = slice(i, meets[i]), slice(x0, x1)
        both = np.minimum(stops_RW[rows, columns], stops_RW[i, columns])
        both -= np.maximum(starts_RW[rows, columns], starts_RW[i, columns])
        np.maximum(both, 0, out=both)
        found[i, rows] = found[rows, i] = both.astype(exact) @ ones[columns]
    return found
