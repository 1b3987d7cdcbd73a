"""Masks as single polygons and back, exactly: holes and separate parts survive.

An outline follows the edges of pixels, corner to corner (x right, y down, the upper left corner of
the frame is 0, 0). A mask of several loops becomes one polygon that walks to each loop and back by
the same line, which encloses nothing. A pixel belongs to a polygon if a ray from its centre
crosses the outline an odd number of times; holes run the other way round, so that drawing programs
that count windings leave them open, too.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from vis_core.errors import UsageError
from vis_core.formats.model import FloatArray, IntArray
from vis_core.masks import rle

_FARTHEST = 1e6  # pixels
_MAX_CROSSINGS = 1 << 26  # memory of a polygon whose many edges each span the frame


def outlines(masks: list[bytes], size: rle.Size) -> list[IntArray]:
    """One polygon (K, 2) of x, y per mask; none of the masks is empty."""
    mask, start, stop = _intervals(masks, size)
    owner, x, y = _corners(mask, start, stop, size)
    # Along a column line corners pair up to vertical edges, along a row line to horizontal ones.
    across = np.lexsort((x, y, owner))
    partner = np.empty(len(x), np.int64)
    partner[across[::2]], partner[across[1::2]] = across[1::2], across[::2]
    # The first corner of a loop is its leftmost, uppermost: right of it is what it encloses.
    pixel = (owner * size[1] + x) * size[0] + y
    before = np.searchsorted(mask * size[0] * size[1] + start, pixel, "right") - 1
    is_hole = (pixel >= (mask * size[0] * size[1] + stop)[before]).tolist()
    points = np.stack([x, y], axis=1)
    bounds = np.searchsorted(owner, np.arange(len(masks) + 1)).tolist()
    follow = partner.tolist()
    found = []
    for first, last in itertools.pairwise(bounds):
        loops = _loops(first, last, follow)
        turned = [[loop[0], *loop[:0:-1]] if is_hole[loop[0]] else loop for loop in loops]
        found.append(points[_joined(turned)])
    return found


def _intervals(masks: list[bytes], size: rle.Size) -> tuple[IntArray, IntArray, IntArray]:
    """Mask, start and stop of every run of foreground, in column-major positions."""
    runs = rle.decode_counts(masks)
    stops = np.cumsum(runs.lengths)
    foreground = runs.position % 2 == 1
    mask = runs.mask_index[foreground]
    stop = stops[foreground] - mask * size[0] * size[1]
    return mask, stop - runs.lengths[foreground], stop


def _corners(
    mask: IntArray, start: IntArray, stop: IntArray, size: rle.Size
) -> tuple[IntArray, IntArray, IntArray]:
    """Mask, x and y of every point where an outline turns; sorted."""
    height, width = size
    # A run may span columns: one piece for each.
    first = start // height
    pieces = (stop - 1) // height - first + 1
    owner = np.repeat(np.arange(len(mask)), pieces)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    column = first[owner] + place
    top = np.maximum(start[owner] - column * height, 0)
    bottom = np.minimum(stop[owner] - column * height, height)
    # Each end of a piece marks both sides of its column; what two columns share is no corner.
    lines = np.concatenate([column, column + 1, column, column + 1])
    ends = np.concatenate([top, top, bottom, bottom])
    keys = (np.tile(mask[owner], 4) * (width + 1) + lines) * (height + 1) + ends
    found, counts = np.unique(keys, return_counts=True)
    rest, y = np.divmod(found[counts == 1], height + 1)
    owner, x = np.divmod(rest, width + 1)
    return owner, x, y


def _loops(start: int, stop: int, follow: list[int]) -> list[list[int]]:
    """Corners of each loop: down or up one vertical edge, along one horizontal one, and on."""
    loops = []
    seen = bytearray(stop - start)
    for corner in range(start, stop):
        if seen[corner - start]:
            continue
        loop = []
        while not seen[corner - start]:
            opposite = corner ^ 1  # every column line has an even number of corners, sorted
            loop += [corner, opposite]
            seen[corner - start] = seen[opposite - start] = 1
            corner = follow[opposite]
        loops.append(loop)
    return loops


def _joined(loops: list[list[int]]) -> list[int]:
    """One closed walk: each loop from its first corner back to it, then on; home the same way."""
    if len(loops) == 1:
        return loops[0]
    walk = [corner for loop in loops for corner in (*loop, loop[0])]
    return walk + [loop[0] for loop in loops[-2:0:-1]]


def fill(polygon: FloatArray, size: rle.Size, where: str) -> bytes:
    """The pixels whose centres a polygon (K, 2) encloses, by the even-odd rule."""
    height, width = size
    if len(polygon) < 3 or not (np.abs(polygon) <= _FARTHEST).all():
        raise UsageError(f"{where}: a polygon needs three points or more, near the frame")
    a, b = polygon, np.roll(polygon, -1, axis=0)
    # The same edge walked either way must give the same crossings to the last bit.
    swap = (a[:, 0] > b[:, 0]) | ((a[:, 0] == b[:, 0]) & (a[:, 1] > b[:, 1]))
    a, b = np.where(swap[:, None], b, a), np.where(swap[:, None], a, b)
    first = np.ceil(np.clip(a[:, 0], 0, width) - 0.5).astype(np.int64)
    stop = np.ceil(np.clip(b[:, 0], 0, width) - 0.5).astype(np.int64)
    spans = np.maximum(stop - first, 0)
    if spans.sum() > _MAX_CROSSINGS:
        raise UsageError(f"{where}: a polygon of {len(polygon)} points that cross the whole frame")
    edge = np.repeat(np.arange(len(a)), spans)
    column = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(spans) - spans, spans)
    share = (column + 0.5 - a[edge, 0]) / (b[edge, 0] - a[edge, 0])
    y = a[edge, 1] + share * (b[edge, 1] - a[edge, 1])
    row = np.ceil(np.clip(y, 0, height) - 0.5).astype(np.int64)
    crossings: npt.NDArray[np.int64] = np.sort(column * (height + 1) + row)
    starts, stops = crossings[::2], crossings[1::2]
    some = stops > starts
    starts, stops = (_position(ends[some], height) for ends in (starts, stops))
    return rle.encode_intervals(np.zeros(len(starts), np.int64), starts, stops, 1, size)[0]


def _position(crossing: IntArray, height: int) -> IntArray:
    """Column-major position of a row boundary in a column."""
    column, row = np.divmod(crossing, height + 1)
    return column * height + row
