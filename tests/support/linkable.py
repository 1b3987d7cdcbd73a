"""A small `frames` table that the linker of every system takes, made of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.rows import box_masks, row
from vis_core import schema
from vis_core.masks import rle
from vis_core.types import FlowField, FramePrediction, RefAffinity, RefFlow

SIZE = (18, 32)
NUM_FRAMES = 6
# Settings under which a track of a few frames is kept.
SETTINGS = {
    "flow_match": ["min_len=1"],
    "instance_flow": [],
    "propose_reduce": [],
    "idol": ["min_len=1"],
    "minvis": [],
    "oracle": [],
}


def linkable_rows(extra: Sequence[bytes] = ()) -> list[FramePrediction]:
    """Two boxes that move to the right, and behind them `extra` masks in every frame."""
    return [_row(frame, extra) for frame in range(NUM_FRAMES)]


def _row(frame: int, extra: Sequence[bytes]) -> FramePrediction:
    boxes = box_masks([(2 + frame, 2, 8 + frame, 8), (10 + frame, 9, 18 + frame, 16)], SIZE)
    masks = [*boxes, *extra]
    num = len(masks)
    scores = np.tile(np.float32([0.05, 0.05]), (num, 1))
    scores[np.arange(num), np.arange(num) % 2] = 0.9 - 0.1 * np.arange(num) / max(1, num)
    centers = np.stack([4.0 + 7 * np.arange(num), 5.0 + frame + 8 * np.arange(num)], axis=1)
    offsets = np.arange(num + 1) * (1 if frame else 0)
    before = np.full(offsets[-1], frame - 1)
    return row(
        frame,
        masks,
        SIZE,
        class_scores=scores,
        boxes=np.tile(np.float32([2, 2, 8, 8]), (num, 1)),
        no_object_logprob=np.full(num, -3, np.float32),
        embeddings=4 * np.eye(num, 16, dtype=np.float32),
        proposals=np.arange(num, dtype=np.int32),
        centers=centers.astype(np.float32),
        mean_offsets=np.zeros((num, 2), np.float32),
        ref_flow=RefFlow(
            offsets=offsets,
            frame_index=before,
            dydx=np.tile(np.float32([0, -1]), (offsets[-1], 1)),
        ),
        ref_affinity=RefAffinity(
            offsets=offsets,
            frame_index=before,
            instance=np.arange(offsets[-1]),
            iou=np.full(offsets[-1], 0.8, np.float32),
            affinity=np.full(offsets[-1], 0.8, np.float32),
        ),
        flow=FlowField(dxdy=np.stack([np.ones((4, 6)), np.zeros((4, 6))]).astype(np.float16)),
    )


def linkable_table(extra: Sequence[bytes] = ()) -> pa.Table:
    return schema.predictions_to_table(linkable_rows(extra), fingerprint="f", member="m")


def write_linkable(path: Path, extra: Sequence[bytes] = ()) -> Path:
    """The table with masks exactly as given."""
    pq.write_table(linkable_table(extra), path)
    return path


def runs(*lengths: int) -> bytes:
    """The text of these run lengths, whatever they are."""
    values = np.array(lengths, np.int64)
    return rle.encode_counts(rle.Runs(lengths=values, offsets=np.array([0, len(values)])))[0]
