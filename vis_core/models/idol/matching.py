"""Which queries learn from which object: one object has several (SimOTA), by cost and overlap.

Shape letters: Q queries, G objects of the truth, K classes, N matched queries.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torchvision.ops import box_convert, box_iou, generalized_box_iou

_ALPHA, _TINY = 0.25, 1e-8  # of the focal cost, whose exponent is 2
_GIOU_WEIGHT = 3.0
_OFF_CENTRE, _OFF_ALL, _TAKEN = 100.0, 1e4, 1e5
_RADIUS = 2.5 / 32  # of the square around a centre, as a share of the picture
_CANDIDATES = 10  # overlaps whose sum says how many queries an object gets
_NEGATIVE_CANDIDATES = 100
_MAX_ROUNDS = 100  # of repair; each gives every object without a query another one


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """Queries with an object, ascending, and the cheapest of them for every object."""

    queries_N: Tensor
    objects_N: Tensor
    best_G: Tensor


def match_queries(
    scores_QK: Tensor, boxes_Q4: Tensor, truth_boxes_G4: Tensor, labels_G: Tensor
) -> Match:
    """Scores are sigmoids, boxes (cx, cy, w, h) as shares of the picture."""
    if not len(labels_G):
        none = torch.zeros(0, dtype=torch.long, device=boxes_Q4.device)
        return Match(queries_N=none, objects_N=none, best_G=none)
    cost_QG, iou_QG = costs(scores_QK, boxes_Q4, truth_boxes_G4, labels_G)
    matched_QG = assign(cost_QG, iou_QG, _CANDIDATES)
    queries_N = torch.where(matched_QG.any(1))[0]
    best_G = cost_QG.masked_fill(~matched_QG, torch.inf).argmin(0)
    return Match(
        queries_N=queries_N, objects_N=matched_QG[queries_N].int().argmax(1), best_G=best_G
    )


def contrast_sets(
    scores_QK: Tensor, boxes_Q4: Tensor, truth_boxes_G4: Tensor, labels_G: Tensor, valid_G: Tensor
) -> tuple[Tensor, Tensor]:
    """Queries (G, Q) of the other picture that show an object, and those that do not.

    Those between are in neither set; of an object that is not valid, all.
    """
    positive_GQ = torch.zeros(
        len(labels_G), len(boxes_Q4), dtype=torch.bool, device=boxes_Q4.device
    )
    negative_GQ = positive_GQ.clone()
    if valid_G.any():
        cost_QG, iou_QG = costs(scores_QK, boxes_Q4, truth_boxes_G4[valid_G], labels_G[valid_G])
        positive_GQ[valid_G] = assign(cost_QG, iou_QG, _CANDIDATES).T
        negative_GQ[valid_G] = ~assign(cost_QG, iou_QG, _NEGATIVE_CANDIDATES).T
    return positive_GQ, negative_GQ


def costs(
    scores_QK: Tensor, boxes_Q4: Tensor, truth_boxes_G4: Tensor, labels_G: Tensor
) -> tuple[Tensor, Tensor]:
    """What a query costs each object, and how much the two overlap."""
    corners_Q4 = box_convert(boxes_Q4, "cxcywh", "xyxy")
    truth_G4 = box_convert(truth_boxes_G4, "cxcywh", "xyxy")
    focal_QG = _focal_costs(scores_QK)[:, labels_G]
    near_QG, anywhere_Q = _centred(boxes_Q4, truth_boxes_G4, truth_G4)
    giou_QG = generalized_box_iou(corners_Q4, truth_G4)
    cost_QG = focal_QG - _GIOU_WEIGHT * giou_QG + _OFF_CENTRE * ~near_QG
    return cost_QG + _OFF_ALL * ~anywhere_Q[:, None], box_iou(corners_Q4, truth_G4)


def _focal_costs(scores_QK: Tensor) -> Tensor:
    positive = _ALPHA * (1 - scores_QK) ** 2 * -(scores_QK + _TINY).log()
    negative = (1 - _ALPHA) * scores_QK**2 * -(1 - scores_QK + _TINY).log()
    return positive - negative


def _centred(boxes_Q4: Tensor, truth_G4: Tensor, truth_corners_G4: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a query's centre is in an object's box and near its centre; whether it is in any box
    or near any centre."""
    centres_Q12 = boxes_Q4[:, None, :2]
    inside_QG = (
        (centres_Q12 > truth_corners_G4[:, :2]) & (centres_Q12 < truth_corners_G4[:, 2:])
    ).all(-1)
    square_QG = (
        (centres_Q12 > truth_G4[:, :2] - _RADIUS) & (centres_Q12 < truth_G4[:, :2] + _RADIUS)
    ).all(-1)
    return inside_QG & square_QG, (inside_QG | square_QG).any(1)


def assign(cost_QG: Tensor, iou_QG: Tensor, candidates: int) -> Tensor:
    """Bool (Q, G): every object has its cheapest queries, as many as its best overlaps add up to;
    a query has one object at most."""
    matched_QG = torch.zeros_like(cost_QG, dtype=torch.bool)
    top = iou_QG.topk(min(candidates, len(iou_QG)), dim=0).values
    for column, number in enumerate(top.sum(0).int().clamp(min=1).tolist()):
        cheapest = cost_QG[:, column].topk(number, largest=False).indices
        matched_QG[cheapest, column] = True
    return _repaired(_one_object_each(matched_QG, cost_QG), cost_QG)


def _one_object_each(matched_QG: Tensor, cost_QG: Tensor) -> Tensor:
    """A query that several objects claim stays with the cheapest object."""
    contested_Q = matched_QG.sum(1) > 1
    cheapest_QG = torch.zeros_like(matched_QG)
    cheapest_QG[torch.arange(len(cost_QG), device=cost_QG.device), cost_QG.argmin(1)] = True
    return torch.where(contested_Q[:, None], cheapest_QG, matched_QG)


def _repaired(matched_QG: Tensor, cost_QG: Tensor) -> Tensor:
    """Objects left without a query get the cheapest one, those that are taken last."""
    for _ in range(_MAX_ROUNDS):
        empty = torch.where(~matched_QG.any(0))[0]
        if not len(empty):
            break
        cost_QG = cost_QG + _TAKEN * matched_QG.any(1, keepdim=True)
        matched_QG = matched_QG.clone()
        matched_QG[cost_QG[:, empty].argmin(0), empty] = True
        matched_QG = _one_object_each(matched_QG, cost_QG)
    return matched_QG
