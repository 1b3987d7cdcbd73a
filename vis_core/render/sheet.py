"""A contact sheet: some moments of some videos in one small PNG."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image as Pictures

from vis_core.errors import ReelmaskError
from vis_core.render.overlay import Image
from vis_core.render.render import Style, overlays
from vis_core.render.source import RenderSource
from vis_core.types import VideoInfo
from vis_core.video.reader import VideoReader
from vis_core.video.sampling import sampled_frames

_TILE: tuple[int, int] = (180, 320)  # height, width
_GAP_PX = 6
_CAPTION_PX = 26
_FONT_PX = 15
_GROUND = 24  # dark: it suits light and dark pages
_INK = (225, 225, 225)
_STYLE = Style(scale=1.5, details=False)
_COLORS = (256, 192, 128, 96, 64, 48, 32)
_ROUNDS = 4  # of k-means


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """One row of a sheet: what is written above it, and pictures from left to right."""

    caption: str
    pictures: Sequence[Image]


def strip_of(
    source: RenderSource, video: VideoInfo, reader: VideoReader, caption: str, num: int = 4
) -> Strip:
    """Moments of a video in which much is seen, spread over its length."""
    frames = _moments(source, video, num)
    scale = min(_TILE[0] / video.height, _TILE[1] / video.width)
    size = max(2, round(scale * video.height)), max(2, round(scale * video.width))
    drawn = overlays(source, video, reader, size, frames=frames, style=_STYLE)
    return Strip(caption=caption, pictures=[image for _, image in drawn])


def _moments(source: RenderSource, video: VideoInfo, num: int) -> list[int]:
    """Of each of `num` stretches the frame with most masks, of equals the one in the middle."""
    counts = source.num_masks(video)
    found = []
    for stretch in np.array_split(sampled_frames(video, source.sampling), num):
        frames = stretch.tolist()
        if frames:
            middle = frames[len(frames) // 2]
            found.append(max(frames, key=lambda frame: (counts[frame], -abs(frame - middle))))
    return found


def contact_sheet(strips: Sequence[Strip], max_bytes: int) -> bytes:
    """A PNG of at most so many bytes; it gets as many colours as fit."""
    columns = max((len(strip.pictures) for strip in strips), default=1)
    width = columns * (_TILE[1] + _GAP_PX) + _GAP_PX
    sheet = np.concatenate([_row(strip, width) for strip in strips])
    picture = Pictures.fromarray(sheet)
    for colors in _COLORS:
        buffer = io.BytesIO()
        few = picture.quantize(palette=_palette(sheet, colors), dither=Pictures.Dither.NONE)
        few.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= max_bytes:
            return buffer.getvalue()
    raise ReelmaskError(
        f"a sheet of {len(strips)} x {columns} pictures does not fit {max_bytes} bytes"
    )


def _palette(sheet: Image, num: int) -> Pictures.Image:
    """So many colours for a sheet, as Pillow takes them: k-means on a quarter of the pixels.

    The start is chosen for coverage, so that the colours of few pixels survive: labels, outlines.
    Pillow's own k-means takes many times as long.
    """
    pixels = np.ascontiguousarray(sheet[::2, ::2])
    sample = Pictures.fromarray(pixels)
    channels = pixels.reshape(-1, 3).astype(np.float64).T
    found = sample.quantize(num, Pictures.Quantize.MAXCOVERAGE, dither=Pictures.Dither.NONE)
    for _ in range(_ROUNDS):
        nearest = np.asarray(sample.quantize(palette=found, dither=Pictures.Dither.NONE)).ravel()
        counts = np.maximum(np.bincount(nearest, minlength=num), 1)
        means = [np.bincount(nearest, channel, num) / counts for channel in channels]
        found = Pictures.new("P", (1, 1))
        found.putpalette(np.rint(np.stack(means, axis=1)).astype(np.uint8).ravel().tolist())
    return found


def _row(strip: Strip, width: int) -> Image:
    row = np.full((_CAPTION_PX + _TILE[0] + _GAP_PX, width, 3), _GROUND, np.uint8)
    font = cv2.FontFace("sans")
    start = _GAP_PX + 2, _CAPTION_PX - 8
    cv2.putText(row, strip.caption, start, _INK, font, _FONT_PX, 500)
    for position, picture in enumerate(strip.pictures):
        height, picture_width = picture.shape[:2]
        top = _CAPTION_PX + (_TILE[0] - height) // 2
        left = _GAP_PX + position * (_TILE[1] + _GAP_PX) + (_TILE[1] - picture_width) // 2
        row[top : top + height, left : left + picture_width] = picture
    return row
