"""J, F and J&F of the DAVIS unsupervised task, as davis2017-evaluation computes them.

Predictions become a label map: at most 20 objects, the best first, of which the higher score owns
a pixel. J is region overlap per frame, F agreement of contours within a tolerance. Each truth
object is assigned one prediction, so that the mean of J and F is largest; what is left over is not
punished.

P predictions and G truth objects of a video, T frames.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np

from vis_core.formats.label_maps import LabelMap, LabelMaps, regions
from vis_core.formats.model import BoolArray, FloatArray, IntArray, TruthTracks, VideoTracks
from vis_core.masks import rle

logger = logging.getLogger(__name__)

KEYS = ("J&F", "J", "F")
MOST_OBJECTS = 20
_TOLERANCE_FRAC = 0.008  # of the diagonal: how far a contour may be off


class DavisScore:
    """Collects the objects' figures video by video."""

    def __init__(self) -> None:
        self._objects: dict[int, FloatArray] = {}  # by the video's rank: (G, 2) J and F
        self._num_unscored = 0

    def add(self, rank: int, truth: TruthTracks, found: VideoTracks) -> None:
        objects = scored_objects(truth)
        self._num_unscored += len(truth.tracks) - len(objects)
        self._objects[rank] = score_objects(truth.tracks, objects, found)

    def result(self) -> dict[str, float | None]:
        if self._num_unscored:
            logger.warning(
                "%d truth objects are not scored: as in the released evaluator, a video's objects"
                " count up to the largest number in its first frame",
                self._num_unscored,
            )
        rows = [self._objects[rank] for rank in sorted(self._objects)]
        objects = np.concatenate(rows) if rows else np.zeros((0, 2))
        if not len(objects):
            return dict.fromkeys(KEYS)
        j, f = objects.mean(axis=0) * 100
        return {"J&F": float((j + f) / 2), "J": float(j), "F": float(f)}


def scored_objects(truth: TruthTracks) -> IntArray:
    """Positions of the objects that count, in order of their ids: object k has the k-th id.

    The release counts objects up to the largest number in the first frame; a later one with a
    smaller number counts, one with a larger number does not.
    """
    order = np.argsort(truth.tracks.track_ids, kind="stable")
    in_first = np.isin(order, truth.tracks.owner[truth.tracks.frame_index == 0])
    return order[: np.flatnonzero(in_first).max(initial=-1) + 1]


def score_objects(truth: VideoTracks, objects: IntArray, found: VideoTracks) -> FloatArray:
    """(G, 2) mean J and F over frames of each object, after the assignment."""
    from scipy.optimize import linear_sum_assignment

    maps = LabelMaps(found, MOST_OBJECTS)
    number = np.full(len(truth), -1)
    number[objects] = np.arange(len(objects))
    order = np.argsort(truth.frame_index, kind="stable")
    order = order[number[truth.owner[order]] >= 0]
    bounds = np.searchsorted(truth.frame_index[order], np.arange(truth.video.num_frames + 1))
    radius = math.ceil(_TOLERANCE_FRAC * math.hypot(*truth.video.size))
    # Where there are fewer predictions than objects, empty ones make up for them.
    totals = np.zeros((max(maps.num_labels, len(objects)), len(objects), 2))
    largest = 0
    for frame in range(truth.video.num_frames):
        here = order[bounds[frame] : bounds[frame + 1]]
        label_map = maps.frame(frame)
        largest = max(largest, int(label_map.max()))
        theirs = rle.crops([truth.masks[i] for i in here.tolist()], truth.video.size)
        numbers = number[truth.owner[here]]
        totals += _frame_scores(label_map, theirs, numbers, totals.shape[:2], radius)
    # A prediction that owns no pixel, behind all that do, is none.
    means = totals[: max(largest, len(objects))] / truth.video.num_frames
    rows, columns = linear_sum_assignment(-means.mean(axis=2))
    best = np.empty((len(objects), 2))
    best[columns] = means[rows, columns]
    return best


def _frame_scores(
    label_map: LabelMap,
    truth: Sequence[rle.Crop],
    numbers: IntArray,
    shape: tuple[int, int],
    radius: int,
) -> FloatArray:
    """(P, G, 2) J and F in one frame; objects and predictions that are not there are empty."""
    labels, found = regions(label_map)
    present = np.ix_(labels - 1, numbers)
    area_P, area_G = np.zeros(shape[0]), np.zeros(shape[1])
    area_P[labels - 1] = [crop.mask.sum() for crop in found]
    area_G[numbers] = [crop.mask.sum() for crop in truth]
    common = np.zeros(shape)
    for crop, row in zip(truth, numbers.tolist(), strict=True):
        x0, y0, x1, y1 = crop.box
        inside = np.bincount(label_map[y0:y1, x0:x1][crop.mask], minlength=shape[0] + 1)
        common[:, row] = inside[1:]
    union = area_P[:, None] + area_G[None, :] - common
    j = np.where(union > 0, common / np.maximum(union, 1), 1)

    ours, theirs = (Contours(crops, label_map.shape, radius) for crops in (found, truth))
    length_P, length_G = np.zeros(shape[0]), np.zeros(shape[1])
    length_P[labels - 1], length_G[numbers] = ours.lengths, theirs.lengths
    near_P, near_G = np.zeros(shape), np.zeros(shape)
    near_P[present], near_G[present] = ours.near(theirs), theirs.near(ours).T
    precision = near_P / np.maximum(length_P, 1)[:, None]
    recall = near_G / np.maximum(length_G, 1)[None, :]
    both = precision + recall
    f = np.where(both > 0, 2 * precision * recall / np.where(both > 0, both, 1), 0)
    f[np.ix_(length_P == 0, length_G == 0)] = 1
    return np.stack([j, f], axis=2)


class Contours:
    """The contours of N masks of a frame, and where they are near."""

    def __init__(self, crops: Sequence[rle.Crop], size: tuple[int, ...], radius: int) -> None:
        points = [_contour(crop, size) for crop in crops]
        self.lengths = np.array([len(y) for y, _ in points], np.int64)
        self._points = points
        self._near = [_within(y, x, radius, size) for y, x in points]

    def near(self, others: Contours) -> IntArray:
        """(N, M) how many pixels of each contour are within the tolerance of each other one."""
        counts = np.zeros((len(self._points), len(others._near)), np.int64)
        for row, (y, x) in enumerate(self._points):
            for column, near in enumerate(others._near):
                counts[row, column] = np.count_nonzero(near[y, x])
        return counts


def _contour(crop: rle.Crop, size: tuple[int, ...]) -> tuple[IntArray, IntArray]:
    """y, x of pixels that differ from the one to the right, below, or both.

    Beyond the right and lower border of the frame the mask goes on as it is.
    """
    x0, y0, x1, y1 = crop.box
    grown = np.zeros((y1 - y0 + 2, x1 - x0 + 2), bool)
    grown[1:-1, 1:-1] = crop.mask
    if y1 == size[0]:
        grown[-1] = grown[-2]
    if x1 == size[1]:
        grown[:, -1] = grown[:, -2]
    here = grown[:-1, :-1]
    edge = (here != grown[:-1, 1:]) | (here != grown[1:, :-1]) | (here != grown[1:, 1:])
    y, x = np.nonzero(edge)
    y, x = y + (y0 - 1), x + (x0 - 1)
    inside = (y >= 0) & (x >= 0)
    return y[inside], x[inside]


def _within(y: IntArray, x: IntArray, radius: int, size: tuple[int, ...]) -> BoolArray:
    """(H, W) the pixels no farther than `radius` from a point: a disk around each, by columns."""
    near = np.zeros(size, bool)
    if not len(y):
        return near
    top, left = int(y.min()) - radius, int(x.min()) - radius
    height, width = int(y.max()) + radius - top + 1, int(x.max()) + radius - left + 1
    dx = np.arange(-radius, radius + 1)
    reach = np.floor(np.sqrt(radius**2 - dx**2)).astype(np.int64)
    column = (x[:, None] - left + dx) * (height + 1)
    opens = (column + y[:, None] - top - reach).ravel()
    closes = (column + y[:, None] - top + reach + 1).ravel()
    steps = np.bincount(opens, minlength=width * (height + 1)).astype(np.int64)
    steps -= np.bincount(closes, minlength=len(steps))
    filled = np.cumsum(steps).reshape(width, height + 1)[:, :-1].T > 0
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + height, size[0]), min(left + width, size[1])
    near[y0:y1, x0:x1] = filled[y0 - top : y1 - top, x0 - left : x1 - left]
    return near
