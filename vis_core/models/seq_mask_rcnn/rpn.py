"""The region proposal network (docs/methods/propose_reduce.md).

Shapes: B images, A anchors per place, N boxes, H x W places.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vis_core.models.seq_mask_rcnn.anchors import RATIOS, base_anchors, grid_anchors
from vis_core.models.seq_mask_rcnn.boxes import BoxRules

STRIDES = (4, 8, 16, 32, 64)  # of P2 to P6
STDS = (1.0, 1.0, 1.0, 1.0)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProposalConfig:
    per_level: int = 200  # too few lose objects in crowds
    total: int = 200  # regions of the box head; its time grows with them
    overlap: float = 0.7  # too low merges neighbours, too high repeats one object


class RpnHead(nn.Module):
    def __init__(self, pyramid: int) -> None:
        super().__init__()
        self.rpn_conv = nn.Conv2d(pyramid, pyramid, 3, padding=1)
        self.rpn_cls = nn.Conv2d(pyramid, len(RATIOS), 1)
        self.rpn_reg = nn.Conv2d(pyramid, 4 * len(RATIOS), 1)
        for name, parameter in self.named_parameters():
            if name.endswith("weight"):
                nn.init.normal_(parameter, std=0.01)
            else:
                nn.init.zeros_(parameter)

    def forward(self, levels: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Logits (B, N) and offsets (B, N, 4) of each level's anchors, in their order."""
        found = []
        for x_BCHW in levels:
            hidden = functional.relu(self.rpn_conv(x_BCHW))
            logits_BN = self.rpn_cls(hidden).permute(0, 2, 3, 1).flatten(1)
            offsets = self.rpn_reg(hidden).permute(0, 2, 3, 1)
            found.append((logits_BN, offsets.reshape(len(x_BCHW), -1, 4)))
        return found


def anchors_of(levels: Sequence[Tensor], scale: int, *, legacy: bool) -> list[Tensor]:
    """The anchors (N, 4) of each level; half precision has no place for them beyond 256."""
    kind = torch.get_default_dtype()
    return [
        grid_anchors(
            base_anchors(stride, scale, legacy=legacy).to(level.device, kind),
            (level.shape[-2], level.shape[-1]),
            stride,
        )
        for level, stride in zip(levels, STRIDES, strict=True)
    ]


def propose(
    rules: BoxRules,
    config: ProposalConfig,
    anchors: Sequence[Tensor],
    answers: Sequence[tuple[Tensor, Tensor]],
    size: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """Boxes (N, 4) and scores (N) of one image; `answers` are its logits (N) and offsets (N, 4)."""
    boxes, scores = [], []
    for anchors_N4, (logits_N, offsets_N4) in zip(anchors, answers, strict=True):
        best, first = logits_N.sigmoid().topk(min(config.per_level, len(logits_N)))
        found = rules.decode(anchors_N4[first], offsets_N4[first, None], STDS)[:, 0]
        found = rules.clip(found, size)
        kept = rules.suppress(found, best, config.overlap)[: config.per_level]
        boxes.append(found[kept])
        scores.append(best[kept])
    all_boxes, all_scores = torch.cat(boxes), torch.cat(scores)
    top, order = all_scores.topk(min(config.total, len(all_scores)))
    return all_boxes[order], top
