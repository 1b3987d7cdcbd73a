"""Average precision and recall of tracks, as the YouTube-VIS evaluator defines them.

Two tracks overlap by the sum of their intersections over the sum of their unions. What decides
ties is that of the released evaluator: equal scores keep the order of the result lines within a
video, and of the videos' numbers across videos; of truths with the same overlap the last one wins.

D result lines and G truths of a video and category, A ranges of area, T overlap thresholds, R
recalls at which precision is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from vis_core.eval.overlap import track_iou, volumes
from vis_core.formats.model import (
    BoolArray,
    Entries,
    FloatArray,
    IntArray,
    TruthTracks,
    VideoTracks,
    select_tracks,
)

THRESHOLDS = np.linspace(0.5, 0.95, 10)
MOST_LINES = 100  # per video and category, best first
KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100")
_RECALLS = np.linspace(0, 1, 101)
_AREAS = np.array([[0, 1e10], [0, 128**2], [128**2, 256**2], [256**2, 1e10]])
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
_ANY = 0  # the category of everything where categories do not count


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Matches:
    """How the lines of one video and category fared: small, kept for the whole data set."""

    rank: int  # of the video
    scores: FloatArray  # (D,) descending
    matched: BoolArray  # (A, T, D)
    ignored: BoolArray  # (A, T, D) neither right nor wrong
    num_truths: IntArray  # (A,) to be found


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """One category: NaN where it has no truth."""

    precision: FloatArray  # (A, T, R)
    recall: dict[int, FloatArray]  # (A, T) by the number of lines allowed


class TrackAP:
    """Collects matches video by video; the figures come at the end."""

    def __init__(self, labels: Iterable[int], *, use_labels: bool = True) -> None:
        self._use_labels = use_labels
        self._matches: dict[int, list[Matches]] = {
            label: [] for label in (labels if use_labels else [_ANY])
        }

    def add(self, rank: int, truth: TruthTracks, found: VideoTracks) -> None:
        """One video; `rank` is its place among all, in whatever order they come."""
        lines, truth_labels = self._in_play(found.entries), truth.tracks.labels
        if not self._use_labels:
            truth_labels = np.full(len(truth_labels), _ANY)
        best = _best_lines(lines)
        used = np.zeros(len(found), bool)
        used[lines.track[best]] = True
        kept = select_tracks(found, used)
        # A track and a truth without a category in common never meet.
        wanted = np.zeros((len(found), len(truth.tracks)), bool)
        same = lines.labels[best][:, None] == truth_labels[None, :]
        np.logical_or.at(wanted, lines.track[best], same)
        iou = track_iou(kept, truth.tracks, wanted[used], least=THRESHOLDS[0])
        areas = volumes(kept) / np.maximum(np.diff(kept.offsets), 1)
        position = np.cumsum(used) - 1
        for label, matches in self._matches.items():
            mine = best[lines.labels[best] == label]
            theirs = np.flatnonzero(truth_labels == label)
            if len(mine) or len(theirs):
                track = position[lines.track[mine]]
                matched, ignored, num_truths = match_lines(
                    iou[np.ix_(track, theirs)],
                    areas[track],
                    truth.mean_areas[theirs],
                    truth.crowd[theirs],
                )
                matches.append(
                    Matches(
                        rank=rank,
                        scores=lines.scores[mine],
                        matched=matched,
                        ignored=ignored,
                        num_truths=num_truths,
                    )
                )

    def result(self) -> dict[str, float | None]:
        """The figures over all categories that have truth."""
        return _figures([_curves(matches) for matches in self._matches.values()])

    def per_label(self) -> dict[int, dict[str, float | None]]:
        """The figures of each category on its own."""
        return {label: _figures([_curves(found)]) for label, found in self._matches.items()}

    def _in_play(self, lines: Entries) -> Entries:
        """The lines of the known categories; in one pool by category, then as given."""
        if self._use_labels:
            return lines.where(np.isin(lines.labels, list(self._matches)))
        order = np.argsort(lines.labels, kind="stable")
        pool = lines.where(order)
        return dataclasses.replace(pool, labels=np.full(len(lines), _ANY, np.int64))


def _best_lines(lines: Entries) -> IntArray:
    """The lines that count: by category, the best first, equals in their order."""
    order = np.lexsort((np.arange(len(lines)), -lines.scores, lines.labels))
    labels = lines.labels[order]
    place = np.arange(len(order)) - np.searchsorted(labels, labels)
    return order[place < MOST_LINES]


def match_lines(
    iou_DG: FloatArray, areas_D: FloatArray, truth_areas_G: FloatArray, crowd_G: BoolArray
) -> tuple[BoolArray, BoolArray, IntArray]:
    """Each line, best first, takes the free truth it overlaps most: (A, T, D) matched and ignored.

    A truth that is ignored (a crowd, or outside the range of areas) is taken only where no other
    is left; crowds stay free. Also returns how many truths each range asks for.
    """
    num_lines, num_truths = iou_DG.shape
    skip_AG = crowd_G | _outside(truth_areas_G)
    matched = np.zeros((len(_AREAS), len(THRESHOLDS), num_lines), bool)
    ignored = matched.copy()
    free = np.ones((len(_AREAS), len(THRESHOLDS), num_truths), bool)
    least_T = np.minimum(THRESHOLDS, 1 - 1e-10)
    area, threshold = np.ogrid[: len(_AREAS), : len(THRESHOLDS)]
    # What cannot reach the lowest threshold is never matched, and most lines cannot.
    for line in np.flatnonzero((iou_DG >= least_T[0]).any(axis=1)).tolist():
        iou_G = iou_DG[line]
        order_G = np.lexsort((np.arange(num_truths), iou_G))
        wish_G = np.empty(num_truths, np.int64)
        wish_G[order_G] = np.arange(1, num_truths + 1)
        can_ATG = free & (iou_G >= least_T[:, None])
        wish_ATG = can_ATG * (wish_G + num_truths * ~skip_AG)[:, None, :]
        best = wish_ATG.argmax(axis=2)
        hit = wish_ATG.any(axis=2)
        matched[:, :, line] = hit
        ignored[:, :, line] = hit & skip_AG[area, best]
        free[area, threshold, best] &= ~hit | crowd_G[best]
    ignored |= ~matched & _outside(areas_D)[:, None, :]
    return matched, ignored, (~skip_AG).sum(axis=1)


def _outside(areas: FloatArray) -> BoolArray:
    """(A, N) whether an area lies outside each range, whose ends belong to it."""
    return (areas < _AREAS[:, :1]) | (areas > _AREAS[:, 1:])


def _curves(found: Sequence[Matches]) -> Curves:
    """Precision and recall of one category over all videos."""
    by_rank = sorted(found, key=lambda matches: matches.rank)
    num_truths = sum((m.num_truths for m in by_rank), np.zeros(len(_AREAS), np.int64))
    precision = np.full((len(_AREAS), len(THRESHOLDS), len(_RECALLS)), np.nan)
    recall = {limit: np.full(precision.shape[:2], np.nan) for limit in (1, 10, MOST_LINES)}
    for limit in recall:
        scores = np.concatenate([m.scores[:limit] for m in by_rank] or [np.zeros(0)])
        order = np.argsort(-scores, kind="stable")
        for area in np.flatnonzero(num_truths):
            matched, ignored = (
                np.concatenate(parts, axis=1)[:, order]
                for parts in (
                    [m.matched[area, :, :limit] for m in by_rank],
                    [m.ignored[area, :, :limit] for m in by_rank],
                )
            )
            right = np.cumsum(matched & ~ignored, axis=1, dtype=float)
            wrong = np.cumsum(~matched & ~ignored, axis=1, dtype=float)
            recall[limit][area] = right[:, -1] / num_truths[area] if len(order) else 0
            if limit == MOST_LINES:
                precision[area] = _precision_at(right, wrong, num_truths[area])
    return Curves(precision=precision, recall=recall)


def _precision_at(right: FloatArray, wrong: FloatArray, num_truths: int) -> FloatArray:
    """(T, R) the best precision at or beyond each recall; 0 beyond the last."""
    found = np.zeros((len(right), len(_RECALLS)))
    precision = right / (right + wrong + np.spacing(1))
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    for row, recalls, values in zip(found, right / num_truths, best, strict=True):
        at = np.searchsorted(recalls, _RECALLS, side="left")
        row[at < len(values)] = values[at[at < len(values)]]
    return found


def _figures(curves: Sequence[Curves]) -> dict[str, float | None]:
    """0 to 100; None where there was nothing to find."""
    precision = np.stack([c.precision for c in curves]) if curves else np.zeros((0, 4, 10, 1))
    recall = {
        limit: np.stack([c.recall[limit][_ALL] for c in curves]) if curves else np.zeros((0, 10))
        for limit in (1, 10, MOST_LINES)
    }
    half, three_quarters = 0, 5
    parts = (
        precision[:, _ALL],
        precision[:, _ALL, half],
        precision[:, _ALL, three_quarters],
        precision[:, _SMALL],
        precision[:, _MEDIUM],
        precision[:, _LARGE],
        recall[1],
        recall[10],
        recall[MOST_LINES],
    )
    return {key: _percent(values) for key, values in zip(KEYS, parts, strict=True)}


def _percent(values: FloatArray) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean() * 100) if len(known) else None
