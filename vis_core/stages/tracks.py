"""One video's predictions, in order, to its tracks and masks: the linkers, then the masks.

The first pass feeds the linkers, which keep light data and answer with references. The second
gathers the masks that were referred to and streams them out by track. Where the rows come from,
committed parts or a table somebody brought, is the caller's business.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vis_core import schema
from vis_core.association.fusion import FusedTrack, FusionConfig, MemberTrack, fuse_tracks
from vis_core.association.label_maps import map_track, read_label_maps
from vis_core.errors import ReelmaskError
from vis_core.formats.untrusted import check_masks
from vis_core.masks import rle
from vis_core.stages.frames_check import BadRow, FramesCheck
from vis_core.store.planning import SPAN
from vis_core.store.results import ResultsWriter
from vis_core.store.spool import SPOOLED, MaskSpool
from vis_core.system import LinkConfig, Linker, System
from vis_core.types import (
    CarriedMask,
    FloatArray,
    FramePrediction,
    Hole,
    IntArray,
    TrackPlan,
    VideoInfo,
)

logger = logging.getLogger(__name__)

_REFERRED = [
    "window",
    "frame_index",
    "instances.list.element.score",
    "instances.list.element.mask",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberRows:
    """One member's predictions of one video, and how to link them."""

    member: str
    system: System
    link_config: LinkConfig
    # Rows of `frames` in order of (window, frame), a table at a time; None: all columns.
    tables: Callable[[Sequence[str] | None], Iterator[pa.Table]]
    cuts: IntArray  # frames after which a shot ends, ascending
    holes: Sequence[Hole]  # in order of (window, frame)
    missing: IntArray  # sampled frames that are in a hole, each once
    weight: float = 1.0  # of its vote in a fusion


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """What a row of `tracks` says besides what follows from the masks."""

    label: int
    score: float
    class_scores: FloatArray | None
    entries: Sequence[tuple[int, float]]
    members: Sequence[str]


def write_tracks(
    video: VideoInfo,
    members: Sequence[MemberRows],
    writer: ResultsWriter,
    fusion: FusionConfig | None = None,
) -> dict[str, Any]:
    """Links one video; whatever its linker does wrong becomes the reason, and writes nothing.

    With `fusion` the members' tracks become one set; without, there is one member.
    """
    with MaskSpool() as spool:
        try:
            if fusion is None:
                (rows,) = members
                tracks = _linked(video, rows, spool)
            else:
                tracks = _fused(video, members, fusion, spool)
        except OSError:
            raise
        except ReelmaskError as error:  # about what the rows hold: where it was seen is no help
            logger.warning("linking %s failed: %s", video.video_id, error)
            return {"error": f"{type(error).__name__}: {error}"}
        except Exception as error:
            logger.exception("linking %s failed", video.video_id)
            return {"error": f"{type(error).__name__}: {error}"}
        missing = {rows.member: rows.missing for rows in members}
        num_tracks, num_masks = write_spooled(video, tracks, spool, writer, missing)
    return {"num_tracks": num_tracks, "num_masks": num_masks, "error": None}


def _linked(video: VideoInfo, rows: MemberRows, spool: MaskSpool) -> list[Track]:
    """One member's tracks, best score first; their masks go to the spool."""
    plans = sorted(_member_plans(video, rows), key=lambda plan: -plan.score)
    for plan in plans:
        _check_plan(plan)
    _gather(video, rows, plans, spool)
    return [
        Track(
            label=plan.label,
            score=plan.score,
            class_scores=plan.class_scores,
            entries=plan.entries or ((plan.label, plan.score),),
            members=[rows.member],
        )
        for plan in plans
    ]


def _fused(
    video: VideoInfo, members: Sequence[MemberRows], fusion: FusionConfig, spool: MaskSpool
) -> list[Track]:
    """All members' tracks made one set, best score first; their masks go to the spool."""
    weights = {rows.member: rows.weight for rows in members}
    maps = read_label_maps(fusion.label_map, weights)
    candidates = (
        map_track(track, maps.get(rows.member, {}))
        for rows in members
        for track in _candidates(video, rows)
    )
    return spool_fused(fuse_tracks(candidates, weights, (video.height, video.width), fusion), spool)


def spool_fused(fused_tracks: Iterator[FusedTrack], spool: MaskSpool) -> list[Track]:
    """Fused tracks, best score first, with their masks put into the spool."""
    tracks: list[Track] = []
    for fused in fused_tracks:
        scores = np.asarray(fused.mask_scores, np.float32)
        spool.add(
            pa.table(
                {
                    "track": np.full(len(fused.masks), len(tracks), np.int32),
                    "frame_index": np.asarray(fused.frame_index, np.int32),
                    "mask": fused.masks,
                    "score": pa.array(scores, mask=np.isnan(scores)),
                },
                schema=SPOOLED,
            )
        )
        tracks.append(
            Track(
                label=fused.label,
                score=fused.score,
                class_scores=fused.class_scores,
                entries=fused.entries,
                members=fused.members,
            )
        )
    return tracks


def _candidates(video: VideoInfo, rows: MemberRows) -> Iterator[MemberTrack]:
    """One member's tracks with their masks, as the fusion takes them: one at a time."""
    with MaskSpool() as spool:
        tracks = _linked(video, rows, spool)
        for position, masks in spool.tracks():
            track = tracks[position]
            scores = masks["score"].to_numpy(zero_copy_only=False).astype(np.float32)
            yield MemberTrack(
                member=rows.member,
                track_id=position,
                label=track.label,
                score=track.score,
                class_scores=track.class_scores,
                frame_index=masks["frame_index"].to_numpy(),
                masks=masks["mask"].to_pylist(),
                mask_scores=scores,
            )


def _check_plan(plan: TrackPlan) -> None:
    """What every system's linker must keep to; a wrong reference would take a wrong mask."""
    if not math.isfinite(plan.score) or not all(math.isfinite(s) for _, s in plan.entries):
        raise ValueError(f"a track has score {plan.score} and entries {plan.entries}")
    frames = [*plan.frame_index.tolist(), *(mask.frame_index for mask in plan.carried)]
    if len(set(frames)) != len(frames):
        raise ValueError("a track has two masks in one frame")


def _member_plans(video: VideoInfo, rows: MemberRows) -> list[TrackPlan]:
    """One linker per video, or per shot where it must not link across cuts.

    Windows overlap, so a shot's rows may come in two of them: its linker stays until the end.
    """
    predictions = (
        row for table in _sound_tables(video, rows) for row in schema.iter_predictions(table)
    )
    linkers: dict[int, Linker] = {}
    for item in _in_order(_with_shots(predictions, rows.cuts), rows.holes):
        shot = _shot_of(item, rows.cuts) if rows.link_config.break_at_cuts else 0
        if shot not in linkers:
            linkers[shot] = rows.system.make_linker(rows.link_config)
            linkers[shot].start(video)
        linkers[shot].step(item)
    return [plan for shot in sorted(linkers) for plan in linkers[shot].finish()]


def _sound_tables(video: VideoInfo, rows: MemberRows) -> Iterator[pa.Table]:
    """The rows, if they are such as linkers take for granted: folders are passed around."""
    num_frames = {video.video_id: video.num_frames}
    check = FramesCheck(num_frames=num_frames, size=(video.height, video.width))
    for table in rows.tables(None):
        try:
            yield check.sound(table)
        except BadRow as bad:
            frame = table["frame_index"][bad.row].as_py()
            raise BadRow(bad.row, f"frame {frame} cannot be linked: {bad}") from bad


def _shot_of(item: FramePrediction | Hole, cuts: IntArray) -> int:
    """A frame's shot is the number of cuts before it."""
    frame = item.start if isinstance(item, Hole) else item.frame_index
    return int(np.searchsorted(cuts, frame))


def _with_shots(
    predictions: Iterator[FramePrediction], cuts: IntArray
) -> Iterator[FramePrediction]:
    for prediction in predictions:
        yield dataclasses.replace(prediction, shot=_shot_of(prediction, cuts))


def _in_order(
    predictions: Iterator[FramePrediction], holes: Sequence[Hole]
) -> Iterator[FramePrediction | Hole]:
    """Puts each hole before the first prediction behind it; holes left over come last."""
    waiting = list(holes)
    for prediction in predictions:
        here = (prediction.window, prediction.frame_index)
        while waiting and (waiting[0].window, waiting[0].start) < here:
            yield waiting.pop(0)
        yield prediction
    yield from waiting


def write_spooled(
    video: VideoInfo,
    tracks: Sequence[Track],
    spool: MaskSpool,
    writer: ResultsWriter,
    missing: Mapping[str, IntArray],
) -> tuple[int, int]:
    """Writes what was gathered; ids dense by score, tracks without any mask left out.

    `missing` are each member's frames that are in a hole; a track misses what all of its do.
    """
    size = (video.height, video.width)
    num_masks, rows_of_tracks = 0, []
    for track_id, (position, masks) in enumerate(spool.tracks()):
        track = tracks[position]
        lost = functools.reduce(np.intersect1d, [missing[name] for name in track.members])
        rows_of_tracks.append(_track_row(video, track_id, track, masks["frame_index"], lost))
        writer.add_masks(_mask_rows(video.video_id, track_id, masks, size))
        num_masks += masks.num_rows
    if rows_of_tracks:
        writer.add_tracks(pa.Table.from_pylist(rows_of_tracks, schema=schema.TRACKS))
    return len(rows_of_tracks), num_masks


def _gather(
    video: VideoInfo, rows: MemberRows, plans: Sequence[TrackPlan], spool: MaskSpool
) -> None:
    """Second pass: feeds the spool with every mask the plans refer to or bring along."""
    size = (video.height, video.width)
    references, num_found = _References.of(plans), 0
    if len(references.position):
        for table in rows.tables(_REFERRED):
            found = references.taken_from(table)
            num_found += found.num_rows
            spool.add(_without_empty(found, size))
    if num_found != len(references.position):
        lost = len(references.position) - num_found
        raise ValueError(f"{lost} references of {rows.member!r} name frames that have no row")
    for position, plan in enumerate(plans):
        if plan.carried:
            spool.add(_without_empty(_carried_rows(position, plan.carried), size))


@dataclasses.dataclass(frozen=True)
class _References:
    """All references of a member's plans, sorted by (window, frame)."""

    position: np.ndarray  # window * SPAN + frame
    instance: np.ndarray
    track: np.ndarray
    score: np.ndarray  # NaN: the instance's own

    @classmethod
    def of(cls, plans: Sequence[TrackPlan]) -> _References:
        frames = [_positions(plan) for plan in plans]
        position = np.concatenate(frames) if frames else np.zeros(0, np.int64)
        order = np.argsort(position, kind="stable")
        sizes = [len(plan.instance) for plan in plans]
        empty: list[np.ndarray] = [np.zeros(0)]
        return cls(
            position=position[order],
            instance=np.concatenate([plan.instance for plan in plans] or empty)[order],
            track=np.repeat(np.arange(len(plans)), np.asarray(sizes, np.int64))[order],
            score=np.concatenate([_scores(plan) for plan in plans] or empty)[order],
        )

    def taken_from(self, table: pa.Table) -> pa.Table:
        """Rows of SPOOLED for the references that fall into this table."""
        if table.num_rows == 0:
            return SPOOLED.empty_table()
        table = table.combine_chunks()
        rows = table["window"].to_numpy() * SPAN + table["frame_index"].to_numpy()
        lists = table["instances"].chunk(0)
        inside = slice(
            np.searchsorted(self.position, rows[0]),
            np.searchsorted(self.position, rows[-1], "right"),
        )
        row = np.searchsorted(rows, self.position[inside])
        lengths = np.diff(np.asarray(lists.offsets))
        if (rows[row] != self.position[inside]).any():
            raise ValueError("a reference names a frame that has no row")
        if (self.instance[inside] < 0).any() or (self.instance[inside] >= lengths[row]).any():
            raise ValueError("a reference names an instance that its frame does not have")
        flat = np.asarray(lists.offsets)[row] + self.instance[inside]
        instances = lists.values.take(pa.array(flat, pa.int64()))
        own = np.asarray(instances.field("score"), np.float32)
        given = self.score[inside].astype(np.float32)
        return pa.table(
            {
                "track": self.track[inside].astype(np.int32),
                "frame_index": table["frame_index"].chunk(0).take(pa.array(row)),
                "mask": instances.field("mask"),
                "score": np.where(np.isnan(given), own, given),
            },
            schema=SPOOLED,
        )


def _positions(plan: TrackPlan) -> np.ndarray:
    window = 0 if plan.window is None else plan.window.astype(np.int64)
    return np.asarray(window * SPAN + plan.frame_index.astype(np.int64), np.int64)


def _scores(plan: TrackPlan) -> np.ndarray:
    if plan.mask_scores is None:
        return np.full(len(plan.instance), np.nan, np.float32)
    return plan.mask_scores.astype(np.float32)


def _carried_rows(position: int, carried: Sequence[CarriedMask]) -> pa.Table:
    return pa.table(
        {
            "track": np.full(len(carried), position, np.int32),
            "frame_index": [mask.frame_index for mask in carried],
            "mask": [mask.mask for mask in carried],
            "score": [mask.score for mask in carried],
        },
        schema=SPOOLED,
    )


def _without_empty(rows: pa.Table, size: tuple[int, int]) -> pa.Table:
    """The rows with masks as an encoder writes them, but for those without a pixel."""
    texts = rows["mask"].to_pylist()
    masks, areas = check_masks(texts, size)
    if masks != texts:
        masks_column = pa.array(masks, pa.binary())
        rows = rows.set_column(rows.schema.get_field_index("mask"), "mask", masks_column)
    return rows if areas.all() else rows.filter(pa.array(areas > 0))


def _mask_rows(video_id: str, track_id: int, masks: pa.Table, size: tuple[int, int]) -> pa.Table:
    boxes = rle.boxes(masks["mask"].to_pylist(), size)
    offsets = pa.array(np.arange(0, 4 * len(boxes) + 1, 4, dtype=np.int32))
    return pa.table(
        {
            "video_id": pa.repeat(pa.scalar(video_id), masks.num_rows),
            "track_id": np.full(masks.num_rows, track_id, np.int32),
            "frame_index": masks["frame_index"],
            "box": pa.ListArray.from_arrays(offsets, boxes.astype(np.float32).ravel()),
            "mask": masks["mask"],
            "score": masks["score"],
        },
        schema=schema.MASKS,
    )


def _track_row(
    video: VideoInfo, track_id: int, track: Track, frames: pa.ChunkedArray, missing: IntArray
) -> dict[str, object]:
    start, stop = frames[0].as_py(), frames[-1].as_py() + 1
    return {
        "video_id": video.video_id,
        "track_id": track_id,
        "label": track.label,
        "score": track.score,
        "class_scores": None if track.class_scores is None else track.class_scores.tolist(),
        "entries": [{"label": label, "score": score} for label, score in track.entries],
        "start_frame": start,
        "stop_frame": stop,
        "num_frames": len(frames),
        "num_missing_frames": int(np.diff(np.searchsorted(missing, [start, stop]))[0]),
        "height": video.height,
        "width": video.width,
        "video_num_frames": video.num_frames,
        "members": list(track.members),
    }
