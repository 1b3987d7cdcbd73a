"""What anchors, proposals and masks are trained to be (docs/methods/propose_reduce.md).

Shapes: A anchors or proposals, G true objects, N chosen regions, H x W pixels, S x S bins.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchvision import ops

from vis_core.models.seq_mask_rcnn.boxes import BoxRules

BACKGROUND, IGNORED = -1, -2


def assign(
    rules: BoxRules,
    boxes_A4: Tensor,
    truth_G4: Tensor,
    *,
    positive: float,
    negative: float,
    closest: float | None,
) -> Tensor:
    """(A) the true object of each box, or BACKGROUND, or IGNORED.

    With `closest`, an object also gets the boxes that overlap it most, if by that much; of several
    objects that claim a box so, the last one has it.
    """
    if not len(truth_G4):
        return boxes_A4.new_full((len(boxes_A4),), BACKGROUND, dtype=torch.long)
    iou_GA = rules.iou(truth_G4, boxes_A4)
    best_A, owner_A = iou_GA.max(dim=0)
    found = torch.full_like(owner_A, IGNORED)
    found[best_A < negative] = BACKGROUND
    found = torch.where(best_A >= positive, owner_A, found)
    if closest is not None:
        most_G = iou_GA.max(dim=1).values
        for number in torch.where(most_G >= closest)[0].tolist():
            found[iou_GA[number] == most_G[number]] = number
    return found


def inside(boxes_A4: Tensor, size: tuple[int, int]) -> Tensor:
    """(A) which boxes lie in the picture of (height, width) as a whole."""
    low, high = boxes_A4[:, :2], boxes_A4[:, 2:]
    limit = high.new_tensor([size[1], size[0]])
    return (low >= 0).all(dim=1) & (high < limit).all(dim=1)


def mask_targets(
    rules: BoxRules, masks_GHW: Tensor, owner_N: Tensor, boxes_N4: Tensor, bins: int
) -> Tensor:
    """(N, S, S) zeros and ones: what each box shows of its object."""
    if not len(boxes_N4):
        return boxes_N4.new_zeros(0, bins, bins)
    if not rules.legacy:
        rois = torch.cat([owner_N[:, None].to(boxes_N4), boxes_N4], dim=1)
        soft: Tensor = ops.roi_align(masks_GHW[:, None].to(boxes_N4), rois, bins, aligned=True)
        return (soft[:, 0] >= 0.5).to(boxes_N4)
    found = []
    for owner, (x1, y1, x2, y2) in zip(owner_N.tolist(), boxes_N4.int().tolist(), strict=True):
        x1, y1 = max(x1, 0), max(y1, 0)
        cut = masks_GHW[owner, y1 : max(y2, y1) + 1, x1 : max(x2, x1) + 1].to(boxes_N4)
        soft = functional.interpolate(cut[None, None], size=(bins, bins), mode="bilinear")
        found.append((soft[0, 0] >= 0.5).to(boxes_N4))
    return torch.stack(found)
