"""What predictors give on a device, and what they hold of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.support import idol
from tests.support.fakes import fake_video
from tests.support.propose_reduce import TINY, batches, content, network, pictures, rows, written
from tests.support.stand_in import MEMORY, on_stand_in, stand_in
from vis_core.config import as_values
from vis_core.models import mask_rcnn
from vis_core.models.about import About
from vis_core.models.mask_rcnn import MaskRcnnConfig
from vis_core.models.seq_mask_rcnn.window_frames import WindowFrames
from vis_core.models.weights import to_bytes
from vis_core.systems.flow_match import FLOW_MATCH, FlowMatchPredictConfig
from vis_core.systems.propose_reduce import ProposeReducePredictConfig
from vis_core.systems.propose_reduce.predictor import ProposeReducePredictor
from vis_core.types import Category, FrameBatch, FramePrediction
from vis_core.windows import ShardWindow


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("settings", [{}, {"preset": "paper", "memory_about": 3, "smooth": True}])
def test_propose_reduce_gives_the_same_rows(tmp_path, legacy, settings):
    """Where objects go through the layers together, and features wait on the host."""
    file = written(tmp_path / "w.safetensors", dataclasses.replace(TINY, legacy=legacy))
    here = rows(file, **settings)
    with on_stand_in() as memory:
        there = rows(file, **settings)
        assert memory.most > 0
    assert content(there) == content(here)


def test_memory_follows_the_window(tmp_path):
    """Every window takes what the first did, and leaves nothing."""
    file, took = written(tmp_path / "w.safetensors"), []
    with on_stand_in() as memory:
        before = memory.now
        predictor = ProposeReducePredictor(
            ProposeReducePredictConfig(weights=file, min_score=0.01, batch_size=2)
        )
        network_alone = memory.now
        for number in range(3):
            memory.forget_most()
            window = ShardWindow(video=fake_video("v", 14), start=0, stop=14, window=number)
            assert any(map(len, predictor.predict(batches(pictures(7), 3), window)))
            took.append(memory.most)
            assert memory.now == network_alone
        del predictor
        assert memory.now == before
    assert took == [took[0]] * 3 and took[0] > network_alone > before


def test_what_is_kept_of_frames_waits_on_the_host():
    device, frames = stand_in(), list(pictures(6, (36, 64)))
    on_device = network().to(device)
    before = MEMORY.now
    seen = WindowFrames(on_device, frames, 2, 1 << 30)
    with torch.inference_mode():
        for frame in range(6):
            assert seen[frame].query.key_1KHW.device == device
            assert MEMORY.now == before
    assert seen.computed == 6


def test_idol_gives_the_same_rows_and_leaves_nothing(tmp_path):
    file, frames = idol.write_weights(tmp_path / "w.safetensors"), idol.pictures()
    here = idol.predicted(file, frames)
    with on_stand_in() as memory:
        before = memory.now
        there = idol.predicted(file, frames)
        assert memory.most > before == memory.now
    idol.assert_same(here, there)


def test_a_detector_gives_the_same_rows(tmp_path):
    settings = MaskRcnnConfig(width=8, pyramid=16, hidden=32, smallest_anchor_px=8)
    about = About(
        recipe="flow_match_detector",
        settings=as_values(settings),
        categories=[Category(label=1, name="instance")],
    )
    torch.manual_seed(0)
    file = tmp_path / "w.safetensors"
    file.write_bytes(to_bytes(mask_rcnn.small(settings, 2), about))
    config = FlowMatchPredictConfig(
        detector="torchvision:maskrcnn_small", weights=str(file), min_score=0.0
    )
    here = detected(config)
    with on_stand_in() as memory:
        there = detected(config)
        assert memory.most > 0
    assert sum(map(len, here)) > 0
    for one, other in zip(here, there, strict=True):
        assert one.masks == other.masks
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)


def detected(config: FlowMatchPredictConfig) -> list[FramePrediction]:
    frames = np.random.default_rng(0).integers(0, 255, (3, 6, 10, 3), np.uint8)
    batch = FrameBatch(
        video_id="v",
        frame_index=np.arange(3),
        pts_seconds=np.arange(3) / 10,
        frames=frames.repeat(16, 1).repeat(16, 2),
        rank=np.arange(3),
    )
    window = ShardWindow(video=fake_video("v", 3), start=0, stop=3)
    return list(FLOW_MATCH.make_predictor(config).predict(iter([batch]), window))
