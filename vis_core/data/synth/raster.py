"""Polygons to pixels in whole numbers: the same coverage on every machine.

T frames, K points of an outline, H x W pixels of the picture, h x w of a patch of it. Coordinates
are rounded to 1/256 pixel first. Coverage is exact along x and sampled at `rows` heights per pixel.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

Size = tuple[int, int]
IntArray = npt.NDArray[np.int64]

_ONE = 256  # steps per pixel


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Patches:
    """What one shape covers of each frame: patches of one size at their places in the picture."""

    cover: npt.NDArray[np.int32]  # (T, h, w), 0 to `full`
    full: int
    x0: IntArray  # (T,) columns [x0, x0 + w), always within the picture
    y0: IntArray  # (T,)

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(T, h, w) the pixels at least half covered."""
        return self.cover * 2 >= self.full

    def __repr__(self) -> str:
        return f"Patches{self.cover.shape}"


def rasterize(outlines_TK2: npt.NDArray[np.float64], size: Size, *, rows: int) -> Patches:
    """Coverage of one closed outline per frame (even-odd rule), cut to the picture."""
    corners = np.rint(outlines_TK2 * _ONE).astype(np.int64)
    x0, width = _extent(corners[:, :, 0], size[1])
    y0, height = _extent(corners[:, :, 1], size[0])
    row, x = _crossings(corners, y0, height, rows)
    x = np.clip(x - x0[row // (height * rows)] * _ONE, 0, width * _ONE)
    # Crossings by row and place; a closed outline crosses every row an even number of times.
    span = width * _ONE + 1
    row, x = np.divmod(np.sort(row * span + x), span)
    sign = 1 - 2 * (np.arange(len(x)) % 2)
    pixel, part = x >> 8, x & (_ONE - 1)
    steps = np.zeros(len(corners) * height * (width + 2), np.int32)
    place = row // rows * (width + 2) + pixel
    np.add.at(steps, place, (sign * (_ONE - part)).astype(np.int32))
    np.add.at(steps, place + 1, (sign * part).astype(np.int32))
    cover = np.cumsum(steps.reshape(len(corners), height, width + 2), axis=2, dtype=np.int32)
    return Patches(cover=cover[:, :, :width], full=rows * _ONE, x0=x0, y0=y0)


def _extent(values_TK: IntArray, side: int) -> tuple[IntArray, int]:
    """First pixel of each frame's patch, and the common length of all patches."""
    low = np.clip(values_TK.min(axis=1) // _ONE, 0, side - 1)
    high = np.clip(-(-values_TK.max(axis=1) // _ONE), low + 1, side)
    length = int((high - low).max())
    return np.minimum(low, side - length), length


def _crossings(
    corners: IntArray, y0: IntArray, height: int, rows: int
) -> tuple[IntArray, IntArray]:
    """(row, x) where edges cross the middles of sub-rows; rows are numbered through all frames."""
    num_frames = len(corners)
    following = np.roll(corners, -1, axis=1)
    down = following[:, :, 1] >= corners[:, :, 1]
    upper = np.where(down[:, :, None], corners, following).reshape(-1, 2)
    lower = np.where(down[:, :, None], following, corners).reshape(-1, 2)
    frame = np.repeat(np.arange(num_frames), corners.shape[1])
    pitch = _ONE // rows
    half = pitch // 2
    top = y0[frame] * rows
    first = np.clip(-((half - upper[:, 1]) // pitch), top, top + height * rows)
    stop = np.clip(-((half - lower[:, 1]) // pitch), top, top + height * rows)
    count = stop - first
    edge = np.repeat(np.arange(len(count)), count)
    sub_row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    rise = sub_row * pitch + half - upper[edge, 1]
    run, fall = (lower - upper)[edge].T
    x = upper[edge, 0] + rise * run // np.maximum(fall, 1)
    return (frame * height * rows)[edge] + sub_row - top[edge], x
