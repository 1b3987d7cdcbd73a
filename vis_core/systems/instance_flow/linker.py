"""The instance_flow linker: an instance continues the track whose centre its flow leads to.

A frame here is a row of the member. What the paper leaves open, or stored rows bring with them:

- References are the first row and the last `references` rows, with or without instances, as the
  predictor counts them. Of `ref_flow` only entries to these rows are read; where one of them is
  missing on either side, nothing is matched with it.
- A hole is no row and uses up no reference: tracks go on behind it if the predictor compared the
  frames on both sides. If the first frame is a hole, the first row counts as the first; predictions
  that were compared with the lost frame find nothing there.
- With break_at_cuts the first row of a shot is its first frame, on the same condition.
- Several instances that share a track in one frame (conflict=allow) become one mask, their union,
  with the highest of their scores; each counts in the votes and in the mean.
- An empty mask has no centroid: its centre stands in for it (flow_mode=inter_avg).
"""

from __future__ import annotations

import array
import collections
import itertools
import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vis_core.association.instance_flow import (
    Candidates,
    Reference,
    by_distance,
    by_similarity,
    centroids,
    resolve,
)
from vis_core.masks import rle
from vis_core.systems.instance_flow.config import InstanceFlowLinkConfig
from vis_core.systems.instance_flow.votes import Votes
from vis_core.types import (
    CarriedMask,
    FramePrediction,
    Hole,
    IntArray,
    RefAffinity,
    RefFlow,
    TrackPlan,
    VideoInfo,
)

logger = logging.getLogger(__name__)

# What is asked of a prediction: its column in `frames`, and how else than by the system to get it.
_COLUMNS = {
    "class_scores": ("class_scores", " (or oracle)"),
    "centers": ("center", " (or oracle with centers=true)"),
    "ref_flow": ("ref_flow", " (or oracle with centers=true and ref_flow=3)"),
    "mean_offsets": ("mean_offset", " (or oracle with centers=true)"),
    "ref_affinity": ("ref_affinity", ""),
}


class InstanceFlowLinker:
    """Keeps 12 bytes per instance, and sums of scores per track."""

    def __init__(self, config: InstanceFlowLinkConfig) -> None:
        self._config = config

    def start(self, video: VideoInfo) -> None:
        self._video_id = video.video_id
        self._first: Reference | None = None
        self._recent: collections.deque[Reference] = collections.deque(
            maxlen=self._config.references
        )
        self._columns = {name: array.array("i") for name in ("track", "frame_index", "instance")}
        self._merged: dict[int, list[CarriedMask]] = {}  # by track
        self._votes = Votes()
        self._num_compared = self._num_unmet = 0

    def step(self, prediction: FramePrediction | Hole) -> None:
        if isinstance(prediction, Hole):
            return
        num = len(prediction)
        tracks = np.zeros(0, np.int64)
        if num:
            scores = self._needed(prediction, "class_scores")
            tracks = self._continued(prediction)
            new = np.flatnonzero(tracks < 0)
            tracks[new] = len(self._votes) + np.arange(len(new))
            self._votes.add(tracks, scores, prediction.scores)
            self._take(prediction, tracks)
        centers = self._needed(prediction, "centers") if num else np.zeros((0, 2))
        reference = Reference(prediction.frame_index, centers.astype(np.float64), tracks)
        self._first = self._first or reference
        self._recent.append(reference)

    def finish(self) -> list[TrackPlan]:
        if self._num_unmet and not self._num_compared:
            logger.warning(
                "%s: no row compares its instances with rows that references=%d and first=%s name:"
                " nothing was linked",
                self._video_id,
                self._config.references,
                self._config.first,
            )
        columns = {k: np.frombuffer(v, np.int32) for k, v in self._columns.items()}
        order = np.argsort(columns["track"], kind="stable")
        bounds = np.searchsorted(columns["track"][order], np.arange(len(self._votes) + 1)).tolist()
        frames, instances = columns["frame_index"][order], columns["instance"][order]
        return [
            self._plan(track, frames[start:stop], instances[start:stop])
            for track, (start, stop) in enumerate(itertools.pairwise(bounds))
        ]

    def _continued(self, prediction: FramePrediction) -> IntArray:
        """The track each instance continues; -1 where it begins one."""
        config, num = self._config, len(prediction)
        earlier = [self._first, *self._recent] if config.first else [*self._recent]
        references = {r.frame_index: r for r in earlier if r is not None and len(r.tracks)}
        if not references:
            return np.full(num, -1, np.int64)
        candidates = self._candidates(prediction, [*references.values()])
        self._num_compared += len(candidates.cost)
        self._num_unmet += not len(candidates.cost)
        if config.flow_mode in ("inter_iou", "affinity"):
            limit = -float(np.float32(config.min_similarity))
        else:
            limit = config.epsilon * math.sqrt(prediction.height * prediction.width)
        return resolve(candidates, num, limit=limit, conflict=config.conflict)

    def _candidates(
        self, prediction: FramePrediction, references: Sequence[Reference]
    ) -> Candidates:
        mode = self._config.flow_mode
        if mode in ("inter_iou", "affinity"):
            found: RefAffinity = self._needed(prediction, "ref_affinity")
            similarity = found.iou if mode == "inter_iou" else found.affinity
            instance = _instance_of_entries(found)
            return by_similarity(
                similarity, instance, found.frame_index, found.instance, references
            )
        flow: RefFlow = self._needed(prediction, "ref_flow")
        instance = _instance_of_entries(flow)
        start = self._needed(prediction, "centers")
        if mode == "inter_avg":  # the centroid stands for the centre, errors of both add up
            middle = centroids(prediction.masks, (prediction.height, prediction.width))
            middle = np.where(np.isnan(middle), start, middle)
            start = middle + self._needed(prediction, "mean_offsets")
        return by_distance(start[instance] + flow.dydx, instance, flow.frame_index, references)

    def _needed(self, prediction: FramePrediction, name: str) -> Any:
        value = getattr(prediction, name)
        if value is None:
            column, oracle = _COLUMNS[name]
            raise ValueError(
                f"frame {prediction.frame_index} of {prediction.video_id!r} has no `{column}`, by"
                f" which instance_flow with flow_mode={self._config.flow_mode} links: predict with"
                f" --system instance_flow{oracle}, or choose the linker of the system that made"
                " these predictions"
            )
        return value

    def _take(self, prediction: FramePrediction, tracks: IntArray) -> None:
        """Keeps the references; of instances that share a track, the union of their masks."""
        alone = np.ones(len(tracks), bool)
        if self._config.conflict == "allow":
            alone = np.bincount(tracks)[tracks] == 1
            for track in np.unique(tracks[~alone]).tolist():
                together = np.flatnonzero(tracks == track).tolist()
                size = (prediction.height, prediction.width)
                merged = CarriedMask(
                    frame_index=prediction.frame_index,
                    mask=rle.union([prediction.masks[i] for i in together], size),
                    score=float(prediction.scores[together].max()),
                )
                self._merged.setdefault(track, []).append(merged)
        kept = np.flatnonzero(alone)
        self._columns["track"].extend(tracks[kept].tolist())
        self._columns["frame_index"].extend([prediction.frame_index] * len(kept))
        self._columns["instance"].extend(kept.tolist())

    def _plan(self, track: int, frames: IntArray, instances: IntArray) -> TrackPlan:
        label, score, class_scores = self._votes.result(track, self._config.score)
        return TrackPlan(
            score=score,
            label=label,
            frame_index=frames,
            instance=instances,
            carried=tuple(self._merged.get(track, ())),
            class_scores=class_scores,
            entries=((label, score),),
        )


def _instance_of_entries(entries: RefFlow | RefAffinity) -> IntArray:
    return np.repeat(np.arange(len(entries.offsets) - 1), np.diff(entries.offsets))
