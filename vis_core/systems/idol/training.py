"""Training of IDOL: instances of one picture of a pair, and which of the other are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from vis_core.data.sample import Sample
from vis_core.errors import UsageError
from vis_core.models.idol.criterion import Pair, Sum, Target, losses_of, token_loss
from vis_core.models.idol.losses import WEIGHTS
from vis_core.models.idol.network import Idol, renamed
from vis_core.models.idol.settings import IdolLearning, IdolSettings
from vis_core.training.recipe import LossTerm, LossTerms, Recipe
from vis_core.types import Category

_SMALLEST = 1e-5  # side of a box, as a share of the picture


class IdolModule(nn.Module):
    """The network and its losses, in the loop's terms."""

    def __init__(
        self, settings: IdolSettings, learning: IdolLearning, categories: Sequence[Category]
    ) -> None:
        super().__init__()
        self._learning = learning
        self.network = Idol(settings.config(len(categories)))
        if learning.detection_only:
            self.network.detr.reid_embed_head.requires_grad_(False)

    def forward(self, inputs: Mapping[str, Any], seeds: Sequence[int]) -> LossTerms:
        # Pictures travel as bytes: a quarter of what floats would take.
        kind, network = torch.get_default_dtype(), self.network
        pictures = [picture.to(kind) for picture in inputs["pictures"]]
        targets = [Target(**values) for values in inputs["targets"]]
        pairs = [Pair(**values) for values in inputs["pairs"]]
        found: dict[str, Sum] = {}
        if self._learning.tokens_only:
            tokens = network.tokens(pictures)
        else:
            decoded = network(pictures)
            tokens = decoded.tokens
            found = losses_of(network, decoded, pictures, targets, pairs, seeds[: len(pairs)])
        if self._learning.token_loss:
            found["loss_tokens"] = token_loss(network, tokens, targets)
        return {
            name.removeprefix("loss_"): LossTerm(total, over, self._weight(name))
            for name, (total, over) in found.items()
        }

    def _weight(self, name: str) -> float:
        """Earlier layers, named by a number, weigh as much as the last."""
        if name == "loss_tokens":
            return self._learning.token_loss
        stem, _, layer = name.rpartition("_")
        return WEIGHTS[stem if layer.isdigit() else name]


def collate(
    settings: IdolSettings, learning: IdolLearning, samples: Sequence[Sample]
) -> dict[str, Any]:
    """Pictures, what is to be found in them, and which are pairs; clips in their order."""
    pictures: list[Tensor] = []
    targets: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for sample in samples:
        first = len(pictures)
        pictures += [torch.from_numpy(frame.transpose(2, 0, 1).copy()) for frame in sample.frames]
        boxes, seen = _boxes(sample)
        if learning.detection_only:
            targets += [
                _target(sample, boxes, seen[position], position, first)
                for position in range(len(sample))
            ]
            continue
        if len(sample) != 2:
            raise UsageError(
                f"sampling: expected num_frames 2, of a pair, got {len(sample)}; pictures alone"
                " are for learning: {detection_only: true}"
            )
        key, other = seen
        pairs.append(
            {
                "target": len(targets),
                "picture": first + 1,
                "boxes_G4": torch.from_numpy(boxes[1][key]),
                "valid_G": torch.from_numpy(other[key]),
            }
        )
        targets.append(_target(sample, boxes, key, 0, first))
        if learning.both_detect:
            targets.append(_target(sample, boxes, other, 1, first))
    return {"pictures": pictures, "targets": targets, "pairs": pairs}


def _boxes(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (L, N, 4) as shares (cx, cy, w, h), and whether there is something to find (L, N)."""
    corners = np.stack(sample.boxes())
    for position, frame in enumerate(sample.frames):
        corners[position] /= np.array([frame.shape[1], frame.shape[0]] * 2, np.float32)
    boxes = box_convert(torch.from_numpy(corners), "xyxy", "cxcywh").numpy()
    return boxes, (boxes[..., 2:] > _SMALLEST).all(-1) & ~sample.crowd


def _target(
    sample: Sample, boxes: np.ndarray, seen: np.ndarray, position: int, first: int
) -> dict[str, Any]:
    return {
        "picture": first + position,
        "boxes_G4": torch.from_numpy(boxes[position][seen]),
        "labels_G": torch.from_numpy(sample.labels[seen]),
        "masks_GHW": torch.from_numpy(sample.masks[position][seen].astype("uint8")),
    }


def _module(
    settings: IdolSettings, learning: IdolLearning, categories: Sequence[Category]
) -> nn.Module:
    return IdolModule(settings, learning, categories)


def _system(weights: str) -> tuple[str, dict[str, Any]]:
    return "idol", {"weights": weights}


IDOL_PAIRS = Recipe(
    name="idol",
    settings=IdolSettings,
    defaults={
        "sampling": {"num_frames": 2, "others": "near", "reach": 10, "order": "ascending"},
        "transforms": {
            "crop": 0.5,
            "crop_px": (384, 600),
            "short_side_px": (320, 352, 392, 416, 448, 480, 512, 544, 576, 608, 640),
            "long_side_px": 768,
            "flip": 0.5,
        },
        "optimizer": {"kind": "adamw", "lr": 1e-4, "weight_decay": 1e-4, "clip_norm": 0.01},
        "groups": [{"match": "*backbone*", "lr_factor": 0.1}],
        "schedule": {"kind": "step", "milestones": (8000,), "gamma": 0.1},
        "loop": {"batch_size": 32},
    },
    module=_module,
    collate=collate,
    system=_system,
    renamed=renamed,
    learning=IdolLearning,
)
