"""How sure a frame is of an object's class; the linker takes means over frames.

Propose-Reduce, section 3.2 (eq. 2).

Shapes: O objects, K classes with the background first, H x W pixels of the padded image.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vis_core.models.seq_mask_rcnn.boxes import BoxRules
from vis_core.models.seq_mask_rcnn.network import Features, SeqMaskRcnn


def class_scores_of_masks(
    network: SeqMaskRcnn, features: Features, masks_OHW: Tensor
) -> tuple[Tensor, Tensor]:
    """Which binary masks are visible (O), and scores (O, K), zeros for those that are not."""
    visible_O = masks_OHW.flatten(1).any(dim=1)
    boxes = boxes_of_masks(network.rules, masks_OHW[visible_O])
    scores = network.class_scores(features, boxes)
    found = scores.new_zeros(len(masks_OHW), scores.shape[1])
    found[visible_O] = scores
    return visible_O, found


def boxes_of_masks(rules: BoxRules, masks_OHW: Tensor) -> Tensor:
    """Boxes (O, 4) one pixel larger than the masks on each side; none may be empty."""
    height, width = masks_OHW.shape[1:]
    x1, x2 = _first_and_last(masks_OHW.any(dim=1))
    y1, y2 = _first_and_last(masks_OHW.any(dim=2))
    behind = 2 - rules.edge  # from the last pixel to the box's right side
    boxes = torch.stack([x1 - 1, y1 - 1, x2 + behind, y2 + behind], dim=1)
    return rules.clip(boxes, (height, width))


def _first_and_last(present_ON: Tensor) -> tuple[Tensor, Tensor]:
    number = present_ON.shape[1]
    first = present_ON.int().argmax(dim=1)
    last = number - 1 - present_ON.flip(1).int().argmax(dim=1)
    return first.float(), last.float()
