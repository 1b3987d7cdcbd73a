"""One clip as training sees it: frames, masks, who is who. Made from a data set, then transformed.

L frames of a clip, H x W pixels (frames may differ in size until they are batched), N instances.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A clip with all instances that are seen in any of its frames."""

    video_id: str
    frame_index: IntArray  # (L,)
    frames: Sequence[npt.NDArray[np.uint8]]  # L of (H, W, 3), RGB
    masks: Sequence[BoolArray]  # L of (N, H, W); all False where an instance is not seen
    labels: IntArray  # (N,) positions in the recipe's list of categories, from 0
    ids: IntArray  # (N,) track ids of the data set
    crowd: BoolArray  # (N,) regions to be ignored, not instances
    # (L, H, W) False where a transform left no picture (padding, rotation); None: all of it is.
    valid: Sequence[BoolArray] | None = None

    def __post_init__(self) -> None:
        for name in ("frame_index", "masks", "valid"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.frames):
                raise ValueError(
                    f"{name}: expected one per frame ({len(self.frames)}), got {len(value)}"
                )
        for frame, masks in zip(self.frames, self.masks, strict=True):
            expected = (len(self.labels), *frame.shape[:2])
            if masks.shape != expected:
                raise ValueError(f"masks: expected {expected}, got {masks.shape}")

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def repeats(self) -> bool:
        """Whether the clip is one picture again and again, and not a piece of a video."""
        return len(self) > 1 and bool((self.frame_index == self.frame_index[0]).all())

    def boxes(self) -> list[FloatArray]:
        """Per frame (N, 4) x1, y1, x2, y2 of the masks, end exclusive; zeros where not seen."""
        return [boxes_of(masks) for masks in self.masks]

    def visible(self) -> BoolArray:
        """(L, N) whether an instance has a pixel in a frame."""
        return np.stack([masks.any(axis=(1, 2)) for masks in self.masks])

    def __repr__(self) -> str:
        sizes = ", ".join(f"{frame.shape[1]}x{frame.shape[0]}" for frame in self.frames)
        return f"Sample({self.video_id!r}, frames of {sizes}, {len(self.labels)} instances)"


def boxes_of(masks_NHW: BoolArray) -> FloatArray:
    """(N, 4) x1, y1, x2, y2 around masks, end exclusive; zeros for empty ones."""
    boxes = np.zeros((len(masks_NHW), 4), np.float32)
    for axis, (low, high) in ((1, (0, 2)), (2, (1, 3))):
        seen = np.asarray(masks_NHW.any(axis=axis))
        some = seen.any(axis=1)
        boxes[some, low] = seen[some].argmax(axis=1)
        boxes[some, high] = seen.shape[1] - seen[some, ::-1].argmax(axis=1)
    return boxes
