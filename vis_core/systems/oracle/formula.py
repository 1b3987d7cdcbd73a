"""Truth by formula: rectangles and ellipses that bounce within the frame, at any frame at once.

A shape that moves keeps its run lengths but for the first and the last, and the text of run
lengths stores differences: so a mask is a cached middle between two numbers, whatever its size.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from vis_core.columns import offsets_of
from vis_core.masks import rle
from vis_core.systems.oracle.noise import Channel, Noise
from vis_core.systems.oracle.truth import TruthFrame, VideoTruth
from vis_core.types import Category

CATEGORY = Category(label=1, name="object", source="formula")
_SEED = 0  # the truth does not move with the seed of the mistakes
_EVERY_FRAME = -1  # address of random numbers that belong to a whole video
_MAX_SPEED_FRAC = 0.03  # of the frame's side, per frame


class FormulaTruth:
    """A fixed number of objects in every video, their sizes and paths drawn from its name."""

    def __init__(self, num_objects: int) -> None:
        self._num_objects = num_objects
        self.categories = [CATEGORY]

    def video(self, video_id: str, size: rle.Size) -> VideoTruth:
        return FormulaVideo(Noise(_SEED, video_id), self._num_objects, size)


class FormulaVideo:
    """The objects of one video."""

    def __init__(self, noise: Noise, num_objects: int, size: rle.Size) -> None:
        self.num_objects = num_objects
        self._size = size
        self._objects = np.arange(num_objects, dtype=np.int32)
        self._labels = np.ones(num_objects, np.int32)
        draws = noise.uniform(Channel.SHAPE, _EVERY_FRAME, self._objects, 7)
        self._stamps = [stamp(row, size) for row in draws[:, :3]]
        extent = np.array([(s.width, s.height) for s in self._stamps], np.int64).reshape(-1, 2)
        self._extent = extent
        self._room = np.array([size[1], size[0]]) - extent  # (N, 2): largest x0, y0
        self._start = np.floor(draws[:, 3:5] * 2 * (self._room + 1)).astype(np.int64)
        speed = (draws[:, 5:7] * 2 - 1) * _MAX_SPEED_FRAC * np.array([size[1], size[0]])
        self._speed = np.rint(speed).astype(np.int64)

    def frame(self, frame_index: int) -> TruthFrame:
        corners = self._corners(frame_index)
        masks = [
            stamped(shape, x0, y0, self._size)
            for shape, (x0, y0) in zip(self._stamps, corners.tolist(), strict=True)
        ]
        boxes = np.concatenate([corners, corners + self._extent], axis=1).astype(np.float32)
        return TruthFrame(objects=self._objects, labels=self._labels, masks=masks, boxes=boxes)

    def _corners(self, frame_index: int) -> npt.NDArray[np.int64]:
        """(N, 2) x0, y0: to and fro between 0 and the room there is."""
        room = np.maximum(self._room, 1)
        along = (self._start + frame_index * self._speed) % (2 * room)
        return np.where(self._room > 0, np.minimum(along, 2 * room - along), 0)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stamp:
    """A shape ready to be put anywhere in a frame."""

    height: int
    width: int
    first: int  # pixels, column by column, from the box's corner to the first foreground one
    span: int  # pixels from there to the end of the last foreground run
    before_last: int  # what the last run's text is the difference to
    middle: bytes  # text of the runs between the first and the last


def stamp(draws: npt.NDArray[np.floating], size: rle.Size) -> Stamp:
    """A shape from three numbers in [0, 1): kind, height, width (an eighth to two fifths)."""
    height, width = (
        max(1, int(side * (0.125 + 0.275 * float(share))))
        for side, share in zip(size, draws[1:], strict=True)
    )
    return _stamp(bool(draws[0] < 0.5), height, width, size[0])


@functools.lru_cache(maxsize=4096)
def _stamp(ellipse: bool, height: int, width: int, frame_height: int) -> Stamp:
    mask = _ellipse(height, width) if ellipse else np.ones((height, width), bool)
    text = rle.encode_crops([rle.Crop(mask=mask, x0=0, y0=0)], (frame_height, width + 1))
    (crop,) = rle.crops(text, (frame_height, width + 1))  # an ellipse may not touch its box
    tight = rle.Crop(mask=crop.mask, x0=0, y0=0)
    runs = rle.decode_counts(rle.encode_crops([tight], (frame_height, width + 1))).lengths
    inner = runs[1:-1]  # the column to the right is free: there is a last run
    padded = rle.Runs(lengths=np.append(0, inner), offsets=offsets_of([len(inner) + 1]))
    return Stamp(
        height=crop.mask.shape[0],
        width=crop.mask.shape[1],
        first=int(runs[0]),
        span=int(inner.sum()),
        before_last=int(inner[-2]) if len(inner) > 1 else 0,
        middle=rle.encode_counts(padded)[0][1:],  # without the text of the 0 put in front
    )


def stamped(shape: Stamp, x0: int, y0: int, size: rle.Size) -> bytes:
    """The mask of a shape whose box begins at column x0, row y0."""
    first = x0 * size[0] + y0 + shape.first
    last = size[0] * size[1] - first - shape.span
    end = _text(last - shape.before_last) if last else b""
    return _text(first) + shape.middle + end


def _text(value: int) -> bytes:
    """One run length, or difference of two, as COCO writes it."""
    text = bytearray()
    while True:
        group = value & 0x1F
        value >>= 5
        if value == (-1 if group & 0x10 else 0):
            text.append(group + 48)
            return bytes(text)
        text.append(group + 80)


def _ellipse(height: int, width: int) -> npt.NDArray[np.bool_]:
    y = (2 * np.arange(height) + 1 - height)[:, None] * width
    x = (2 * np.arange(width) + 1 - width)[None, :] * height
    return x * x + y * y <= (height * width) ** 2
