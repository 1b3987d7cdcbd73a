"""Dense flow as it is stored: made small, and read back at any pixel of the frame.

H x W the frame's size, h x w the stored resolution. Values are (dx, dy) in pixels of the frame,
whatever the resolution. Reading is bilinear with `align_corners=False`: pixel i lies at
(i + 0.5) * h / H - 0.5 of the stored rows, held at the border. Each value read depends on its own
pixel alone, so that a box is read exactly as the whole frame would be.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vis_core.masks import rle
from vis_core.types import FlowField

Float32 = npt.NDArray[np.float32]

CELL_PX = 8  # stored flow has one value per cell of 8 x 8 pixels
STEP_PX = 0.125  # … rounded to an eighth of a pixel
_MAX_PX = 65504.0  # the largest float16


class FlowRange(NamedTuple):
    """The smallest and largest displacement somewhere."""

    dx_min: float
    dx_max: float
    dy_min: float
    dy_max: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowReader:
    """A stored field seen at the frame's resolution, one box at a time."""

    dxdy: Float32  # (2, h, w)
    size: rle.Size

    @classmethod
    def of(cls, flow: FlowField, size: rle.Size) -> FlowReader:
        """Checks the field: it may come from a foreign table."""
        dxdy = flow.dxdy.astype(np.float32)
        if not dxdy.size or not np.isfinite(dxdy).all():
            raise ValueError(f"flow: expected finite values, at least one, got {flow}")
        return cls(dxdy=dxdy, size=size)

    def read(self, box: rle.Box) -> tuple[Float32, Float32]:
        """dx and dy, (h, w) each, at the pixels of a box."""
        x0, y0, x1, y1 = box
        if self.dxdy.shape[1:] == self.size:
            return self.dxdy[0, y0:y1, x0:x1], self.dxdy[1, y0:y1, x0:x1]
        rows = _taps(y0, y1, self.dxdy.shape[1], self.size[0])
        columns = _taps(x0, x1, self.dxdy.shape[2], self.size[1])
        strip = self.dxdy[:, :, columns.low[0] : columns.high[-1] + 1] if x1 > x0 else self.dxdy
        strip = _mixed(strip, rows, axis=1)
        first = columns.low[0] if x1 > x0 else 0
        columns = columns._replace(low=columns.low - first, high=columns.high - first)
        dxdy = _mixed(strip, columns, axis=2)
        return dxdy[0], dxdy[1]

    def range_in(self, box: rle.Box) -> FlowRange:
        """Bounds on the values at the pixels of a box that is not empty."""
        x0, y0, x1, y1 = box
        rows = _cells(y0, y1, self.dxdy.shape[1], self.size[0])
        columns = _cells(x0, x1, self.dxdy.shape[2], self.size[1])
        near = self.dxdy[:, rows, columns]
        low, high = near.min(axis=(1, 2)).tolist(), near.max(axis=(1, 2)).tolist()
        return FlowRange(low[0], high[0], low[1], high[1])


def _cells(start: int, stop: int, num_stored: int, num_pixels: int) -> slice:
    """The stored values that pixels [start, stop) lie between."""
    scale = num_stored / num_pixels
    first, last = (start + 0.5) * scale - 0.5, (stop - 0.5) * scale - 0.5
    return slice(max(0, math.floor(first)), min(num_stored, math.floor(last) + 2))


class _Taps(NamedTuple):
    """Which two stored values a pixel lies between, and how near it is to the second."""

    low: npt.NDArray[np.intp]
    high: npt.NDArray[np.intp]
    share: Float32


def _taps(start: int, stop: int, num_stored: int, num_pixels: int) -> _Taps:
    place = (np.arange(start, stop) + 0.5) * (num_stored / num_pixels) - 0.5
    place = np.clip(place, 0, num_stored - 1)
    low = place.astype(np.intp)
    return _Taps(low, np.minimum(low + 1, num_stored - 1), (place - low).astype(np.float32))


def _mixed(values: Float32, taps: _Taps, axis: int) -> Float32:
    low = np.take(values, taps.low, axis=axis)
    mixed = np.take(values, taps.high, axis=axis)
    share = taps.share[:, None] if axis == 1 else taps.share
    mixed -= low
    mixed *= share
    mixed += low
    return mixed


def stored_shape(size: rle.Size) -> rle.Size:
    """The stored resolution of a frame's flow: cells of 8 x 8 pixels, the last ones maybe less."""
    return -(-size[0] // CELL_PX), -(-size[1] // CELL_PX)


def stored_flow(flow: Float32, size: rle.Size, *, full: bool = False) -> FlowField:
    """A field to store from (h, w, 2) flow of any resolution, in pixels of the frame.

    By default one value per cell, the mean of what lies in it, rounded; `full` keeps the
    resolution and all digits of a float16.
    """
    if not full:
        rows, columns = stored_shape(size)
        flow = _resized(flow, (rows, columns))
        flow = np.rint(flow / STEP_PX) * STEP_PX + 0.0  # no -0
    values = np.clip(flow, -_MAX_PX, _MAX_PX).transpose(2, 0, 1)
    return FlowField(dxdy=np.ascontiguousarray(values, np.float16))


def _resized(flow: Float32, shape: rle.Size) -> Float32:
    """Means over the cells of a smaller grid; between the values of a larger one."""
    if flow.shape[:2] == shape:
        return flow
    import cv2

    smaller = shape[0] <= flow.shape[0] and shape[1] <= flow.shape[1]
    method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(flow, shape[::-1], interpolation=method), np.float32)
