"""Draws the instances of a frame: tint, outline, and a label with id, name and score.

All work is on crops around the masks. Positions are of the source; an image of another size is
drawn on at its own resolution, so that lines and letters stay sharp.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.masks import rle
from vis_core.render.palette import Color, track_color

Image = npt.NDArray[np.uint8]  # (H, W, 3) RGB
_Box = tuple[int, int, int, int]  # x0, y0, x1, y1

_TINT = 0.45
_MIN_FONT_PX = 12
_FONT_WEIGHT = 600  # semibold: thin letters are lost to compression
_BLACK: Color = (0, 0, 0)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """What to draw on one frame, in any order."""

    track_ids: Sequence[int]  # (N,)
    labels: Sequence[str]  # (N,)
    masks: Sequence[bytes]  # (N,) validated run lengths for the size of the source


class Painter:
    """Draws on the frames of one video, all of one size.

    Tracks with low ids, the confident ones, come on top. `scale`: of lines and letters.
    """

    def __init__(
        self, video_id: str, source: rle.Size, shown: rle.Size, *, scale: float = 1.0
    ) -> None:
        self._source = source
        self._shown = shown
        self._line_px = max(1, round(scale * min(shown) / 320))
        self._font = cv2.FontFace("sans")
        self._font_px = round(scale * max(_MIN_FONT_PX, min(shown) / 40))
        self._color = functools.lru_cache(1 << 12)(functools.partial(track_color, video_id))
        self._tint = functools.lru_cache(1 << 10)(self._tint_table)
        self._extent = functools.lru_cache(1 << 12)(self._text_extent)

    def paint(self, image: Image, drawn: Drawn) -> None:
        """Draws on `image`, which has the size shown."""
        crops = rle.crops(drawn.masks, self._source)
        rows = zip(drawn.track_ids, drawn.labels, crops, strict=True)
        seen = [(track, label, self._scaled(crop)) for track, label, crop in rows if crop.mask.size]
        seen.sort(key=lambda row: row[0])
        for track_id, _, crop in reversed(seen):
            self._paint_mask(image, crop, track_id)
        taken: list[_Box] = []
        for track_id, label, crop in seen:  # the confident ones choose where their label goes
            box = self._place(crop.box, label, taken)
            self._paint_label(image, box, label, self._color(track_id))
            taken.append(box)

    # --- masks ------------------------------------------------------------------------------------

    def _scaled(self, crop: rle.Crop) -> rle.Crop:
        """The crop at the size shown; no mask vanishes, however small."""
        if self._shown == self._source:
            return crop
        down, right = (to / of for to, of in zip(self._shown, self._source, strict=True))
        x0, y0, x1, y1 = crop.box
        left, top = int(x0 * right), int(y0 * down)
        width = max(1, round(x1 * right) - left)
        height = max(1, round(y1 * down) - top)
        how = cv2.INTER_AREA if down < 1 else cv2.INTER_LINEAR
        coverage = cv2.resize(crop.mask.view(np.uint8) * 255, (width, height), interpolation=how)
        return rle.Crop(mask=coverage >= min(128, coverage.max()), x0=left, y0=top)

    def _paint_mask(self, image: Image, crop: rle.Crop, track_id: int) -> None:
        x0, y0, x1, y1 = crop.box
        region = image[y0:y1, x0:x1]
        mask = crop.mask.view(np.uint8)
        cv2.copyTo(cv2.LUT(region, self._tint(track_id)), mask, region)
        outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_TC89_L1)
        color = self._color(track_id)
        cv2.drawContours(image, outlines, -1, color, self._line_px, cv2.LINE_AA, offset=(x0, y0))

    def _tint_table(self, track_id: int) -> npt.NDArray[np.uint8]:
        """(1, 256, 3) what each value of each channel becomes under the track's colour."""
        color = np.array(self._color(track_id))
        values = np.arange(256)[None, :, None]
        return np.rint((1 - _TINT) * values + _TINT * color).astype(np.uint8)

    # --- labels -----------------------------------------------------------------------------------

    def _text_extent(self, text: str) -> tuple[int, int]:
        """Width and height of a label."""
        _, _, width, _ = cv2.getTextSize(
            (0, 0), text, (0, 0), self._font, self._font_px, _FONT_WEIGHT
        )
        return width + self._font_px // 2, round(1.3 * self._font_px)

    def _place(self, around: _Box, text: str, taken: Sequence[_Box]) -> _Box:
        """Above the mask, in its upper corner, or below it: the first place that is free."""
        width, height = self._extent(text)
        x0, y0, _, y1 = around
        boxes = [self._within(x0, y, width, height) for y in (y0 - height, y0, y1)]
        free = (box for box in boxes if not any(_overlap(box, other) for other in taken))
        return next(free, boxes[0])

    def _within(self, x: int, y: int, width: int, height: int) -> _Box:
        """A box of this size as near to (x, y) as the image allows."""
        x = max(0, min(x, self._shown[1] - width))
        y = max(0, min(y, self._shown[0] - height))
        return x, y, x + width, y + height

    def _paint_label(self, image: Image, box: _Box, text: str, color: Color) -> None:
        x0, y0, x1, y1 = box
        image[y0:y1, x0:x1] = color
        start = x0 + self._font_px // 4, y1 - round(0.32 * self._font_px)
        cv2.putText(image, text, start, _BLACK, self._font, self._font_px, _FONT_WEIGHT)


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
