"""Rows of `frames` from boxes: what linkers read, without pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vis_core.masks import rle
from vis_core.types import FramePrediction

Box = tuple[int, int, int, int]  # x0, y0, x1, y1; empty where x1 == x0


def box_masks(boxes: Sequence[Box], size: rle.Size) -> list[bytes]:
    crops = [
        rle.Crop(mask=np.ones((y1 - y0, x1 - x0), bool), x0=x0, y0=y0) for x0, y0, x1, y1 in boxes
    ]
    return rle.encode_crops(crops, size)


def row(
    frame_index: int,
    masks: Sequence[bytes],
    size: rle.Size,
    *,
    class_scores: Sequence[Sequence[float]],
    **fields: Any,
) -> FramePrediction:
    """A prediction of the video "v"; scores and labels are the best of the class scores."""
    table = np.array(class_scores, np.float32)
    values = {
        "scores": table.max(axis=1),
        "labels": (table.argmax(axis=1) + 1).astype(np.int32),
        "boxes": rle.boxes(masks, size),
        "class_scores": table,
    }
    return FramePrediction(
        video_id="v",
        frame_index=frame_index,
        pts_seconds=frame_index / 25,
        height=size[0],
        width=size[1],
        masks=list(masks),
        **{**values, **fields},
    )
