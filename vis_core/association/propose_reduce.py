"""Sequence reduction: of many proposed sequences few stay (Propose-Reduce, sections 3.2 and 4.4).

docs/methods/propose_reduce.md says where the release differs from the paper.

From scores and what overlaps with what, to the sequences kept, in the order of their selection. Of
equal scores the earlier sequence counts as the higher.
N sequences, K categories.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vis_core.association.sequence_iou import Overlaps, keep_best
from vis_core.types import IntArray

Float32 = npt.NDArray[np.float32]

DROPPED = -1.0  # the score of a category for which a sequence was not selected


class Reduced(NamedTuple):
    """The sequences kept, and what their scores have become."""

    kept: IntArray  # (M,)
    scores: Float32  # (M,) or (M, K)


def hard_nms(scores_NK: Float32, overlaps: Overlaps, *, iou: float, min_score: float) -> Reduced:
    """Lets the best sequence remove all others, of any category, that overlap it, and so on.

    Ends below `min_score`, but the very best is kept whatever its score.
    """
    best = scores_NK.max(axis=1, initial=0.0)
    order = np.argsort(-best, kind="stable")
    order = order[: max(1, int((best >= np.float32(min_score)).sum()))]
    kept = keep_best(order, overlaps, iou)
    return Reduced(kept, scores_NK[kept])


def soft_nms(
    scores_N: Float32, overlaps: Overlaps, *, sigma: float, min_score: float, max_kept: int
) -> Reduced:
    """Gaussian soft-NMS: each selection lowers the rest by exp(-IoU² / sigma), again and again."""
    scores = scores_N.astype(np.float32)
    open_scores = scores.copy()
    kept: list[int] = []
    while len(kept) < min(max_kept, len(scores)):
        best = int(open_scores.argmax())
        if not open_scores[best] >= np.float32(min_score):
            break
        kept.append(best)
        scores[best] = open_scores[best]
        other, iou = overlaps.of(best)
        open_scores[other] *= np.exp(-(iou**2) / sigma).astype(np.float32)
        open_scores[kept] = DROPPED
    index = np.array(kept, np.int64)
    return Reduced(index, scores[index])


def per_category(
    first: Reduced, overlaps: Overlaps, *, sigma: float, min_score: float, max_kept: int
) -> Reduced:
    """Category-aware: soft-NMS in each category among those that a first reduction kept.

    Their order stays; the score of a category that did not select a sequence is DROPPED.
    """
    among = overlaps.among(first.kept)
    scores = np.full_like(first.scores, DROPPED)
    for category in range(scores.shape[1]):
        found = soft_nms(
            first.scores[:, category],
            among,
            sigma=sigma,
            min_score=min_score,
            max_kept=max_kept,
        )
        scores[found.kept, category] = found.scores
    return Reduced(first.kept, scores)
