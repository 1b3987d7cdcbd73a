"""Sequence reduction as plain loops over pairs, frames and masks: slow, and close to its text.

A sequence is its class scores and its masks by frame; sequences come in the order of proposals.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from pycocotools import mask as coco


@dataclasses.dataclass(kw_only=True)
class Proposed:
    """A proposed sequence; `masks` holds run lengths, `scores` the class scores of its frames."""

    masks: Mapping[int, bytes]
    scores: Mapping[int, Sequence[float]]

    def mean(self, num_categories: int) -> np.ndarray:
        """Over the frames where it is visible."""
        rows = [self.scores[frame] for frame in sorted(self.masks)]
        return np.mean(rows, axis=0, dtype=np.float64) if rows else np.zeros(num_categories)


def sequence_iou(a: Proposed, b: Proposed, size: tuple[int, int]) -> float:
    """Eq. 3: the sum of intersections over the sum of unions."""
    common = union = 0
    for frame in sorted({*a.masks, *b.masks}):
        masks = [
            {"size": list(size), "counts": one.masks[frame]} for one in (a, b) if frame in one.masks
        ]
        if len(masks) == 2:
            common += int(coco.area(coco.merge(masks, True)))
        union += int(coco.area(coco.merge(masks)))
    return common / union if union else 0.0


def all_ious(sequences: Sequence[Proposed], size: tuple[int, int]) -> np.ndarray:
    ious = np.zeros((len(sequences), len(sequences)))
    for i in range(len(sequences)):
        for j in range(i + 1, len(sequences)):
            ious[i, j] = ious[j, i] = sequence_iou(sequences[i], sequences[j], size)
    return ious


def hard(scores: np.ndarray, ious: np.ndarray, iou: float, min_score: float) -> list[int]:
    """Takes the best that is left, as long as there is one or none was taken yet."""
    left, kept = set(range(len(scores))), []
    while left:
        best = min(left, key=lambda i: (-scores[i].max(), i))
        if kept and scores[best].max() < min_score:
            break
        kept.append(best)
        left = {i for i in left if i != best and ious[best, i] < iou}
    return kept


def soft(
    scores: Sequence[float], ious: np.ndarray, sigma: float, min_score: float, max_kept: int
) -> dict[int, float]:
    """Decayed score of each selected sequence, in the order of selection."""
    left, kept = dict(enumerate(scores)), {}
    while left and len(kept) < max_kept:
        best = min(left, key=lambda i: (-left[i], i))
        if left[best] < min_score:
            break
        kept[best] = left.pop(best)
        for i in left:
            left[i] *= math.exp(-(ious[best, i] ** 2) / sigma)
    return kept


def category_aware(
    scores: np.ndarray, ious: np.ndarray, *, max_kept: int = 100
) -> tuple[list[int], np.ndarray]:
    """The release's: near copies go, then each category on its own; -1 where not selected."""
    kept = hard(scores, ious, 0.9, 0.05)
    among = ious[np.ix_(kept, kept)]
    result = np.full((len(kept), scores.shape[1]), -1.0)
    for k in range(scores.shape[1]):
        for i, score in soft(scores[kept, k].tolist(), among, 0.5, 0.001, max_kept).items():
            result[i, k] = score
    return kept, result
