"""A network of IDOL small enough for a test, with random weights or made to see something.

And what its predictor makes of ten frames.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from vis_core.config import as_values
from vis_core.models.idol import Idol
from vis_core.models.idol.settings import IdolSettings
from vis_core.models.weights import About, to_bytes
from vis_core.systems.idol import IDOL, IdolPredictConfig
from vis_core.types import Category, FrameBatch, FramePrediction, VideoInfo
from vis_core.windows import ShardWindow

SMALL = IdolSettings(
    num_queries=20,
    depth=14,
    stem_width=8,
    stage_width=16,
    inner_width=8,
    norm="group",
    width=32,
    heads=4,
    points=2,
    encoder_layers=1,
    decoder_layers=2,
    ffn_width=48,
    mask_channels=4,
    dropout=0.0,
    short_side_px=64,
)
CATEGORIES = [
    Category(label=label, name=name, source="idol") for label, name in ((1, "disc"), (2, "star"))
]


def random_network(settings: IdolSettings = SMALL, seed: int = 0) -> Idol:
    """Its scores and masks vary enough for several instances in a frame."""
    torch.manual_seed(seed)
    network = Idol(settings.config(len(CATEGORIES))).eval()
    with torch.no_grad():
        for head in network.detr.detr.class_embed:
            head.weight.mul_(8)
            head.bias.fill_(-1)
    return network


def write_weights(file: Path, network: Idol | None = None, **changes: object) -> Path:
    """A file as `reelmask train` writes it."""
    about = About(recipe="idol", settings=as_values(SMALL), categories=CATEGORIES)
    file.write_bytes(to_bytes(network or random_network(), dataclasses.replace(about, **changes)))
    return file


SIZE = (90, 160)
VIDEO = VideoInfo(
    video_id="v",
    uri="v.mp4",
    version="1",
    bytes=1,
    height=SIZE[0],
    width=SIZE[1],
    num_frames=10,
    fps=10.0,
    duration_seconds=1.0,
    codec="h264",
)


def pictures() -> np.ndarray:
    """Ten frames with large shapes, each unlike the others."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (10, 6, 10, 3), np.uint8)
    return coarse.repeat(SIZE[0] // 6, 1).repeat(SIZE[1] // 10, 2)


def predicted(file, frames, shard: int = 10, **settings) -> list[FramePrediction]:
    """All rows, with frames handed over in shards of this length."""
    predictor = IDOL.make_predictor(IdolPredictConfig(weights=str(file), **settings))
    rows: list[FramePrediction] = []
    for start in range(0, len(frames), shard):
        stop = min(start + shard, len(frames))
        index = np.arange(start, stop)
        batch = FrameBatch(
            video_id="v",
            frame_index=index,
            pts_seconds=index / 10,
            frames=frames[start:stop],
            rank=index,
        )
        rows += predictor.predict(iter([batch]), ShardWindow(video=VIDEO, start=start, stop=stop))
    return rows


def assert_same(first: list[FramePrediction], second: list[FramePrediction]) -> None:
    for one, two in zip(first, second, strict=True):
        assert list(one.masks) == list(two.masks)
        for name in ("scores", "labels", "boxes", "class_scores", "embeddings"):
            assert np.array_equal(getattr(one, name), getattr(two, name)), name
