"""Which queries of a picture are worth a mask: scored, and not the double of a better one.

Shape letters: Q queries, K classes, N queries that pass.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

MIN_SCORE = 0.1  # as released
MAX_OVERLAP = 0.9


def select_queries(
    scores_QK: Tensor,
    boxes_Q4: Tensor,
    min_score: float = MIN_SCORE,
    max_overlap: float = MAX_OVERLAP,
) -> Tensor:
    """Queries (N,) with a class score above `min_score`, best first, or else the best one.

    Boxes (cx, cy, w, h) suppress each other within a class.
    """
    best_Q, labels_Q = scores_QK.max(-1)
    passing_N = torch.where(best_Q > min_score)[0]
    if not len(passing_N):
        return best_Q.argmax()[None]
    corners_N4 = box_convert(boxes_Q4[passing_N].float(), "cxcywh", "xyxy")
    kept = batched_nms(corners_N4, best_Q[passing_N].float(), labels_Q[passing_N], max_overlap)
    return passing_N[kept]
