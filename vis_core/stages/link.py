"""link: the keyed reduce. One settled video in, its tracks and masks out; two passes.

The first pass feeds the linker, which keeps light data and answers with references. The second
gathers the masks that were referred to and streams them out by track.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vis_core import schema
from vis_core.failpoints import failpoint
from vis_core.fingerprints import digest_of
from vis_core.job import Job, Member
from vis_core.masks import rle
from vis_core.store import parts
from vis_core.store.folder import Folder
from vis_core.store.manifest import LINKS
from vis_core.store.planning import SPAN
from vis_core.store.results import ResultsWriter, results_name
from vis_core.store.segments import SegmentReceipt
from vis_core.store.spool import SPOOLED, MaskSpool
from vis_core.types import CarriedMask, FramePrediction, Hole, IntArray, TrackPlan, VideoInfo
from vis_core.video.sampling import Sampling, sampled_frames

logger = logging.getLogger(__name__)

_REFERRED = [
    "window",
    "frame_index",
    "instances.list.element.score",
    "instances.list.element.mask",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SettledVideo:
    """A video whose every owned frame is committed or a hole, in every member."""

    video: VideoInfo
    segments: Mapping[str, Sequence[SegmentReceipt]]  # by member name
    given_up: Mapping[str, Sequence[Hole]]

    def holes(self, member: str) -> list[Hole]:
        """All missing ranges of a member, in order of (window, frame)."""
        found = [
            dataclasses.replace(hole, window=segment.key.window)
            for segment in self.segments[member]
            for hole in segment.holes
        ]
        order = [*found, *self.given_up[member]]
        return sorted(order, key=lambda hole: (hole.window, hole.start, hole.stop))

    def missing(self, member: str, sampling: Sampling) -> IntArray:
        """The member's sampled frames that are in a hole, each once."""
        frames = sampled_frames(self.video, sampling)
        ranges = [(hole.start, hole.stop) for hole in self.holes(member)]
        inside = [slice(*np.searchsorted(frames, pair)) for pair in ranges]
        return np.unique(np.concatenate([frames[:0], *(frames[part] for part in inside)]))


def track_key(job: Job, settled: SettledVideo) -> str:
    """Key of a video's tracks: the linkers, the segments they read, and what is missing."""
    return digest_of(
        {
            "video": [settled.video.video_id, settled.video.version],
            "members": [
                {
                    "name": member.name,
                    "linker": member.linker_fingerprint,
                    "segments": sorted(s.digest for s in settled.segments[member.name]),
                    "holes": [(hole.start, hole.stop) for hole in settled.holes(member.name)],
                }
                for member in job.members
            ],
        }
    )


def link_videos(
    job: Job, folder: Folder, batch: Sequence[SettledVideo], *, metadata: schema.FileMetadata
) -> pa.Table:
    """Links a batch of settled videos into one pair of result files; returns rows of `links`."""
    failpoint("before_link")
    rows: list[dict[str, Any]] = []
    with ResultsWriter(folder, metadata, job.settings.row_group_bytes) as writer:
        for settled in batch:
            row = {"video_id": settled.video.video_id, "track_key": track_key(job, settled)}
            rows.append({**row, **_link_into(job, folder, settled, writer)})
        done = [row for row in rows if row["error"] is None]
        name = results_name([row["track_key"] for row in done])
        if done:
            writer.commit(name)
    failpoint("after_link")
    rows = [{**row, "file": name if row["error"] is None else ""} for row in rows]
    return pa.Table.from_pylist(rows, schema=LINKS)


def failed_links(job: Job, batch: Sequence[SettledVideo], message: str) -> pa.Table:
    """Rows of `links` for videos that nothing could be linked of."""
    rows = [
        {
            "video_id": settled.video.video_id,
            "track_key": track_key(job, settled),
            "error": message,
            "file": "",
        }
        for settled in batch
    ]
    return pa.Table.from_pylist(rows, schema=LINKS)


def _link_into(
    job: Job, folder: Folder, settled: SettledVideo, writer: ResultsWriter
) -> dict[str, Any]:
    """Links one video; whatever its linker does wrong becomes the reason, and writes nothing."""
    with MaskSpool() as spool:
        try:
            plans = link_video(job, folder, settled)
            for _, plan in plans:
                _check_plan(plan)
            _gather(folder, settled, plans, spool)
        except OSError:
            raise
        except Exception as error:
            logger.exception("linking %s failed", settled.video.video_id)
            return {"error": f"{type(error).__name__}: {error}"}
        num_tracks, num_masks = _write_video(job, settled, plans, spool, writer)
    return {"num_tracks": num_tracks, "num_masks": num_masks, "error": None}


def _check_plan(plan: TrackPlan) -> None:
    """What every system's linker must keep to; a wrong reference would take a wrong mask."""
    if not math.isfinite(plan.score) or not all(math.isfinite(s) for _, s in plan.entries):
        raise ValueError(f"a track has score {plan.score} and entries {plan.entries}")
    frames = [*plan.frame_index.tolist(), *(mask.frame_index for mask in plan.carried)]
    if len(set(frames)) != len(frames):
        raise ValueError("a track has two masks in one frame")


def link_video(job: Job, folder: Folder, settled: SettledVideo) -> list[tuple[str, TrackPlan]]:
    """Runs every member's linker; the plans, each with its member's name, best score first."""
    plans = [
        (member.name, plan)
        for member in job.members
        for plan in _member_plans(folder, settled, member)
    ]
    return sorted(plans, key=lambda item: -item[1].score)


def _member_plans(folder: Folder, settled: SettledVideo, member: Member) -> list[TrackPlan]:
    """One linker per video, or per shot where it must not link across cuts."""
    segments = settled.segments[member.name]
    items = _in_order(
        _with_shots(read_predictions(folder, segments), segments), settled.holes(member.name)
    )
    linker = member.system.make_linker(member.link_config)
    linker.start(settled.video)
    plans: list[TrackPlan] = []
    shot: tuple[int, int] | None = None
    for item in items:
        if isinstance(item, FramePrediction) and member.link_config.break_at_cuts:
            here = (item.window, item.shot or 0)
            if shot is not None and here[1] != shot[1] and here[0] == shot[0]:
                plans += linker.finish()
                linker = member.system.make_linker(member.link_config)
                linker.start(settled.video)
            shot = here
        linker.step(item)
    return plans + linker.finish()


def covering(segments: Sequence[SegmentReceipt]) -> list[tuple[SegmentReceipt, int, int]]:
    """Segments with the range to use of each, so that every frame of a window comes once.

    Committed segments may overlap after a change of shard size met a surviving worker of a dead
    run; overlapping rows are equal, so the earlier segment simply wins.
    """
    chosen: list[tuple[SegmentReceipt, int, int]] = []
    reached, window = 0, -1
    for segment in sorted(segments, key=lambda s: (s.key.window, s.key.start, -s.key.stop)):
        if segment.key.window != window:
            window, reached = segment.key.window, 0
        start = max(segment.key.start, reached)
        if start < segment.key.stop:
            chosen.append((segment, start, segment.key.stop))
            reached = segment.key.stop
    return chosen


def read_predictions(
    folder: Folder, segments: Sequence[SegmentReceipt]
) -> Iterator[FramePrediction]:
    """A member's predictions of one video, in order of (window, frame)."""
    for table in _tables(folder, segments, None):
        yield from schema.iter_predictions(table)


def _tables(
    folder: Folder, segments: Sequence[SegmentReceipt], columns: Sequence[str] | None
) -> Iterator[pa.Table]:
    for segment, start, stop in covering(segments):
        whole = (start, stop) == (segment.key.start, segment.key.stop)
        for table in parts.read_segment(folder, segment, columns):
            yield table if whole else _between(table, start, stop)


def _between(table: pa.Table, start: int, stop: int) -> pa.Table:
    index = table["frame_index"]
    return table.filter(pc.and_(pc.greater_equal(index, start), pc.less(index, stop)))


def _with_shots(
    predictions: Iterator[FramePrediction], segments: Sequence[SegmentReceipt]
) -> Iterator[FramePrediction]:
    """Numbers the shots: a frame's shot is the number of cuts before it."""
    cuts = np.unique(np.asarray([cut for s in segments for cut in s.cuts], np.int64))
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


def _write_video(
    job: Job,
    settled: SettledVideo,
    plans: Sequence[tuple[str, TrackPlan]],
    spool: MaskSpool,
    writer: ResultsWriter,
) -> tuple[int, int]:
    """Writes what was gathered; ids dense by score, tracks without any mask left out."""
    size = (settled.video.height, settled.video.width)
    missing = {m.name: settled.missing(m.name, job.sampling) for m in job.members}
    num_masks, rows = 0, []
    for track_id, (position, masks) in enumerate(spool.tracks()):
        member, plan = plans[position]
        rows.append(
            _track_row(settled, track_id, member, plan, masks["frame_index"], missing[member])
        )
        writer.add_masks(_mask_rows(settled.video.video_id, track_id, masks, size))
        num_masks += masks.num_rows
    if rows:
        writer.add_tracks(pa.Table.from_pylist(rows, schema=schema.TRACKS))
    return len(rows), num_masks


def _gather(
    folder: Folder,
    settled: SettledVideo,
    plans: Sequence[tuple[str, TrackPlan]],
    spool: MaskSpool,
) -> None:
    """Second pass: feeds the spool with every mask the plans refer to or bring along."""
    size = (settled.video.height, settled.video.width)
    for member, segments in settled.segments.items():
        mine = [(i, plan) for i, (name, plan) in enumerate(plans) if name == member]
        references, num_found = _References.of(mine), 0
        if len(references.position):
            for table in _tables(folder, segments, _REFERRED):
                found = references.taken_from(table)
                num_found += found.num_rows
                spool.add(_without_empty(found, size))
        if num_found != len(references.position):
            lost = len(references.position) - num_found
            raise ValueError(f"{lost} references of {member!r} name frames that have no row")
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
    settled: SettledVideo,
    track_id: int,
    member: str,
    plan: TrackPlan,
    frames: pa.ChunkedArray,
    missing: IntArray,
) -> dict[str, object]:
    start, stop = frames[0].as_py(), frames[-1].as_py() + 1
    entries = plan.entries or ((plan.label, plan.score),)
    return {
        "video_id": settled.video.video_id,
        "track_id": track_id,
        "label": plan.label,
        "score": plan.score,
        "class_scores": None if plan.class_scores is None else plan.class_scores.tolist(),
        "entries": [{"label": label, "score": score} for label, score in entries],
        "start_frame": start,
        "stop_frame": stop,
        "num_frames": len(frames),
        "num_missing_frames": int(np.diff(np.searchsorted(missing, [start, stop]))[0]),
        "height": settled.video.height,
        "width": settled.video.width,
        "video_num_frames": settled.video.num_frames,
        "members": [member],
    }
