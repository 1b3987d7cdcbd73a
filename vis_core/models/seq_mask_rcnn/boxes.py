"""Boxes by the rules of old (legacy) or of today: sizes, offsets, clipping, suppression.

Legacy boxes hold their right and lower pixels, so a width is x2 - x1 + 1. Everything that differs
follows from this one pixel, the `edge`.

Shapes: N or M boxes, K offsets per box (one per class), 4 corners or offsets.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision import ops

_LARGEST = math.log(1000 / 16)  # of the logarithm of a change in size


@dataclasses.dataclass(frozen=True, slots=True)
class BoxRules:
    legacy: bool

    @property
    def edge(self) -> float:
        return 1.0 if self.legacy else 0.0

    def centres_and_sizes(self, boxes_N4: Tensor) -> tuple[Tensor, Tensor]:
        low, high = boxes_N4[..., :2], boxes_N4[..., 2:]
        return (low + high) / 2, high - low + self.edge

    def decode(self, boxes_N4: Tensor, offsets_NK4: Tensor, stds: Sequence[float]) -> Tensor:
        """Boxes (N, K, 4) that lie at these offsets."""
        centres, sizes = (part[:, None] for part in self.centres_and_sizes(boxes_N4))
        offsets = offsets_NK4 * offsets_NK4.new_tensor(stds)
        # torchvision bounds growth alone.
        scales = offsets[..., 2:].clamp(-_LARGEST if self.legacy else None, _LARGEST)
        centres, halves = centres + sizes * offsets[..., :2], sizes * scales.exp() / 2
        inside = self.edge / 2
        return torch.cat([centres - halves + inside, centres + halves - inside], -1)

    def encode(self, boxes_N4: Tensor, targets_N4: Tensor, stds: Sequence[float]) -> Tensor:
        """The offsets at which `decode` finds the targets."""
        centres, sizes = self.centres_and_sizes(boxes_N4)
        target_centres, target_sizes = self.centres_and_sizes(targets_N4)
        offsets = torch.cat(
            [(target_centres - centres) / sizes, (target_sizes / sizes).log()], dim=-1
        )
        return offsets / offsets.new_tensor(stds)

    def clip(self, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """Inside an image of (height, width)."""
        height, width = size
        highest = boxes.new_tensor([width, height, width, height]) - self.edge
        return torch.minimum(boxes.clamp(min=0), highest)

    def iou(self, one_N4: Tensor, other_M4: Tensor) -> Tensor:
        """(N, M)"""
        added = one_N4.new_tensor([0.0, 0.0, self.edge, self.edge])
        found: Tensor = ops.box_iou(one_N4 + added, other_M4 + added)
        return found

    def suppress(self, boxes_N4: Tensor, scores_N: Tensor, above: float) -> Tensor:
        """Indices that stay, by falling score; an overlap of exactly `above` stays."""
        added = boxes_N4.new_tensor([0.0, 0.0, self.edge, self.edge])
        kept: Tensor = ops.nms(boxes_N4 + added, scores_N, above)
        return kept
