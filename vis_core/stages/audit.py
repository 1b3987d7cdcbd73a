"""verify, explain, gc: what a results folder holds, checked against what it should hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vis_core import schema
from vis_core.errors import UsageError
from vis_core.job import Job, job_from_record
from vis_core.stages import finish
from vis_core.stages.link import track_key
from vis_core.stages.plan import attempts_that_count, quarantined
from vis_core.stages.results_check import row_problems
from vis_core.stages.settle import Settlement
from vis_core.store import parts
from vis_core.store.folder import STAGING_PREFIX, LocalFolder
from vis_core.store.manifest import rows_to_segments
from vis_core.store.patience import StorageError
from vis_core.store.results import MASKS, TRACKS
from vis_core.store.segments import SegmentReceipt
from vis_core.store.store import FAILURES, Store
from vis_core.system import System


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit:
    """What `verify` found: empty `problems` mean the folder is whole."""

    problems: list[str]
    conservation: list[str]
    num_segments: int
    num_videos: int
    num_orphans: int  # parts that nothing names: a dead run's, adopted by the next one


def open_job(store: Store, systems: Mapping[str, System]) -> Job:
    """The job a folder holds."""
    record = store.job()
    if record is None:
        raise UsageError(f"{store.folder.root!r} is not a results folder: it has no job.yaml")
    return job_from_record(record, store.folder.root, systems)


def verify(store: Store, systems: Mapping[str, System], *, deep: bool = False) -> Audit:
    """Holds the manifest against storage; `deep` also reads every row."""
    job = open_job(store, systems)
    settlement = settlement_of(store, job)
    segments = rows_to_segments(settlement.segments)
    problems = [*_part_problems(store, segments, deep)]
    problems += _account_problems(job, settlement)
    problems += _result_problems(store, job, settlement)
    if deep and not problems:
        problems += row_problems(store, settlement.videos)
    files = {name for name in store.folder.names(parts.FRAMES) if name.endswith(".parquet")}
    known = store.manifest.segments.load()["part"]
    return Audit(
        problems=problems,
        conservation=[str(account) for account in finish.conservation(job, settlement)],
        num_segments=len(segments),
        num_videos=len(settlement.videos),
        num_orphans=len(files.difference(pc.unique(known).to_pylist())),
    )


def settlement_of(store: Store, job: Job) -> Settlement:
    """The folder as it stands, for its own job."""
    attempts = attempts_that_count(store.manifest.attempts.load())
    return Settlement(
        job,
        store.folder,
        store.videos(),
        store.manifest.segments.load(),
        quarantined(attempts, job.settings.max_attempts),
    )


def _part_problems(store: Store, segments: list[SegmentReceipt], deep: bool) -> Iterator[str]:
    """Every committed segment must be where the manifest says, with as many rows."""
    metadata: dict[str, pq.FileMetaData | None] = {}
    for segment in segments:
        if segment.part not in metadata:
            metadata[segment.part] = _footer(store, segment.part)
        footer = metadata[segment.part]
        groups = range(segment.row_group, segment.row_group + segment.num_row_groups)
        if footer is None:
            yield f"{segment.key}: part {segment.part} is missing or damaged"
        elif groups.stop > footer.num_row_groups:
            yield f"{segment.key}: {segment.part} has only {footer.num_row_groups} row groups"
        elif sum(footer.row_group(g).num_rows for g in groups) != segment.num_rows:
            yield f"{segment.key}: {segment.part} does not hold its {segment.num_rows} rows"
        elif deep and (problem := _content_problem(store, segment)):
            yield problem


def _footer(store: Store, part: str) -> pq.FileMetaData | None:
    try:
        with store.folder.open(f"{parts.FRAMES}/{part}") as file:
            return pq.ParquetFile(file).metadata
    except StorageError:
        raise  # an outage says nothing about the file
    except (OSError, pa.ArrowInvalid):
        return None


def _content_problem(store: Store, segment: SegmentReceipt) -> str | None:
    try:
        digest = parts.digest_of_segment(store.folder, segment)
    except StorageError:
        raise
    except (OSError, pa.ArrowInvalid) as error:
        return f"{segment.key}: {segment.part} cannot be read: {error}"
    return None if digest == segment.digest else f"{segment.key}: content of {segment.part} changed"


def _account_problems(job: Job, settlement: Settlement) -> Iterator[str]:
    for account in finish.conservation(job, settlement):
        if not account.holds:
            yield f"frames do not add up: {account}; run the job again to complete it"


def _result_problems(store: Store, job: Job, settlement: Settlement) -> Iterator[str]:
    """Every readable video must be linked, from the segments that are there now."""
    links = store.manifest.links.load()
    linked = set(links["track_key"].to_pylist())
    readable = np.flatnonzero(settlement.videos["num_frames"].to_numpy() > 0)
    for settled in settlement.videos_of(readable.tolist()):
        if track_key(job, settled) not in linked:
            name = settled.video.video_id
            yield f"{name}: its tracks are missing or out of date; run the job again"
    for under, column in ((TRACKS, "num_tracks"), (MASKS, "num_masks")):
        expected = pc.sum(links[column]).as_py() or 0
        stored = [(name, _num_rows(store, f"{under}/{name}")) for name in store.folder.names(under)]
        damaged = [name for name, num_rows in stored if num_rows is None]
        yield from (f"{under}/{name} is damaged: it has no footer" for name in damaged)
        total = sum(num_rows or 0 for _, num_rows in stored)
        if total != expected and not damaged:
            yield f"{under}/ holds {total} rows, the manifest says {expected}; run the job again"


def _num_rows(store: Store, name: str) -> int | None:
    try:
        with store.folder.open(name) as file:
            return int(pq.ParquetFile(file).metadata.num_rows)
    except StorageError:
        raise
    except (OSError, pa.ArrowInvalid):
        return None


def explain(store: Store, systems: Mapping[str, System], video_id: str) -> dict[str, Any]:
    """Everything the folder knows about one video, as plain values."""
    job = open_job(store, systems)
    settlement = settlement_of(store, job)
    names = settlement.videos["video_id"].to_pylist()
    if video_id not in names:
        raise UsageError(f"no video {video_id!r} in {store.folder.root}; {_some_names(names)}")
    row = names.index(video_id)
    settled = settlement.video(row)
    key = track_key(job, settled)
    links = store.manifest.links.load()
    link = links.filter(pc.equal(links["track_key"], key)).to_pylist()
    failures = store.table(FAILURES, schema.FAILURES)
    info = settlement.videos.slice(row, 1).drop_columns(["pts", "key_frames"]).to_pylist()[0]
    return {
        "video": info,
        "members": {
            name: {
                "segments": [_segment_lines(segment) for segment in segments],
                "holes": [dataclasses.asdict(hole) for hole in settled.holes(name)],
            }
            for name, segments in settled.segments.items()
        },
        "tracks": link[0] if link else "not linked yet; run the job again",
        "failures": failures.filter(pc.equal(failures["video_id"], video_id)).to_pylist(),
        "attempts": _attempts_on(store, video_id),
    }


def _segment_lines(segment: SegmentReceipt) -> dict[str, Any]:
    return {
        "segment": str(segment.key),
        "part": segment.part,
        "rows": segment.num_rows,
        "digest": segment.digest[:16],
        "cuts": list(segment.cuts),
    }


def _attempts_on(store: Store, video_id: str) -> list[dict[str, Any]]:
    attempts = store.manifest.attempts.load()
    mine = attempts.filter(pc.equal(attempts["video_id"], video_id)).sort_by("time")
    return mine.select(
        ["start", "stop", "stage", "message", "pardon", "time", "run_id"]
    ).to_pylist()


def _some_names(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"it holds {len(names)} videos: {shown}{', …' if len(names) > 5 else ''}"


def collect_garbage(store: Store, systems: Mapping[str, System]) -> dict[str, int]:
    """Deletes what no current result needs: parts of other settings, half-written files.

    Whole parts that no manifest row names are kept: the next run adopts them.
    """
    job = open_job(store, systems)
    settlement = settlement_of(store, job)
    live = set(settlement.live_files()["file"].to_pylist())
    rows = store.manifest.segments.load()
    dead = sorted(set(pc.unique(rows["part"]).to_pylist()) - live)
    freed = 0
    alive = pa.array(sorted(live), pa.string())
    store.manifest.segments.compact(keep=lambda table: table.filter(pc.is_in(table["part"], alive)))
    for name in dead:
        path = f"{parts.FRAMES}/{name}"
        if store.folder.exists(path):
            freed += store.folder.size(path)
            store.folder.delete(path)
    staged = _remove_staging(store)
    return {"parts_deleted": len(dead), "bytes_freed": freed, "staging_deleted": staged}


def _remove_staging(store: Store) -> int:
    """The caller holds the lease: nobody is writing."""
    if not isinstance(store.folder, LocalFolder):
        return 0
    staged = list(store.folder.path.glob(f"**/{STAGING_PREFIX}*"))
    for path in staged:
        path.unlink(missing_ok=True)
    return len(staged)
