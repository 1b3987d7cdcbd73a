"""Masklets of a real video as predictions that no longer know who is who.

What a front end would add is made from nothing: flow of zero, instance flow of zero, and embeddings
from the place and the size of the masks.
"""

from __future__ import annotations

import collections

import numpy as np

from tests.support.on_truth import Rows, shuffled
from vis_core.association.instance_flow import centroids
from vis_core.flow.field import stored_shape
from vis_core.formats.model import TruthTracks, VideoTracks
from vis_core.formats.sav import EVERY
from vis_core.masks import rle
from vis_core.systems.oracle.truth import centers_of
from vis_core.types import FloatArray, FlowField, FramePrediction, RefFlow

_REFERENCES = 3  # rows, besides the first, as instance_flow's paper has it
_PLACE_FRAC, _SIZE_RATIO = 0.15, 1.65  # of sqrt(height x width); between lengths
_DIM, _LENGTH = 256, 8.0


def masklet_rows(masklets: VideoTracks) -> Rows:
    """A row for each annotated frame; all scores are alike."""
    rows: Rows = []
    references: collections.deque[int] = collections.deque(maxlen=_REFERENCES)
    for frame in range(0, masklets.video.num_frames, EVERY):
        here = np.flatnonzero(masklets.frame_index == frame).tolist()
        known = sorted({0, *references}) if references else []
        masks = [masklets.masks[i] for i in here]
        rows.append(shuffled(_row(masklets, frame, masks, known)))
        references.append(frame)
    return rows


def _row(
    masklets: VideoTracks, frame: int, masks: list[bytes], references: list[int]
) -> FramePrediction:
    size, num = masklets.video.size, len(masks)
    boxes = rle.boxes(masks, size)
    centers = centers_of(boxes)
    return FramePrediction(
        video_id=masklets.video.video_id,
        frame_index=frame,
        pts_seconds=frame / 24,
        height=size[0],
        width=size[1],
        scores=np.full(num, 0.9, np.float32),
        labels=np.ones(num, np.int32),
        boxes=boxes,
        masks=masks,
        class_scores=np.full((num, 1), 0.9, np.float32),
        embeddings=place_and_size(masks, size),
        centers=centers,
        mean_offsets=np.zeros_like(centers),
        ref_flow=RefFlow(
            offsets=np.arange(num + 1) * len(references),
            frame_index=np.tile(np.array(references, np.int32), num),
            dydx=np.zeros((num * len(references), 2), np.float32),
        ),
        flow=FlowField(dxdy=np.zeros((2, *stored_shape(size)), np.float16)),
    )


def place_and_size(masks: list[bytes], size: rle.Size) -> FloatArray:
    """(N, D) embeddings whose cosine falls like a bell curve with the difference of two masks.

    The difference is that of the centroids, in parts of 0.15 sqrt(height x width), and of the
    square roots of the areas, in factors of 1.65. At a difference of 1 the cosine is about 0.6.
    """
    place = centroids(masks, size) / (np.sqrt(size[0] * size[1]) * _PLACE_FRAC)
    scale = np.log(np.sqrt(rle.areas(masks, size))) / np.log(_SIZE_RATIO)
    features = np.concatenate([place, scale[:, None]], axis=1)
    waves = np.random.default_rng(0).normal(size=(3, _DIM // 2))
    angles = features @ waves
    parts = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    return (_LENGTH * parts / np.sqrt(_DIM // 2)).astype(np.float32)


def as_truth(masklets: VideoTracks) -> TruthTracks:
    """The masklets as what is to be found."""
    lengths = np.diff(masklets.offsets)
    areas = np.bincount(masklets.owner, weights=masklets.areas, minlength=len(masklets))
    return TruthTracks(
        tracks=masklets,
        crowd=np.zeros(len(masklets), bool),
        mean_areas=areas / np.maximum(lengths, 1),
    )
