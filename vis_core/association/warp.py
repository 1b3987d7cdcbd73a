"""A mask of one frame, carried into the next by optical flow (docs/methods/flow_match.md).

Each pixel of the next frame asks the forward flow at its own place where it came from, and takes
the mask there: bilinear, 0 outside the frame, foreground from one half up. Source coordinates are
rounded to 1/32 pixel, halves to even, as the released tracker's remap does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vis_core.flow.field import FlowRange, FlowReader
from vis_core.masks import rle
from vis_core.masks.rle import Crop

_GRID = 32  # steps per pixel of the source coordinates
_PAD = 2  # background kept on each side of a crop, for the pixels a bilinear sample touches
_NARROWINGS = 3  # looks at the flow in an ever smaller box; more gain little


def warp_crops(crops: Sequence[Crop], flow: FlowReader | None) -> list[Crop]:
    """Each mask moved by the flow, cut tight; without a flow nothing moves."""
    if flow is None:
        return list(crops)
    frame = (0, 0, flow.size[1], flow.size[0])
    anywhere = flow.range_in(frame)
    return [_tight(warp_crop(crop, flow, reach(crop, flow, anywhere))) for crop in crops]


def reach(crop: Crop, flow: FlowReader, anywhere: FlowRange) -> rle.Box:
    """A box of the next frame that holds every pixel the mask can reach.

    The mask's box grown by the range of the flow in the frame; then by its range in that box,
    which is smaller, because pixels outside it cannot get there either.
    """
    box = _grown(crop.box, anywhere, flow.size)
    for _ in range(_NARROWINGS):
        if _is_empty(box):
            break
        narrower = _common(box, _grown(crop.box, flow.range_in(box), flow.size))
        if narrower == box:
            break
        box = narrower
    return box


def warp_crop(crop: Crop, flow: FlowReader, box: rle.Box) -> Crop:
    """The pixels of the warped mask within a box of the next frame."""
    x0, y0, x1, y1 = box
    if _is_empty(box) or not crop.mask.size:
        return Crop(mask=np.zeros((max(0, y1 - y0), max(0, x1 - x0)), bool), x0=x0, y0=y0)
    dx, dy = flow.read(box)
    source_x = _on_grid(np.arange(x0, x1, dtype=np.float32) - dx)
    source_y = _on_grid(np.arange(y0, y1, dtype=np.float32)[:, None] - dy)
    corners = _corner_codes(crop.mask)
    height, width = corners.shape
    column = np.clip((source_x >> 5) - (crop.x0 - _PAD), 0, width - 1)
    row = np.clip((source_y >> 5) - (crop.y0 - _PAD), 0, height - 1)
    codes = corners.ravel().take(row * width + column)
    warped = codes == 15
    mixed = np.flatnonzero((codes != 0) & ~warped)  # only along the outline do weights matter
    warped.ravel()[mixed] = _at_least_half(
        codes.ravel()[mixed],
        source_x.ravel()[mixed] & (_GRID - 1),
        source_y.ravel()[mixed] & (_GRID - 1),
    )
    return Crop(mask=warped, x0=x0, y0=y0)


def _on_grid(coordinates: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    return np.rint(coordinates * np.float32(_GRID)).astype(np.int32)


def _corner_codes(mask: rle.BoolArray) -> npt.NDArray[np.uint8]:
    """For the upper left pixel of each 2 x 2 block, which of the four are foreground, as bits.

    Has `_PAD` background pixels around; a coordinate outside falls on a block of background.
    """
    padded = np.pad(mask.view(np.uint8), _PAD)
    codes = np.zeros_like(padded)
    codes[:-1, :-1] = (
        padded[:-1, :-1] | padded[:-1, 1:] << 1 | padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    )
    return codes


def _at_least_half(
    codes: npt.NDArray[np.uint8], right: npt.NDArray[np.int32], down: npt.NDArray[np.int32]
) -> rle.BoolArray:
    """Whether the bilinear weight of the foreground corners is half or more, in whole numbers."""
    left, up = _GRID - right, _GRID - down
    weight = (codes & 1) * (left * up)
    weight += (codes >> 1 & 1) * (right * up)
    weight += (codes >> 2 & 1) * (left * down)
    weight += (codes >> 3) * (right * down)
    return 2 * weight >= _GRID * _GRID


def _grown(box: rle.Box, flow: FlowRange, size: rle.Size) -> rle.Box:
    """The box moved by everything in the range, and a pixel more for samples between pixels."""
    x0, y0, x1, y1 = box
    return (
        max(0, math.floor(x0 + flow.dx_min) - 1),
        max(0, math.floor(y0 + flow.dy_min) - 1),
        min(size[1], math.ceil(x1 + flow.dx_max) + 1),
        min(size[0], math.ceil(y1 + flow.dy_max) + 1),
    )


def _common(a: rle.Box, b: rle.Box) -> rle.Box:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _is_empty(box: rle.Box) -> bool:
    return box[0] >= box[2] or box[1] >= box[3]


def _tight(crop: Crop) -> Crop:
    rows = np.flatnonzero(crop.mask.any(axis=1))
    if not len(rows):
        return Crop(mask=np.zeros((0, 0), bool), x0=0, y0=0)
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(crop.mask[y0:y1].any(axis=0))
    x0, x1 = int(columns[0]), int(columns[-1]) + 1
    return Crop(mask=crop.mask[y0:y1, x0:x1], x0=crop.x0 + x0, y0=crop.y0 + y0)
