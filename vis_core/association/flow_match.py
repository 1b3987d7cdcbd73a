"""Matching by mask overlap: what counts, which track takes what, who stays.

The rules are those of docs/methods/flow_match.md.

N tracks, M detections of a frame. Every comparison with a threshold is strict: an overlap of
exactly 0.5 is no match, and one of exactly 0.7 suppresses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vis_core.masks import rle
from vis_core.masks.rle import Crop
from vis_core.types import IntArray

Float64 = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

_EPSILON = 1e-6  # added to the union by the release: of equal ratios the larger masks win
_REID_REACH = 2.0  # a lost track is looked for within so many diagonals of its last box


class Matches(NamedTuple):
    """Pairs (track, detection), and who is left on either side; all ascending."""

    tracks: Index
    detections: Index  # one per matched track; several tracks may share one
    unmatched_tracks: Index
    unmatched_detections: Index


def overlaps(common: IntArray, a_areas: IntArray, b_areas: IntArray) -> Float64:
    """(N, M) intersection over union, divided as the release does; 0 with an empty mask."""
    return np.asarray(common / (a_areas[:, None] + b_areas[None, :] - common + _EPSILON))


def suppress(overlap: Float64, threshold: float, limit: int | None = None) -> Index:
    """Greedy NMS in the order given: those kept, at most `limit`."""
    open_ = np.ones(len(overlap), bool)
    kept: list[int] = []
    for index in range(len(overlap)):
        if open_[index]:
            if limit is not None and len(kept) == limit:
                break
            kept.append(index)
            open_ &= overlap[index] <= threshold
    return np.array(kept, np.intp)


def match(overlap: Float64, threshold: float, *, one_to_one: bool = False) -> Matches:
    """Each track takes the detection it overlaps most, if that is above the threshold.

    Nothing keeps two tracks from one detection, except with `one_to_one`: then the pairs above the
    threshold are chosen so that their overlaps add up to the most.
    """
    num_tracks, num_detections = overlap.shape
    if not overlap.size:
        tracks = detections = np.zeros(0, np.intp)
    elif one_to_one:
        tracks, detections = _assigned(overlap, threshold)
    else:
        best = overlap.argmax(axis=1)  # the first of equal ones: the higher score
        tracks = np.flatnonzero(overlap[np.arange(num_tracks), best] > threshold)
        detections = best[tracks]
    return Matches(
        tracks=tracks,
        detections=detections,
        unmatched_tracks=np.setdiff1d(np.arange(num_tracks), tracks),
        unmatched_detections=np.setdiff1d(np.arange(num_detections), detections),
    )


def _assigned(value: Float64, threshold: float) -> tuple[Index, Index]:
    from scipy.optimize import linear_sum_assignment

    tracks, detections = linear_sum_assignment(np.where(value > threshold, value, 0), maximize=True)
    above = value[tracks, detections] > threshold
    return tracks[above], detections[above]


def reidentify(lost: Sequence[Crop], found: Sequence[Crop], threshold: float) -> Matches:
    """Lost tracks and detections nobody took: equal in shape, and not far from each other.

    Overlap is measured with the middles of both boxes laid on one another; each is used once.
    """
    value = np.zeros((len(lost), len(found)))
    for row, before in enumerate(lost):
        for column, now in enumerate(found):
            if _is_near(before, now):
                value[row, column] = _centred_overlap(before, now)
    return match(value, threshold, one_to_one=True)


def _is_near(before: Crop, now: Crop) -> bool:
    (x, y), (u, v) = _middle(before), _middle(now)
    return math.hypot(u - x, v - y) <= _REID_REACH * math.hypot(*before.mask.shape)


def _middle(crop: Crop) -> tuple[float, float]:
    x0, y0, x1, y1 = crop.box
    return (x0 + x1) / 2, (y0 + y1) / 2


def _centred_overlap(a: Crop, b: Crop) -> float:
    height = min(a.mask.shape[0], b.mask.shape[0])
    width = min(a.mask.shape[1], b.mask.shape[1])
    common = int((_middle_part(a, height, width) & _middle_part(b, height, width)).sum())
    return common / (int(a.mask.sum()) + int(b.mask.sum()) - common + _EPSILON)


def _middle_part(crop: Crop, height: int, width: int) -> rle.BoolArray:
    top = (crop.mask.shape[0] - height) // 2
    left = (crop.mask.shape[1] - width) // 2
    return crop.mask[top : top + height, left : left + width]
