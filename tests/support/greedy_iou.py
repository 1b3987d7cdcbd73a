"""The linker that everybody writes first: the best overlap with the frame before, greedily."""

from __future__ import annotations

import numpy as np

from vis_core.masks import rle
from vis_core.types import FramePrediction, Hole, TrackPlan, VideoInfo


class GreedyIouLinker:
    """A track that finds nothing waits where it is, for `patience` frames."""

    def __init__(self, min_iou: float, patience: int = 0) -> None:
        self._min_iou, self._patience = min_iou, patience

    def start(self, video: VideoInfo) -> None:
        self._row = -1
        self._tracks: list[list[tuple[FramePrediction, int]]] = []
        self._last_row: list[int] = []

    def step(self, prediction: FramePrediction | Hole) -> None:
        assert isinstance(prediction, FramePrediction)
        self._row += 1
        waited = [self._row - last - 1 for last in self._last_row]
        alive = [track for track, rows in enumerate(waited) if rows <= self._patience]
        free = set(range(len(prediction)))
        for track, instance in self._best_pairs(alive, prediction):
            if instance in free and self._last_row[track] < self._row:
                self._extend(track, prediction, instance)
                free.discard(instance)
        for instance in sorted(free):
            self._tracks.append([])
            self._last_row.append(-1)
            self._extend(len(self._tracks) - 1, prediction, instance)

    def _best_pairs(self, alive: list[int], prediction: FramePrediction) -> list[tuple[int, int]]:
        latest = [self._tracks[track][-1] for track in alive]
        before = [row.masks[i] for row, i in latest]
        size = (prediction.height, prediction.width)
        iou = rle.iou_matrix(before, prediction.masks, size)
        order = np.argsort(-iou, axis=None, kind="stable")
        order = order[: np.count_nonzero(iou >= self._min_iou)]
        rows, instances = np.unravel_index(order, iou.shape) if len(order) else (order, order)
        return [(alive[row], int(i)) for row, i in zip(rows.tolist(), instances, strict=True)]

    def _extend(self, track: int, prediction: FramePrediction, instance: int) -> None:
        self._tracks[track].append((prediction, instance))
        self._last_row[track] = self._row

    def finish(self) -> list[TrackPlan]:
        return [
            TrackPlan(
                score=float(np.mean([row.scores[i] for row, i in track])),
                label=int(np.bincount([row.labels[i] for row, i in track]).argmax()),
                frame_index=np.array([row.frame_index for row, _ in track], np.int32),
                instance=np.array([i for _, i in track], np.int32),
            )
            for track in self._tracks
        ]
