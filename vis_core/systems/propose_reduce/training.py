"""Training of Seq Mask R-CNN: on single frames for detection, on pairs for propagation as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vis_core.data.sample import Sample
from vis_core.models.seq_mask_rcnn import SeqMaskRcnn, SeqMaskRcnnConfig
from vis_core.models.seq_mask_rcnn.training import SeqMaskRcnnLearning, SeqMaskRcnnLosses, View
from vis_core.training.recipe import LossTerm, LossTerms, Recipe
from vis_core.types import Category


class ProposeReduceModule(nn.Module):
    """The network and its losses, in the loop's terms."""

    def __init__(
        self,
        config: SeqMaskRcnnConfig,
        learning: SeqMaskRcnnLearning,
        categories: Sequence[Category],
    ) -> None:
        super().__init__()
        self.losses = SeqMaskRcnnLosses(SeqMaskRcnn(config, len(categories) + 1), learning)
        self._weights = {"class": learning.class_weight, "attention": learning.attention_loss}
        self.network = self.losses.network

    def forward(self, inputs: Mapping[str, Any], seeds: Sequence[int]) -> LossTerms:
        found = self.losses(inputs["clips"], seeds)
        return {
            name: LossTerm(total, count, self._weights.get(name, 1.0))
            for name, (total, count) in found.items()
        }


def collate(
    config: SeqMaskRcnnConfig, learning: SeqMaskRcnnLearning, samples: Sequence[Sample]
) -> dict[str, Any]:
    """Clips, each of which is the views of its frames."""
    clips = [[_view(sample, frame) for frame in range(len(sample))] for sample in samples]
    return {"clips": clips}


def _view(sample: Sample, position: int) -> View:
    boxes = sample.boxes()[position]
    # Thinner than a pixel there is no box to regress.
    keep = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(axis=1) & ~sample.crowd
    return View(
        picture_3HW=torch.from_numpy(sample.frames[position].transpose(2, 0, 1).copy()),
        boxes_G4=torch.from_numpy(boxes[keep]).to(torch.get_default_dtype()),
        labels_G=torch.from_numpy(sample.labels[keep] + 1),
        ids_G=torch.from_numpy(keep.nonzero()[0]),
        masks_GHW=torch.from_numpy(sample.masks[position][keep].astype("uint8")),
    )


def _module(
    config: SeqMaskRcnnConfig, learning: SeqMaskRcnnLearning, categories: Sequence[Category]
) -> nn.Module:
    return ProposeReduceModule(config, learning, categories)


def _system(weights: str) -> tuple[str, dict[str, Any]]:
    return "propose_reduce", {"weights": weights}


PROPOSE_REDUCE = Recipe(
    name="propose_reduce",
    settings=SeqMaskRcnnConfig,
    defaults={
        "sampling": {"num_frames": 2, "others": "shared_classes", "order": "base_first"},
        "transforms": {"short_side_px": (360,), "long_side_px": 640, "flip": 0.5},
        # As released, at batches of 20; its steps down after half of the time are in docs/jobs.
        "optimizer": {
            "kind": "sgd",
            "lr": 3.33e-5,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "clip_norm": 35.0,
        },
        "schedule": {"kind": "cosine", "warmup_steps": 10, "warmup_from": 1 / 3},
    },
    module=_module,
    collate=collate,
    system=_system,
    learning=SeqMaskRcnnLearning,
)
