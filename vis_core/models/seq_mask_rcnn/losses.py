"""The losses, each as a sum; the caller knows how many it is over.

Propose-Reduce, section 3.1.3, and Mask R-CNN's.

Shapes: N regions, K classes with the background first, S x S bins, O objects, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from vis_core.models.seq_mask_rcnn.memory import Memory

_LEAST = 1e-6
_RPN_BETA = 1 / 9  # offsets smaller than that count by their square


def proposal_losses(
    logits_N: Tensor, offsets_N4: Tensor, is_object_N: Tensor, targets_N4: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the sampled anchors, whether they are objects; of those that are, where."""
    objectness = functional.binary_cross_entropy_with_logits(
        logits_N, is_object_N.to(logits_N), reduction="sum"
    )
    return objectness, _smooth(offsets_N4[is_object_N], targets_N4[is_object_N], _RPN_BETA)


def region_losses(
    logits_NK: Tensor, offsets_NK4: Tensor, labels_N: Tensor, targets_N4: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the sampled regions their class, background too; of objects the box by their class."""
    classes = functional.cross_entropy(logits_NK, labels_N, reduction="sum")
    objects = torch.where(labels_N > 0)[0]
    return classes, _smooth(offsets_NK4[objects, labels_N[objects]], targets_N4[objects], 1.0)


def mask_losses(logits_NKSS: Tensor, labels_N: Tensor, targets_NSS: Tensor) -> Tensor:
    """(N) the mean over the pixels of each object's own channel."""
    each = torch.arange(len(labels_N), device=labels_N.device)
    found = functional.binary_cross_entropy_with_logits(
        logits_NKSS[each, labels_N], targets_NSS, reduction="none"
    )
    return found.mean(dim=(1, 2))


def soft_iou_losses(soft_OHW: Tensor, truth_OHW: Tensor) -> Tensor:
    """Scale-balanced soft IoU (O): what an object counts does not depend on its size."""
    truth = truth_OHW.to(soft_OHW)
    shared = torch.minimum(soft_OHW, truth).sum(dim=(1, 2))
    either = torch.maximum(soft_OHW, truth).sum(dim=(1, 2))
    return 1 - shared / (either + 1e-6)


def attention_losses(
    memory: Memory, query_1KHW: Tensor, remembered_OHW: Tensor, truth_OHW: Tensor
) -> Tensor:
    """(O) how surprising an object's places are, by where each place of the grid reads.

    A loss of ours. Places of the object count as much as all others together.
    """
    size, kind = (query_1KHW.shape[2], query_1KHW.shape[3]), torch.get_default_dtype()
    inside, wanted = (
        functional.adaptive_avg_pool2d(masks.to(kind), size).flatten(1)
        for masks in (remembered_OHW, truth_OHW)
    )
    queries_QK = query_1KHW[0].flatten(1).T
    alike_OQM = (memory.keys_OMK @ queries_QK.T).to(kind).mT * queries_QK.shape[1] ** -0.5
    all_OQ = alike_OQM.logsumexp(2)
    objects, others = (
        (own * (_read(alike_OQM, theirs) - all_OQ)).sum(1) / own.sum(1).clamp(min=1)
        for own, theirs in ((wanted, inside), (1 - wanted, 1 - inside))
    )
    return -(objects + others)


def _read(alike_OQM: Tensor, share_OM: Tensor) -> Tensor:
    """(O, Q) logarithms of what each place reads from places of which this share counts."""
    return (alike_OQM + share_OM.clamp(min=_LEAST).log()[:, None]).logsumexp(2)


def _smooth(found: Tensor, wanted: Tensor, beta: float) -> Tensor:
    return functional.smooth_l1_loss(found, wanted, beta=beta, reduction="sum")
