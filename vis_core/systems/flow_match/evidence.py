"""Which pixels of a frame are neither the background nor still: the motion detector's evidence.

h x w the picture, or a window of it. Images are OpenCV's: uint8 (h, w) grey or (h, w, 3) colour.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.flow.camera import Affine
from vis_core.flow.field import Float32

Image = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]
Window = tuple[slice, slice]  # rows, columns

# The stencil, in parts of the reach. The median is taken over the far rows; what differs from it
# but not from the near ones, before and after, may be background that was just uncovered.
_FAR = (5 / 24, 9 / 24, 16 / 24, 1.0)
_NEAR = (2 / 24, 5 / 24)

_BRIGHT_FRAC = 0.07  # of the background's brightness, added to the change that counts
_NEAR_CHANGE = 8  # grey levels of difference from the near rows
_SHADOW_CHANGE = 60  # a larger change is no shadow
_SHADOW_RATIO = (70, 132)  # brightness left in a shadow, in 1/128
_SHADOW_TINT = 8  # … the same in all three colours, but for this much
_NEXT_PIXELS = np.ones((3, 3), np.uint8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is known about each pixel of a window."""

    color: Image  # (h, w, 3)
    changed: BoolArray  # unlike the median, and moving
    fresh: BoolArray  # … and unlike the near rows too
    recent: Image  # difference from the nearest rows before and after, whichever is less
    contrast: Float32  # difference from the median, in parts of the one that counts
    speed: Float32  # of its own, in pixels of the picture per row

    def within(self, window: Window) -> Evidence:
        """The same for a part of the window."""
        parts = {f.name: getattr(self, f.name)[window] for f in dataclasses.fields(self)}
        return Evidence(**{name: np.ascontiguousarray(part) for name, part in parts.items()})


def gather(
    colors: Mapping[int, Image],
    views: Mapping[int, Affine],
    speed: Float32,
    window: Window,
    *,
    reach: int,
    min_change: int,
    min_motion_px: float,
) -> Evidence | None:
    """The evidence about the row at offset 0; None where its shot is too short for a background.

    `colors` and `views` are by offset: the pictures, and the way from pixels of this row to theirs.
    """
    color = np.ascontiguousarray(colors[0][window])
    near, far = (_offsets(parts, reach) for parts in (_NEAR, _FAR))
    layers = {
        offset: aligned(colors[offset], views[offset], window, color)
        for offset in sorted({sign * o for o in (*near, *far) for sign in (-1, 1)})
        if offset in views
    }
    background = median([layers[o] for o in layers if abs(o) in far])
    nearby = {o: beyond(color, layers[o]) for o in layers if abs(o) in near}
    if background is None or not nearby:
        return None
    change = beyond(color, background)
    limit = cv2.convertScaleAbs(_most(background), alpha=_BRIGHT_FRAC, beta=float(min_change))
    changed = (change >= limit) & (speed >= min_motion_px)
    changed &= ~((change < _SHADOW_CHANGE) & _is_shadow(color, background))
    nearest = [layers[o] for o in (-near[0], near[0]) if o in layers]
    return Evidence(
        color=color,
        changed=changed,
        fresh=changed & (_on_both_sides(nearby) >= _NEAR_CHANGE),
        recent=_least([_most(cv2.absdiff(color, layer)) for layer in nearest]),
        contrast=np.divide(change, limit, dtype=np.float32),
        speed=speed,
    )


def _on_both_sides(nearby: Mapping[int, Image]) -> Image:
    """Difference from some row before and some row after; at the ends of a shot, from every row."""
    before, after = ([image for o, image in nearby.items() if o * s > 0] for s in (-1, 1))
    if before and after:
        return _least([_largest(before), _largest(after)])
    return _least(before or after)


def _offsets(parts: Sequence[float], reach: int) -> list[int]:
    return sorted({max(1, round(part * reach)) for part in parts})


def aligned(image: Image, view: Affine, window: Window, outside: Image) -> Image:
    """Another row's image as this row sees it in a window; `outside` where that does not reach."""
    corner = np.array([window[1].start, window[0].start])
    matrix = view[:2].copy()
    matrix[:, 2] += matrix[:, :2] @ corner
    return cv2.warpAffine(
        image,
        matrix,
        outside.shape[1::-1],
        dst=outside.copy(),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_TRANSPARENT,
    )


def median(layers: Sequence[Image]) -> Image | None:
    """Of each value, by a sorting network on whole images; of an even number, the middle of two."""
    rank, num = list(layers), len(layers)
    if not num:
        return None
    for round_ in range(num):
        for low in range(round_ % 2, num - 1, 2):
            a, b = rank[low], rank[low + 1]
            rank[low], rank[low + 1] = cv2.min(a, b), cv2.max(a, b)
    if num % 2:
        return rank[num // 2]
    return cv2.addWeighted(rank[num // 2 - 1], 0.5, rank[num // 2], 0.5, 0)


def beyond(color: Image, other: Image) -> Image:
    """How far a pixel is outside what the other image has within one pixel of its place.

    So a misalignment of a pixel is no change, whatever the texture.
    """
    above = cv2.subtract(color, cv2.dilate(other, _NEXT_PIXELS))
    below = cv2.subtract(cv2.erode(other, _NEXT_PIXELS), color)
    return _most(cv2.max(above, below))


def _is_shadow(color: Image, background: Image) -> BoolArray:
    """The background, darker by the same factor in all colours."""
    floor = np.array([8.0, 8.0, 8.0, 0.0])
    now, before = (cv2.add(cv2.blur(image, (5, 5)), floor) for image in (color, background))
    channels = cv2.split(cv2.divide(now, before, scale=128.0))
    least, most = _least(channels), _largest(channels)
    low, high = _SHADOW_RATIO
    return np.asarray((least > low) & (most < high) & (most - least < _SHADOW_TINT))


def _most(image: Image) -> Image:
    return _largest(cv2.split(image))


def _largest(images: Sequence[Image]) -> Image:
    result = images[0]
    for image in images[1:]:
        result = cv2.max(result, image)
    return result


def _least(images: Sequence[Image]) -> Image:
    result = images[0]
    for image in images[1:]:
        result = cv2.min(result, image)
    return result
