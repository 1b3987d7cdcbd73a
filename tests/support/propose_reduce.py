"""A small Seq Mask R-CNN with random weights, and what its predictor makes of a few frames."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from tests.support.fakes import fake_video
from vis_core.models.about import About
from vis_core.models.seq_mask_rcnn import SeqMaskRcnn, SeqMaskRcnnConfig
from vis_core.models.weights import to_bytes
from vis_core.systems.propose_reduce import ProposeReducePredictConfig
from vis_core.systems.propose_reduce.predictor import ProposeReducePredictor
from vis_core.types import Category, FrameBatch
from vis_core.windows import ShardWindow

TINY = SeqMaskRcnnConfig(
    block="basic",
    blocks=(1, 1, 1, 1),
    width=8,
    norm="group",
    pyramid=16,
    hidden=32,
    mask_channels=8,
    anchor_scale=2,
    finest_roi_px=28,
    legacy=False,
    long_side_px=64,
    short_side_px=36,
)
NAMES = [Category(label=1, name="cat"), Category(label=2, name="dog")]


def network(config=TINY, num_classes=3):
    """Random weights that find something in every frame."""
    torch.manual_seed(4)
    found = SeqMaskRcnn(config, num_classes).eval()
    for part in (found.mask_head, found.prop_head):
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=(2 / parameter[0].numel()) ** 0.5)
    return found


def written(path, config=TINY):
    settings = dataclasses.asdict(config)
    about = About(recipe="propose_reduce", settings=settings, categories=list(NAMES))
    path.write_bytes(to_bytes(network(config), about))
    return str(path)


def pictures(number, size=(45, 80)):
    random = np.random.default_rng(0)
    frames = np.full((number, *size, 3), 40, np.uint8)
    for t in range(number):
        frames[t, 10:30, 5 + 2 * t : 30 + 2 * t] = random.integers(150, 255, 3)
    return frames


def batches(frames, size):
    for start in range(0, len(frames), size):
        index = np.arange(start, min(start + size, len(frames)))
        yield FrameBatch(
            video_id="v",
            frame_index=2 * index,
            pts_seconds=index / 10,
            frames=frames[index],
            rank=index,
        )


def rows(weights, number=7, batch=3, **settings):
    predictor = ProposeReducePredictor(
        ProposeReducePredictConfig(weights=weights, **{"min_score": 0.01, **settings})
    )
    frames = pictures(number)
    window = ShardWindow(video=fake_video("v", 2 * number), start=0, stop=2 * number, window=3)
    return list(predictor.predict(batches(frames, batch), window))


def content(found):
    return [
        (row.frame_index, row.window, row.proposals.tolist(), row.masks, row.class_scores.tolist())
        for row in found
    ]
