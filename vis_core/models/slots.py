"""Which frames one call of a network sees, and where in the batch: a function of the frame alone.

A kernel computes the end of a vector differently from its middle, so a picture may get another
last digit in another slot of the batch. A frame's slot is therefore its rank modulo the batch size,
wherever a shard begins, and slots without a frame are filled with what no row is made of.

B slots of a batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vis_core.types import FrameBatch


class SlottedFrame(NamedTuple):
    """A frame and its place in the network's batch."""

    frame_index: int
    pts_seconds: float
    pixels: npt.NDArray[np.uint8]  # (H, W, 3)
    rank: int
    slot: int

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]


def calls(frames: Iterator[FrameBatch], batch_size: int) -> Iterator[list[SlottedFrame]]:
    """All frames in order, those that share a call together: 1 to `batch_size`, of one size."""
    slotted = (
        SlottedFrame(int(index), float(seconds), pixels, int(rank), int(rank) % batch_size)
        for batch in frames
        for index, seconds, pixels, rank in zip(
            batch.frame_index, batch.pts_seconds, batch.frames, batch.rank, strict=True
        )
    )
    for _, together in itertools.groupby(slotted, lambda f: (f.rank // batch_size, f.size)):
        yield list(together)


def filled(pictures: Sequence[Tensor], slots: Sequence[int], batch_size: int) -> list[Tensor]:
    """(B) pictures, each in its slot, the other slots filled."""
    batch = [filler(pictures[0])] * batch_size
    for slot, picture in zip(slots, pictures, strict=True):
        batch[slot] = picture
    return batch


def filler(picture: Tensor) -> Tensor:
    """What lies in slots without a frame: a picture of the call, for it is ordinary numbers."""
    return picture
