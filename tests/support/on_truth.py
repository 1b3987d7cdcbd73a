"""Linkers on the truth of synthetic clips: predictions, links, and their figures.

No pixel is drawn for what the oracle predicts. The instances of a row are shuffled, so that a
linker that takes their order for identity fails.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.fakes import fake_video
from vis_core.columns import offsets_of
from vis_core.data.synth import SynthConfig, generate_clip, generate_truth_file
from vis_core.eval.ytvis import TrackAP
from vis_core.formats.model import (
    Entries,
    TruthTracks,
    VideoHeader,
    VideoTracks,
    make_tracks,
    select_tracks,
)
from vis_core.formats.ytvis import TruthFile
from vis_core.system import Linker, Predictor, link
from vis_core.systems.oracle import OraclePredictConfig
from vis_core.systems.oracle.predictor import OraclePredictor
from vis_core.types import FrameBatch, FramePrediction, RefFlow, TrackPlan, VideoInfo
from vis_core.windows import ShardWindow

Rows = list[FramePrediction]
Pairs = Sequence[tuple[TruthTracks, VideoTracks]]  # truth and tracks of each video

_SEQUENCES = 1 << 16  # more than proposals of one key frame
_PER_INSTANCE = (
    *("scores", "labels", "boxes", "class_scores", "no_object_logprob", "embeddings"),
    *("proposals", "centers", "mean_offsets"),
)


@dataclasses.dataclass(frozen=True)
class Clips:
    """Synthetic clips of one preset, by video."""

    config: SynthConfig
    path: str  # of the truth file
    truths: Mapping[str, TruthTracks]
    seeds: Mapping[str, int]
    labels: Sequence[int]


def make_clips(folder: Path, preset: str, seed: int, num_videos: int) -> Clips:
    """Clips of consecutive seeds; their truth file lies in the folder."""
    config = SynthConfig(preset=preset)
    path = folder / f"{preset}-{seed}-{num_videos}.json"
    path.write_text(json.dumps(generate_truth_file(config, seed, num_videos)))
    file = TruthFile(str(path))
    return Clips(
        config=config,
        path=str(path),
        truths={name: file.video(name) for name in file.videos},
        seeds={name: seed + video.number - 1 for name, video in file.videos.items()},
        labels=[category.label for category in file.categories],
    )


def video_of(header: VideoHeader) -> VideoInfo:
    return fake_video(header.video_id, header.num_frames, height=header.height, width=header.width)


# --- predictions ----------------------------------------------------------------------------------


def oracle_rows(clips: Clips, **settings: Any) -> dict[str, Rows]:
    """What the oracle says about each clip."""
    predictor = OraclePredictor(OraclePredictConfig(truth=clips.path, **settings))
    blank = np.zeros((), np.uint8)
    found = {}
    for name, truth in clips.truths.items():
        header = truth.tracks.video
        frames = np.broadcast_to(blank, (header.num_frames, *header.size, 3))
        found[name] = [shuffled(row) for row in _predicted(predictor, header, frames)]
    return found


def drawn_rows(clips: Clips, predictor: Predictor) -> dict[str, Rows]:
    """What a predictor that looks at pixels finds in each clip."""
    return {
        name: _predicted(
            predictor, truth.tracks.video, generate_clip(clips.config, clips.seeds[name]).frames
        )
        for name, truth in clips.truths.items()
    }


def _predicted(predictor: Predictor, header: VideoHeader, frames: np.ndarray) -> Rows:
    index = np.arange(header.num_frames)
    batch = FrameBatch(
        video_id=header.video_id,
        frame_index=index,
        pts_seconds=index / 12,
        frames=frames,
        rank=index,
    )
    window = ShardWindow(video=video_of(header), start=0, stop=header.num_frames)
    return list(predictor.predict(iter([batch]), window))


def shuffled(row: FramePrediction) -> FramePrediction:
    """The same instances in another order, which depends on the frame alone."""
    return chosen(row, np.random.default_rng(row.frame_index).permutation(len(row)))


def chosen(row: FramePrediction, index: np.ndarray) -> FramePrediction:
    """Some instances of a row, in this order."""
    columns = {name: getattr(row, name) for name in _PER_INSTANCE}
    return dataclasses.replace(
        row,
        masks=[row.masks[i] for i in index.tolist()],
        ref_flow=None if row.ref_flow is None else _chosen_flow(row.ref_flow, index),
        **{name: None if column is None else column[index] for name, column in columns.items()},
    )


def _chosen_flow(flow: RefFlow, index: np.ndarray) -> RefFlow:
    owner = np.repeat(np.arange(len(flow.offsets) - 1), np.diff(flow.offsets))
    entries = [np.flatnonzero(owner == i) for i in index]
    order = np.concatenate([np.zeros(0, np.int64), *entries])
    return RefFlow(
        offsets=offsets_of([len(mine) for mine in entries]),
        frame_index=flow.frame_index[order],
        dydx=flow.dydx[order],
    )


def key_frames(num_frames: int, num_keys: int) -> list[int]:
    """Where Propose-Reduce looks for objects: first and last frame, and evenly between them."""
    return [int((num_frames - 1) / (num_keys - 1) * k) for k in range(num_keys)]


def proposed_rows(clips: Clips, num_keys: int = 5, **settings: Any) -> dict[str, Rows]:
    """Propose-Reduce's front end: each key frame has mistakes of its own in all of the clip."""
    runs = [oracle_rows(clips, seed=k, proposals=True, **settings) for k in range(num_keys)]
    return {
        name: as_sequences(
            [run[name] for run in runs], key_frames(truth.tracks.video.num_frames, num_keys)
        )
        for name, truth in clips.truths.items()
    }


def as_sequences(runs: Sequence[Rows], keys: Sequence[int]) -> Rows:
    """What a run has in its key frame becomes a sequence over all frames; the rest is not proposed.

    So an object is proposed once for each key frame that it is seen in.
    """
    parts = [
        _sequences(rows, key, number * _SEQUENCES)
        for number, (rows, key) in enumerate(zip(runs, keys, strict=True))
    ]
    return [shuffled(_joined(rows)) for rows in zip(*parts, strict=True)]


def _sequences(rows: Rows, key: int, first: int) -> Iterator[FramePrediction]:
    """The instances of proposals that are there in the key frame, numbered from `first`."""
    for row in rows:
        assert row.proposals is not None
        mine = chosen(row, np.flatnonzero(np.isin(row.proposals, rows[key].proposals)))
        assert mine.proposals is not None
        yield dataclasses.replace(mine, proposals=mine.proposals + first)


def _joined(rows: Sequence[FramePrediction]) -> FramePrediction:
    """One row with the instances of all."""
    columns = ("scores", "labels", "boxes", "class_scores", "proposals")
    return dataclasses.replace(
        rows[0],
        masks=[mask for row in rows for mask in row.masks],
        **{name: np.concatenate([getattr(row, name) for row in rows]) for name in columns},
    )


# --- links ----------------------------------------------------------------------------------------


def linked(linker: Linker, rows: Rows, header: VideoHeader) -> VideoTracks:
    """The tracks a linker makes of a video's rows, with their masks, best score first."""
    plans = sorted(link(linker, video_of(header), rows), key=lambda plan: -plan.score)
    return tracks_of(plans, rows, header)


def tracks_of(plans: Sequence[TrackPlan], rows: Rows, header: VideoHeader) -> VideoTracks:
    """Plans with the masks they refer to or bring along, as `link` writes them."""
    row_of = {row.frame_index: row for row in rows}
    masks: list[tuple[int, int, bytes, float]] = []  # track, frame, mask, score
    for track, plan in enumerate(plans):
        assert plan.window is None and plan.mask_scores is None
        for frame, i in zip(plan.frame_index.tolist(), plan.instance.tolist(), strict=True):
            row = row_of[frame]
            masks.append((track, frame, row.masks[i], float(row.scores[i])))
        masks += [(track, carried.frame_index, carried.mask, np.nan) for carried in plan.carried]
    lines = [
        (track, label, score)
        for track, plan in enumerate(plans)
        for label, score in plan.entries or ((plan.label, plan.score),)
    ]
    tracks = make_tracks(
        header,
        track_ids=np.arange(len(plans)),
        labels=[plan.label for plan in plans],
        scores=[plan.score for plan in plans],
        owner=[track for track, *_ in masks],
        frame_index=[frame for _, frame, *_ in masks],
        masks=[mask for *_, mask, _ in masks],
        mask_scores=[score for *_, score in masks],
        entries=Entries(
            track=np.array([track for track, *_ in lines], np.int64),
            labels=np.array([label for _, label, _ in lines], np.int64),
            scores=np.array([score for *_, score in lines], np.float64),
        ),
    )
    return select_tracks(tracks, np.diff(tracks.offsets) > 0)


# --- figures --------------------------------------------------------------------------------------


def ap_of(pairs: Pairs, labels: Sequence[int] | None) -> dict[str, float | None]:
    """AP, AP75 and so on; without `labels` categories do not count."""
    metric = TrackAP(labels or [], use_labels=labels is not None)
    for rank, (truth, found) in enumerate(pairs):
        metric.add(rank, truth, found)
    return metric.result()


def objects_of_masks(truth: TruthTracks) -> dict[tuple[int, bytes], int]:
    """Which object a mask of a frame is: true masks share no pixel, so that none is there twice."""
    tracks = truth.tracks
    keys = zip(tracks.frame_index.tolist(), tracks.masks, strict=True)
    return dict(zip(keys, tracks.owner.tolist(), strict=True))


def objects_followed(found: VideoTracks, truth: TruthTracks) -> list[list[tuple[int, int]]]:
    """(object, frame) of the true masks that each track took, in order of the frames.

    Masks that a linker made itself are left out.
    """
    object_of = objects_of_masks(truth)
    followed: list[list[tuple[int, int]]] = [[] for _ in range(len(found))]
    frames, detected = found.frame_index.tolist(), ~np.isnan(found.mask_scores)
    for position in np.flatnonzero(detected).tolist():
        frame = frames[position]
        followed[int(found.owner[position])].append(
            (object_of[frame, found.masks[position]], frame)
        )
    return followed


def only_objects(
    truth: TruthTracks, found: VideoTracks, objects: Sequence[int]
) -> tuple[TruthTracks, VideoTracks]:
    """The truth of some objects, and the tracks that took a mask of any of them."""
    keep = np.isin(np.arange(len(truth.tracks)), objects)
    touching = [any(keep[k] for k, _ in taken) for taken in objects_followed(found, truth)]
    shorter = TruthTracks(
        tracks=select_tracks(truth.tracks, keep),
        crowd=truth.crowd[keep],
        mean_areas=truth.mean_areas[keep],
    )
    return shorter, select_tracks(found, np.array(touching, bool))
