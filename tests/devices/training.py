"""Every recipe takes the same step on a device as on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.ops import boxes

from tests.support.idol import SMALL
from tests.support.stand_in import on_stand_in, stand_in
from tests.support.training import job_values, losses, write_clips
from vis_core.config import as_values
from vis_core.models.weights import read_weights
from vis_core.node_files import CACHE_VARIABLE
from vis_core.progress import Silence
from vis_core.training.job import make_train_job
from vis_core.training.loop import train_here

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
