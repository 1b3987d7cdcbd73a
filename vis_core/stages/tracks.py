"""One video's predictions, in order, to its tracks and masks: the linkers, then the masks.

The first pass feeds the linkers, which keep light data and answer with references. The second
gathers the masks that were referred to and streams them out by track. Where the rows come from,
committed parts or a table somebody brought, is the caller's business.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vis_core import schema
from vis_core.masks import rle
from vis_core.store.planning import SPAN
from vis_core.store.results import ResultsWriter
from vis_core.store.spool import SPOOLED, MaskSpool
from vis_core.system import System
from vis_core.types import CarriedMask, FramePrediction, Hole, IntArray, TrackPlan, VideoInfo

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
    link_config: Any
    # Rows of `frames` in order of (window, frame), a table at a time; None: all columns.
    tables: Callable[[Sequence[str] | None], Iterator[pa.Table]]
    cuts: IntArray  # frames after which a shot ends, ascending
    holes: Sequence[Hole]  # in order of (window, frame)
    missing: IntArray  # sampled frames that are in a hole, each once


def write_tracks(
    video: VideoInfo, members: Sequence[MemberRows], writer: ResultsWriter
) -> dict[str, Any]:
    """Links one video; whatever its linker does wrong becomes the reason, and writes nothing."""
    with MaskSpool() as spool:
        try:
            plans = link_members(video, members)
            for _, plan in plans:
                _check_plan(plan)
            _gather(video, members, plans, spool)
        except OSError:
            raise
        except Exception as error:
            logger.exception("linking %s failed", video.video_id)
            return {"error": f"{type(error).__name__}: {error}"}
        num_tracks, num_masks = _write(video, members, plans, spool, writer)
    return {"num_tracks": num_tracks, "num_masks": num_masks, "error": None}


def link_members(video: VideoInfo, members: Sequence[MemberRows]) -> list[tuple[str, TrackPlan]]:
    """Runs every member's linker; the plans, each with its member's name, best score first."""
    plans = [(rows.member, plan) for rows in members for plan in _member_plans(video, rows)]
    return sorted(plans, key=lambda item: -item[1].score)


def _check_plan(plan: TrackPlan) -> None:
    """What every system's linker must keep to; a wrong reference would take a wrong mask."""
    if not math.isfinite(plan.score) or not all(math.isfinite(s) for _, s in plan.entries):
        raise ValueError(f"a track has score {plan.score} and entries {plan.entries}")
    frames = [*plan.frame_index.tolist(), *(mask.frame_index for mask in plan.carried)]
    if len(set(frames)) != len(frames):
        raise ValueError("a track has two masks in one frame")


def _member_plans(video: VideoInfo, rows: MemberRows) -> list[TrackPlan]:
    """One linker per video, or per shot where it must not link across cuts."""
    predictions = (row for table in rows.tables(None) for row in schema.iter_predictions(table))
    items = _in_order(_with_shots(predictions, rows.cuts), rows.holes)
    linker = rows.system.make_linker(rows.link_config)
    linker.start(video)
    plans: list[TrackPlan] = []
    shot: tuple[int, int] | None = None
    for item in items:
        if isinstance(item, FramePrediction) and rows.link_config.break_at_cuts:
            here = (item.window, item.shot or 0)
            if shot is not None and here[1] != shot[1] and here[0] == shot[0]:
                plans += linker.finish()
                linker = rows.system.make_linker(rows.link_config)
                linker.start(video)
            shot = here
        linker.step(item)
    return plans + linker.finish()


def _with_shots(
    predictions: Iterator[FramePrediction], cuts: IntArray
) -> Iterator[FramePrediction]:
    """Numbers the shots: a frame's shot is the number of cuts before it."""
    for prediction in predictions:
        shot = int(np.searchsorted(cuts, prediction.frame_index))
        yield dataclasses.replace(prediction, shot=shot)


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


def _write(
    video: VideoInfo,
    members: Sequence[MemberRows],
    plans: Sequence[tuple[str, TrackPlan]],
    spool: MaskSpool,
    writer: ResultsWriter,
) -> tuple[int, int]:
    """Writes what was gathered; ids dense by score, tracks without any mask left out."""
    size = (video.height, video.width)
    missing = {rows.member: rows.missing for rows in members}
    num_masks, track_rows = 0, []
    for track_id, (position, masks) in enumerate(spool.tracks()):
        member, plan = plans[position]
        track_rows.append(
            _track_row(video, track_id, member, plan, masks["frame_index"], missing[member])
        )
        writer.add_masks(_mask_rows(video.video_id, track_id, masks, size))
        num_masks += masks.num_rows
    if track_rows:
        writer.add_tracks(pa.Table.from_pylist(track_rows, schema=schema.TRACKS))
    return len(track_rows), num_masks


def _gather(
    video: VideoInfo,
    members: Sequence[MemberRows],
    plans: Sequence[tuple[str, TrackPlan]],
    spool: MaskSpool,
) -> None:
    """Second pass: feeds the spool with every mask the plans refer to or bring along."""
    size = (video.height, video.width)
    for rows in members:
        mine = [(i, plan) for i, (name, plan) in enumerate(plans) if name == rows.member]
        references, num_found = _References.of(mine), 0
        if len(references.position):
            for table in rows.tables(_REFERRED):
                found = references.taken_from(table)
                num_found += found.num_rows
                spool.add(_without_empty(found, size))
        if num_found != len(references.position):
            lost = len(references.position) - num_found
            raise ValueError(f"{lost} references of {rows.member!r} name frames that have no row")
    for position, (_, plan) in enumerate(plans):
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
    def of(cls, plans: Sequence[tuple[int, TrackPlan]]) -> _References:
        frames = [_positions(plan) for _, plan in plans]
        position = np.concatenate(frames) if frames else np.zeros(0, np.int64)
        order = np.argsort(position, kind="stable")
        sizes = [len(plan.instance) for _, plan in plans]
        empty: list[np.ndarray] = [np.zeros(0)]
        return cls(
            position=position[order],
            instance=np.concatenate([p.instance for _, p in plans] or empty)[order],
            track=np.repeat([i for i, _ in plans] or np.zeros(0, np.int64), sizes)[order],
            score=np.concatenate([_scores(p) for _, p in plans] or empty)[order],
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
    areas = rle.areas(rows["mask"].to_pylist(), size)
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
    video: VideoInfo,
    track_id: int,
    member: str,
    plan: TrackPlan,
    frames: pa.ChunkedArray,
    missing: IntArray,
) -> dict[str, object]:
    start, stop = frames[0].as_py(), frames[-1].as_py() + 1
    entries = plan.entries or ((plan.label, plan.score),)
    return {
        "video_id": video.video_id,
        "track_id": track_id,
        "label": plan.label,
        "score": plan.score,
        "class_scores": None if plan.class_scores is None else plan.class_scores.tolist(),
        "entries": [{"label": label, "score": score} for label, score in entries],
        "start_frame": start,
        "stop_frame": stop,
        "num_frames": len(frames),
        "num_missing_frames": int(np.diff(np.searchsorted(missing, [start, stop]))[0]),
        "height": video.height,
        "width": video.width,
        "video_num_frames": video.num_frames,
        "members": [member],
    }
