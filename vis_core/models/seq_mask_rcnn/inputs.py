"""Pictures as the network wants them (docs/methods/propose_reduce.md).

Shapes: H x W pixels.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

MEAN = (123.675, 116.28, 103.53)  # of RGB, 0..255
STD = (58.395, 57.12, 57.375)
_MULTIPLE = 32  # of the padded size: the stride of P5


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InputSize:
    """The largest picture of its shape whose sides are not longer; small videos are enlarged."""

    long_side_px: int = 640  # YouTube-VIS; 854 x 480 for DAVIS
    short_side_px: int = 360

    def __post_init__(self) -> None:
        if not 1 <= self.short_side_px <= self.long_side_px:
            raise ValueError(
                "expected 1 <= short_side_px <= long_side_px, got"
                f" {self.short_side_px} and {self.long_side_px}"
            )

    def scale(self, size: tuple[int, int]) -> float:
        return min(self.long_side_px / max(size), self.short_side_px / min(size))

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the network's picture of a video of this size."""
        height, width = (max(int(side * self.scale(size) + 0.5), 1) for side in size)
        return height, width

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of detected masks: where `resized` rounds up, this rounds to even."""
        height, width = (max(round(side * self.scale(size)), 1) for side in size)
        return height, width


def padded(size: tuple[int, int]) -> tuple[int, int]:
    height, width = (-(-side // _MULTIPLE) * _MULTIPLE for side in size)
    return height, width


def resized(picture_HW3: npt.NDArray[np.uint8], inputs: InputSize) -> npt.NDArray[np.uint8]:
    """An RGB picture at the network's size."""
    height, width = inputs.resized(picture_HW3.shape[:2])
    if picture_HW3.shape[:2] == (height, width):
        return picture_HW3
    small = cv2.resize(picture_HW3, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(small, np.uint8)


def normalised(picture_HW3: npt.NDArray[np.uint8]) -> Tensor:
    """Padded to the right and below with the mean colour: (3, H, W)."""
    height, width = picture_HW3.shape[:2]
    values = (picture_HW3.astype(np.float32) - np.array(MEAN, np.float32)) / np.array(
        STD, np.float32
    )
    found = torch.zeros(3, *padded((height, width)))
    found[:, :height, :width] = torch.from_numpy(values).permute(2, 0, 1)
    return found
