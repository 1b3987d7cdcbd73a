"""From regions to the objects of a key frame (docs/methods/propose_reduce.md).

Shapes: N boxes or masks, K classes with the background first, H x W pixels of a canvas.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.models.detection.roi_heads import paste_masks_in_image

from vis_core.models.seq_mask_rcnn.boxes import BoxRules


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DetectConfig:
    score: float = 0.2  # a class must exceed it; too high loses objects that no other frame shows
    overlap: float = 0.5  # of boxes of one class; too low merges neighbours
    most: int = 10  # objects per key frame; propagation's time grows with them
    mask_overlap: float = 0.2  # of masks of any class; the later one goes from here on


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Detections:
    """In order of class, then of falling score; more than `most` in order of score alone."""

    boxes_N4: Tensor
    scores_N: Tensor
    labels_N: Tensor  # from 1

    def __len__(self) -> int:
        return len(self.boxes_N4)

    def __repr__(self) -> str:
        return f"Detections({len(self)})"


def choose(
    rules: BoxRules, config: DetectConfig, boxes_NK4: Tensor, scores_NK: Tensor
) -> Detections:
    boxes, scores, labels = [boxes_NK4[:0, 0]], [scores_NK[:0, 0]], [scores_NK[:0, 0].long()]
    present = (scores_NK > config.score).any(dim=0).tolist()
    for label in range(1, scores_NK.shape[1]):
        if not present[label]:
            continue
        here = scores_NK[:, label] > config.score
        of_class, by = boxes_NK4[here, label], scores_NK[here, label]
        kept = rules.suppress(of_class, by, config.overlap)
        boxes.append(of_class[kept])
        scores.append(by[kept])
        labels.append(torch.full_like(kept, label))
    found = Detections(
        boxes_N4=torch.cat(boxes), scores_N=torch.cat(scores), labels_N=torch.cat(labels)
    )
    return _best(found, config.most)


def _best(found: Detections, most: int) -> Detections:
    """The release sorts only what it has to cut, and mask suppression goes by this order."""
    if len(found) <= most:
        return found
    first = found.scores_N.sort(descending=True, stable=True).indices[:most]
    return Detections(
        boxes_N4=found.boxes_N4[first],
        scores_N=found.scores_N[first],
        labels_N=found.labels_N[first],
    )


def paste(rules: BoxRules, soft_NSS: Tensor, boxes_N4: Tensor, size: tuple[int, int]) -> Tensor:
    """Soft masks (N, H, W) on a canvas of (height, width)."""
    if not len(soft_NSS):
        return torch.zeros(0, *size, device=soft_NSS.device)
    if not rules.legacy:
        soft_N1HW: Tensor = paste_masks_in_image(soft_NSS[:, None], boxes_N4, size)
        return soft_N1HW[:, 0]
    canvas = torch.zeros(len(soft_NSS), *size, device=soft_NSS.device)
    for index, (x1, y1, x2, y2) in enumerate(boxes_N4.int().tolist()):
        box = (max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
        soft = functional.interpolate(soft_NSS[index, None, None], size=box, mode="bilinear")[0, 0]
        place = canvas[index, max(y1, 0) : y1 + box[0], max(x1, 0) : x1 + box[1]]
        top, left = max(-y1, 0), max(-x1, 0)
        place.copy_(soft[top : top + place.shape[0], left : left + place.shape[1]])
    return canvas


def suppress_masks(masks_NHW: Tensor, overlap: float) -> Tensor:
    """Indices of masks that stay: each overlaps those before it by less than `overlap`.

    Two empty masks both stay, as 0 / 0 is no overlap.
    """
    flat = masks_NHW.flatten(1).float()
    shared, areas = flat @ flat.T, flat.sum(dim=1)
    iou = (shared / (areas[:, None] + areas - shared)).nan_to_num(0.0).tolist()
    kept: list[int] = []
    for index in range(len(iou)):
        if all(iou[index][other] < overlap for other in kept):
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long, device=masks_NHW.device)
