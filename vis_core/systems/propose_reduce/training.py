"""Training of Seq Mask R-CNN: on single frames for detection, on pairs for propagation as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from vis_core.data.sample import Sample, boxes_of
from vis_core.models.seq_mask_rcnn import SeqMaskRcnn, SeqMaskRcnnConfig
from vis_core.models.seq_mask_rcnn.training import SeqMaskRcnnLearning, SeqMaskRcnnLosses, View
from vis_core.training.recipe import LossTerm, LossTerms, Recipe
from vis_core.types import Category

_NEXT = 0x9E3779B9  # between the seeds of a sample's clips


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
        of_clips = [
            (seeds[sample] + _NEXT * number) & 0x7FFF_FFFF_FFFF_FFFF
            for sample, number in inputs["places"]
        ]
        found = self.losses(inputs["clips"], of_clips)
        return {
            name: LossTerm(total, count, self._weights.get(name, 1.0))
            for name, (total, count) in found.items()
        }


def collate(
    config: SeqMaskRcnnConfig, learning: SeqMaskRcnnLearning, samples: Sequence[Sample]
) -> dict[str, Any]:
    """Clips, and of each its sample and its place among that sample's clips."""
    clips, places = [], []
    for position, sample in enumerate(samples):
        views = [_view(sample, frame) for frame in range(len(sample))]
        found = [views] if learning.windows_px is None else _windows(views, learning.windows_px)
        clips += found
        places += [(position, number) for number in range(len(found))]
    return {"clips": clips, "places": places}


def _windows(views: Sequence[View], side: int) -> list[list[View]]:
    """A window of each frame around each instance that all of them show; else the first's middle.

    Propagation knows nothing of where things are: windows of a pair need not be at one place.
    """
    shared = [number for number in views[0].ids_G.tolist() if all(number in v.ids_G for v in views)]
    return [[_window(view, side, number) for view in views] for number in shared or [None]]


def _window(view: View, side: int, number: int | None) -> View:
    height, width = view.size
    y, x = height // 2, width // 2
    if number is not None:
        box = view.boxes_G4[int(torch.where(view.ids_G == number)[0])]
        x, y = (int(value) for value in (box[:2] + box[2:]) / 2)
    top, left = (
        max(0, min(middle - side // 2, whole - side)) for middle, whole in ((y, height), (x, width))
    )
    rows, columns = slice(top, top + side), slice(left, left + side)
    masks = view.masks_GHW[:, rows, columns]
    boxes = torch.from_numpy(boxes_of(masks.numpy().astype(bool))).to(view.boxes_G4)
    keep = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(dim=1)
    return View(
        picture_3HW=view.picture_3HW[:, rows, columns],
        boxes_G4=boxes[keep],
        labels_G=view.labels_G[keep],
        ids_G=view.ids_G[keep],
        masks_GHW=masks[keep],
    )


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
