"""Training of flow_match's detector: a small class-agnostic Mask R-CNN on single frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vis_core.data.sample import Sample
from vis_core.models import mask_rcnn
from vis_core.models.mask_rcnn import MaskRcnnConfig, MaskRcnnLosses
from vis_core.training.recipe import LossTerm, LossTerms, NoLearning, Recipe
from vis_core.types import Category


class DetectorModule(nn.Module):
    """The network and its losses, in the loop's terms."""

    def __init__(self, config: MaskRcnnConfig, categories: Sequence[Category]) -> None:
        super().__init__()
        self.losses = MaskRcnnLosses(mask_rcnn.small(config, len(categories) + 1))
        self.network = self.losses.network

    def forward(self, inputs: Mapping[str, Any], seeds: Sequence[int]) -> LossTerms:
        # Pictures travel as bytes: a quarter of what floats would take.
        kind = torch.get_default_dtype()
        pictures = [picture.to(kind) / 255 for picture in inputs["pictures"]]
        found = self.losses(pictures, inputs["targets"], seeds)
        return {
            name.removeprefix("loss_"): LossTerm(total, count)
            for name, (total, count) in found.items()
        }


def collate(
    config: MaskRcnnConfig, learning: NoLearning, samples: Sequence[Sample]
) -> dict[str, Any]:
    """Every frame of every clip is a picture with targets in torchvision's terms."""
    pictures, targets = [], []
    for sample in samples:
        for position in range(len(sample)):
            pictures.append(torch.from_numpy(sample.frames[position].transpose(2, 0, 1).copy()))
            targets.append(_target(sample, position))
    return {"pictures": pictures, "targets": targets}


def _target(sample: Sample, position: int) -> dict[str, Tensor]:
    boxes = sample.boxes()[position]
    # Thinner than a pixel there is no box to regress.
    sides = boxes[:, 2:] - boxes[:, :2]
    keep = (sides >= 1).all(axis=1) & ~sample.crowd
    return {
        "boxes": torch.from_numpy(boxes[keep]),
        "labels": torch.from_numpy(sample.labels[keep] + 1),
        "masks": torch.from_numpy(sample.masks[position][keep].astype("uint8")),
    }


def _module(
    config: MaskRcnnConfig, learning: NoLearning, categories: Sequence[Category]
) -> nn.Module:
    return DetectorModule(config, categories)


def _system(weights: str) -> tuple[str, dict[str, Any]]:
    return "flow_match", {"detector": f"torchvision:{mask_rcnn.SMALL}", "weights": weights}


DETECTOR = Recipe(
    name="flow_match_detector",
    settings=MaskRcnnConfig,
    defaults={
        "sampling": {"num_frames": 1},
        "transforms": {
            "short_side_px": (160, 176, 192, 208, 224),
            "long_side_px": 640,
            "flip": 0.5,
        },
        "optimizer": {"kind": "adamw", "lr": 1e-3, "weight_decay": 0.01, "clip_norm": 5.0},
        "groups": [{"match": "*.bias", "weight_decay": 0.0}],
        "schedule": {"kind": "cosine", "warmup_steps": 50},
    },
    module=_module,
    collate=collate,
    system=_system,
    class_agnostic=True,
)
