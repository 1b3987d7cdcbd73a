"""Training and detection on a device of their own; and the one that stands in for it is strict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import boxes

from tests.support.fakes import fake_video
from tests.support.idol import SMALL
from tests.support.stand_in import MEMORY, on_stand_in, stand_in
from tests.support.training import job_values, losses, write_clips
from vis_core.config import as_values
from vis_core.models.weights import read_weights
from vis_core.node_files import CACHE_VARIABLE
from vis_core.progress import Silence
from vis_core.systems.flow_match import FLOW_MATCH, FlowMatchPredictConfig
from vis_core.training.job import make_train_job
from vis_core.training.loop import train_here
from vis_core.types import FrameBatch, FramePrediction
from vis_core.windows import ShardWindow

_IDOL = {
    "recipe": "idol",
    "groups": [],
    "transforms": {"crop": 0.0, "short_side_px": [96], "long_side_px": 160},
}
_IDOL_NETWORK = {**as_values(SMALL), "short_side_px": 96}
_PROPOSE_REDUCE = {
    "recipe": "propose_reduce",
    "transforms": {"short_side_px": [54]},
    "learning": {"detect_in": "both"},
}
_PROPOSE_REDUCE_NETWORK = {
    **{"block": "basic", "blocks": [1, 1, 1, 1], "width": 8, "norm": "group", "pyramid": 8},
    **{"hidden": 16, "mask_channels": 8, "long_side_px": 96, "short_side_px": 54},
}
JOBS: dict[str, dict[str, Any]] = {
    "detector": {"recipe": "flow_match_detector"},
    "idol": {**_IDOL, "network": _IDOL_NETWORK},
    "idol swin": {**_IDOL, "network": {**_IDOL_NETWORK, "backbone": "swin_micro"}},
    "idol convnext": {**_IDOL, "network": {**_IDOL_NETWORK, "backbone": "convnext_micro"}},
    "propose_reduce": {**_PROPOSE_REDUCE, "network": {**_PROPOSE_REDUCE_NETWORK, "legacy": False}},
    "propose_reduce as released": {**_PROPOSE_REDUCE, "network": _PROPOSE_REDUCE_NETWORK},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("devices") / "clips", 0, 1)


def trained(job: str, clips: Path, out: Path) -> tuple[dict[str, float], dict[str, Tensor]]:
    """What one step said, and the weights after it."""
    values = job_values(clips, out, schedule={"steps": 1, "warmup_steps": 0}, loop={"ema": 0.9})
    values |= {"optimizer": {"kind": "sgd", "lr": 0.1}, **JOBS[job]}
    train_here(make_train_job(values), Silence())
    (said,) = losses(out)
    return said, read_weights(str(out / "weights" / "last.safetensors")).tensors


@pytest.mark.parametrize("job", JOBS)
def test_training_on_a_device_is_training(clips, tmp_path, monkeypatch, job):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    # torchvision takes this one only where there are many boxes: more on devices than here.
    monkeypatch.setattr(boxes, "_batched_nms_coordinate_trick", boxes._batched_nms_vanilla)
    stand_in()  # torch counts its devices when it first goes backward
    said, weights = trained(job, clips, tmp_path / "here")
    with on_stand_in() as memory:
        said_there, weights_there = trained(job, clips, tmp_path / "there")
        assert memory.most > sum(tensor.nbytes for tensor in weights.values())
    assert said_there == pytest.approx(said, rel=1e-5)
    assert weights.keys() == weights_there.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(weights_there[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_a_detector_on_a_device_finds_the_same(clips, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    trained("detector", clips, tmp_path / "run")
    config = FlowMatchPredictConfig(
        detector="torchvision:maskrcnn_small",
        weights=str(tmp_path / "run" / "weights" / "last.safetensors"),
        min_score=0.0,
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
    )
    window = ShardWindow(video=fake_video("v", 3), start=0, stop=3)
    return list(FLOW_MATCH.make_predictor(config).predict(iter([batch]), window))


# --- the stand-in ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: here + there,
        lambda here, there: torch.cat([there, here]),
        lambda here, there: here[there.long()],
        lambda here, there: there.index_put_((torch.tensor([0, 1]),), here[:2]),
        lambda here, there: torch.nn.functional.linear(there[None], here[None]),
    ],
)
def test_tensors_of_two_places_do_not_mix(mixed):
    with pytest.raises(RuntimeError, match="on the same device"):
        mixed(torch.zeros(3), torch.zeros(3, device=stand_in()))


def test_what_accelerators_allow_is_allowed():
    there = torch.arange(3.0, device=stand_in())
    assert (there + torch.tensor(1.0)).tolist() == [1, 2, 3]
    assert there[torch.tensor([2, 0])].tolist() == [2, 0]
    assert there.cpu().numpy().tolist() == [0, 1, 2]
    assert float(there.sum()) == 3


def test_nothing_comes_back_that_is_not_asked_for():
    there = torch.zeros(3, device=stand_in())
    assert there.device == stand_in() and (there + 1).device == stand_in()
    with pytest.raises((TypeError, RuntimeError), match="numpy"):
        there.numpy()


def test_bytes_are_counted_while_tensors_live():
    """In pieces of 512; a view takes none; what came between counts for the most."""
    before = MEMORY.now
    there = torch.zeros(300, device=stand_in())
    view = there[10:]
    assert MEMORY.now - before == 1536
    MEMORY.forget_most()
    both = torch.cat([there, there])
    del both, there
    assert (MEMORY.now - before, MEMORY.most - before) == (1536, 1536 + 2560)
    del view
    assert MEMORY.now == before
