"""IDOL's losses as sums; who calls divides by the matched queries, or by the objects contrasted.

Shape letters: Q queries, K classes, N matched queries, P positives, S samples, C numbers of an
embedding, H and W the grid of the masks.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou_loss, sigmoid_focal_loss

# The last layer's weights; earlier layers have the first five, each with the same weight.
WEIGHTS = {
    "loss_ce": 2.0,
    "loss_bbox": 5.0,
    "loss_giou": 2.0,
    "loss_mask": 2.0,
    "loss_dice": 5.0,
    "loss_reid": 2.0,
    "loss_reid_aux": 3.0,
}
MASK_STRIDE = 4
_NEGATIVES_PER_POSITIVE = 10


def class_loss(logits_QK: Tensor, queries_N: Tensor, labels_N: Tensor) -> Tensor:
    """Focal, over all queries and classes; queries without an object have no class."""
    truth_QK = torch.zeros_like(logits_QK)
    truth_QK[queries_N, labels_N] = 1
    summed: Tensor = sigmoid_focal_loss(logits_QK, truth_QK, reduction="sum")
    return summed


def box_losses(boxes_N4: Tensor, truth_N4: Tensor) -> tuple[Tensor, Tensor]:
    """Distance and 1 - GIoU of boxes (cx, cy, w, h)."""
    distance = F.l1_loss(boxes_N4, truth_N4, reduction="sum")
    corners = [box_convert(boxes, "cxcywh", "xyxy") for boxes in (boxes_N4, truth_N4)]
    return distance, generalized_box_iou_loss(*corners, reduction="sum")


def mask_losses(logits_NHW: Tensor, truth_NHW: Tensor) -> tuple[Tensor, Tensor]:
    """Focal, as a mean over each mask's pixels, and dice."""
    logits, truth = logits_NHW.flatten(1), truth_NHW.flatten(1).to(logits_NHW.dtype)
    focal = sigmoid_focal_loss(logits, truth).sum() / logits.shape[1]
    shares = logits.sigmoid()
    dice = 1 - (2 * (shares * truth).sum(1) + 1) / (shares.sum(1) + truth.sum(1) + 1)
    return focal, dice.sum()


def mask_truth(masks_NHW: Tensor, padded: tuple[int, int], stride: int = MASK_STRIDE) -> Tensor:
    """Masks on a grid, that of the logits unless said otherwise, of pictures padded to a size."""
    height, width = masks_NHW.shape[-2:]
    masks = F.pad(masks_NHW, (0, padded[1] - width, 0, padded[0] - height))
    first = stride // 2
    return masks[:, first::stride, first::stride]


def contrast_loss(anchor_C: Tensor, positives_PC: Tensor, negatives_SC: Tensor) -> Tensor:
    """log(1 + the sum of exp(negative - positive) over all pairs of products with the anchor)."""
    pairs = (negatives_SC @ anchor_C)[None] - (positives_PC @ anchor_C)[:, None]
    return F.pad(pairs.flatten(), (0, 1)).logsumexp(0)


def cosine_loss(anchor_C: Tensor, positives_PC: Tensor, negatives_SC: Tensor) -> Tensor:
    """Cosines pulled to 1 for positives and to 0 for negatives: a mean over both."""
    others = torch.cat([positives_PC, negatives_SC])
    truth = torch.zeros(len(others), dtype=others.dtype, device=others.device)
    truth[: len(positives_PC)] = 1
    return F.mse_loss(F.cosine_similarity(anchor_C[None], others), truth)


def drawn_negatives(positives: int, negatives: int, random: torch.Generator) -> Tensor:
    """Which negatives the cosine loss sees: ten for each positive, or all if there are fewer."""
    number = _NEGATIVES_PER_POSITIVE * max(positives, 1)
    return torch.randperm(negatives, generator=random)[:number]
