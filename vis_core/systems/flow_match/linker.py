"""The flow_match linker: each track's last mask, moved by the flow, against the next detections.

Lengths and misses count rows of the member, as the release counts the frames it has files for.
What the release leaves open:

- A row without detections is a miss for every track.
- A row without flow leaves the masks where they are.
- A hole counts as one miss per sampled frame in it; masks stay where they are over it, and none is
  made for frames that nobody saw. So a short hole is bridged and a long one ends tracks.
- A track's label is the one with the most detection score behind it, the lowest of equal ones.
"""

from __future__ import annotations

import array
import dataclasses
import logging
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vis_core.association.flow_match import Index, match, overlaps, reidentify, suppress
from vis_core.association.mask_overlap import common_pixels
from vis_core.association.warp import warp_crops
from vis_core.flow.field import FlowReader
from vis_core.masks import rle
from vis_core.masks.rle import Crop
from vis_core.systems.flow_match.config import FlowMatchLinkConfig
from vis_core.types import CarriedMask, FramePrediction, Hole, IntArray, TrackPlan, VideoInfo

logger = logging.getLogger(__name__)

_NOTHING = Crop(mask=np.zeros((0, 0), bool), x0=0, y0=0)


class _Detections(NamedTuple):
    """The detections of a row that passed its NMS, best first."""

    instance: list[int]  # position in the row's list
    scores: list[float]
    labels: list[int]
    masks: list[bytes]
    areas: IntArray
    crops: list[Crop]


@dataclasses.dataclass(slots=True)
class _Track:
    """An open track. It spans the rows `[start, stop)`; misses at the end are not part of it."""

    start: int
    stop: int = 0
    crop: Crop = dataclasses.field(default_factory=lambda: _NOTHING)  # latest mask, maybe warped
    seen: Crop = dataclasses.field(default_factory=lambda: _NOTHING)  # latest mask detected
    misses: int = 0  # rows and missing frames since then
    absent: int = 0  # rows between its being lost and being found again
    score: float = 0.0  # sum over its detections
    votes: dict[int, float] = dataclasses.field(default_factory=dict)  # the same by label
    frames: array.array[int] = dataclasses.field(default_factory=lambda: array.array("i"))
    instances: array.array[int] = dataclasses.field(default_factory=lambda: array.array("i"))
    carried: list[CarriedMask] = dataclasses.field(default_factory=list)  # between detections
    pending: list[CarriedMask] = dataclasses.field(default_factory=list)  # since the last one

    @property
    def length(self) -> int:
        return self.stop - self.start - self.absent

    def take(self, found: _Detections, position: int, row: int, frame_index: int) -> None:
        """A detection becomes the latest mask; masks carried up to it fill a gap."""
        score, label = found.scores[position], found.labels[position]
        self.crop = self.seen = found.crops[position]
        self.stop, self.misses = row + 1, 0
        self.score += score
        self.votes[label] = self.votes.get(label, 0.0) + score
        self.frames.append(frame_index)
        self.instances.append(found.instance[position])
        self.carried += self.pending
        self.pending.clear()

    def miss(self, warped: Crop, mask: bytes, frame_index: int) -> None:
        """The warped mask becomes the latest one."""
        self.crop = warped
        self.misses += 1
        if warped.mask.size:
            self.pending.append(CarriedMask(frame_index=frame_index, mask=mask))

    def cut(self, stop: int, frame_index: int) -> None:
        """Drops the rows from `stop`, whose first is this frame; their scores stay counted."""
        self.stop = min(self.stop, stop)
        while self.frames and self.frames[-1] >= frame_index:
            self.frames.pop()
            self.instances.pop()
        self.carried = [mask for mask in self.carried if mask.frame_index < frame_index]

    def plan(self) -> TrackPlan:
        return TrackPlan(
            score=self.length * self.score,
            label=min(self.votes, key=lambda label: (-self.votes[label], label)),
            frame_index=np.array(self.frames, np.int32),
            instance=np.array(self.instances, np.int32),
            carried=tuple(self.carried),
        )


class FlowMatchLinker:
    """Keeps the open tracks, and 8 bytes for each instance taken."""

    def __init__(self, config: FlowMatchLinkConfig) -> None:
        self._config = config

    def start(self, video: VideoInfo) -> None:
        self._video_id = video.video_id
        self._size = (video.height, video.width)
        self._row = -1
        self._frames = (-1, -1)  # frame indices of the row before and of this one
        self._flow: FlowReader | None = None  # from the row before
        self._any_flow = False
        self._tracks: list[_Track] = []  # their order decides ties and lasts from row to row
        self._lost: list[_Track] = []  # closed, but might be found again
        self._plans: list[TrackPlan] = []

    def step(self, prediction: FramePrediction | Hole) -> None:
        if isinstance(prediction, Hole):
            self._pass_hole(prediction)
            return
        self._row += 1
        self._frames = (self._frames[1], prediction.frame_index)
        found = self._detections(prediction)
        free = self._continue_tracks(found)
        if self._config.preset == "release":
            # Only tracks matched in this row, before new ones; losers also lose the row before.
            matched = [track for track in self._tracks if track.misses == 0]
            self._suppress(matched, stop=self._row - 1, frame_index=self._frames[0])
            self._start_tracks(found, free)
        else:
            self._start_tracks(found, free)
            self._suppress(self._tracks, stop=self._row, frame_index=self._frames[1])
        flow = prediction.flow
        self._flow = None if flow is None else FlowReader.of(flow, self._size)
        self._any_flow |= self._flow is not None

    def finish(self) -> list[TrackPlan]:
        if self._row > 0 and not self._any_flow:
            logger.warning("%s has no flow: masks were compared where they are", self._video_id)
        self._close([*self._tracks, *self._lost])
        if not self._config.for_fusion:
            return self._plans
        return [dataclasses.replace(plan, score=self._share(plan.score)) for plan in self._plans]

    def _share(self, score: float) -> float:
        """The same order from 0 to 1: a track over all rows with scores of 1 has 1."""
        return min(1.0, math.sqrt(score) / (self._row + 1))

    def _detections(self, prediction: FramePrediction) -> _Detections:
        """Mask NMS in order of score; of equal scores the earlier instance comes first."""
        order = np.argsort(-prediction.scores, kind="stable")
        masks = [prediction.masks[i] for i in order]
        areas = rle.areas(masks, self._size)
        overlap = overlaps(common_pixels(masks, self._size), areas, areas)
        kept = suppress(overlap, self._config.nms, self._config.max_masks)
        instance, masks = order[kept], [masks[i] for i in kept]
        return _Detections(
            instance=instance.tolist(),
            scores=prediction.scores[instance].tolist(),
            labels=prediction.labels[instance].tolist(),
            masks=masks,
            areas=areas[kept],
            crops=rle.crops(masks, self._size),
        )

    def _continue_tracks(self, found: _Detections) -> Index:
        """Warps, matches, and ends who is lost; returns the detections that nobody took."""
        warped = warp_crops([track.crop for track in self._tracks], self._flow)
        masks = rle.encode_crops(warped, self._size)
        areas = rle.areas(masks, self._size)
        common = rle.intersection_areas(masks, found.masks, self._size)
        overlap = overlaps(common, areas, found.areas)
        matches = match(overlap, self._config.match, one_to_one=self._config.one_to_one)
        for track, position in zip(matches.tracks, matches.detections, strict=True):
            self._tracks[track].take(found, int(position), self._row, self._frames[1])
        for track in matches.unmatched_tracks:
            self._tracks[track].miss(warped[track], masks[track], self._frames[1])
        self._end_lost()
        return matches.unmatched_detections

    def _end_lost(self) -> None:
        """Ends tracks without a match for longer than the patience, at their last match."""
        config = self._config
        limit = config.patience if config.preset == "release" else max(0, config.patience - 1)
        lost = [track for track in self._tracks if track.misses > limit]
        self._tracks = [track for track in self._tracks if track.misses <= limit]
        for track in lost:
            track.pending.clear()
        self._lost += lost
        memory = config.patience + config.reid_frames
        self._close([track for track in self._lost if self._row - track.stop >= memory])
        self._lost = [track for track in self._lost if self._row - track.stop < memory]

    def _suppress(self, candidates: Sequence[_Track], *, stop: int, frame_index: int) -> None:
        """Track NMS, longest first, then highest score; losers end before `stop`."""
        self._tracks.sort(key=lambda track: (-track.length, -track.score))
        chosen = {id(track) for track in candidates}
        ranked = [track for track in self._tracks if id(track) in chosen]
        masks = rle.encode_crops([track.crop for track in ranked], self._size)
        areas = rle.areas(masks, self._size)
        overlap = overlaps(common_pixels(masks, self._size), areas, areas)
        kept = suppress(overlap, self._config.nms)
        losers = [ranked[i] for i in np.setdiff1d(np.arange(len(ranked)), kept)]
        for track in losers:
            track.cut(stop, frame_index)
        gone = {id(track) for track in losers}
        self._tracks = [track for track in self._tracks if id(track) not in gone]
        self._close(losers)

    def _start_tracks(self, found: _Detections, free: Index) -> None:
        """Detections nobody took continue a lost track that looks the same, or start one."""
        free = free[found.areas[free] > 0]
        if self._config.reid_frames and self._lost:
            free = self._find_again(found, free)
        for position in free.tolist():
            track = _Track(start=self._row)
            track.take(found, position, self._row, self._frames[1])
            self._tracks.append(track)

    def _find_again(self, found: _Detections, free: Index) -> Index:
        crops = [found.crops[position] for position in free]
        again = reidentify([track.seen for track in self._lost], crops, self._config.reid_match)
        for index, position in zip(again.tracks, free[again.detections], strict=True):
            track = self._lost[index]
            track.absent += self._row - track.stop
            track.take(found, int(position), self._row, self._frames[1])
            self._tracks.append(track)
        self._lost = [self._lost[index] for index in again.unmatched_tracks]
        return free[again.unmatched_detections]

    def _pass_hole(self, hole: Hole) -> None:
        step = max(1, self._frames[1] - self._frames[0]) if self._row > 0 else 1
        missing = -(-(hole.stop - hole.start) // step)
        for track in self._tracks:
            track.misses += missing
        self._flow = None
        self._end_lost()

    def _close(self, tracks: Sequence[_Track]) -> None:
        shortest = 1 if self._config.for_fusion else self._config.min_len
        self._plans += [track.plan() for track in tracks if track.length >= shortest]
