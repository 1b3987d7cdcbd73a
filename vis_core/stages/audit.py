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
from vis_core.store import damage, parts
from vis_core.store.damage import DamagedFile
from vis_core.store.folder import STAGING_PREFIX, LocalFolder
from vis_core.store.manifest import differs_from_previous, rows_to_segments
from vis_core.store.names import FOLDERS, SET_ASIDE_SUFFIX, is_part
from vis_core.store.results import MASKS, TRACKS
from vis_core.store.segments import SegmentReceipt
from vis_core.store.store import FAILURES, VIDEOS, Store
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
    try:
        # Each is read once: on object storage every read is a few requests.
        logs = store.manifest.load()
        videos = store.videos()
        store.table(FAILURES, schema.FAILURES)
    except DamagedFile as error:
        # Nothing can be held against a manifest that cannot be read.
        torn = [f"{name} is damaged; {damage.AGAIN}" for name in _torn_logs(store)] or [str(error)]
        return Audit(problems=torn, conservation=[], num_segments=0, num_videos=0, num_orphans=0)
    settlement = _settlement(store, job, videos, logs["segments"], logs["attempts"])
    segments = rows_to_segments(settlement.segments)
    problems = [*_part_problems(store, segments, deep)]
    problems += _account_problems(job, settlement)
    problems += _unlinked_problems(job, settlement, logs["links"])
    orphans = _orphans(store, logs["segments"])
    problems += _orphan_problems(store, orphans)
    problems += [f"{path} {_STRANGER}" for path in store.strangers()]
    for under in (TRACKS, MASKS):
        problems += _result_problems(store, under, logs["links"], deep)
    problems += _twice([(VIDEOS, settlement.videos.select(["video_id"]))])
    if deep and not problems:
        problems += row_problems(store, settlement.videos)
    return Audit(
        problems=problems,
        conservation=[str(account) for account in finish.conservation(job, settlement)],
        num_segments=len(segments),
        num_videos=len(settlement.videos),
        num_orphans=len(orphans),
    )


def _torn_logs(store: Store) -> list[str]:
    return [name for log in store.manifest.logs for name in log.torn()]


def _orphans(store: Store, segments: pa.Table) -> list[str]:
    """Parts that no row names."""
    named = pc.unique(segments["part"]).to_pylist()
    return sorted(set(filter(is_part, store.folder.names(parts.FRAMES))).difference(named))


def _orphan_problems(store: Store, orphans: list[str]) -> Iterator[str]:
    """Files that the next run would take for finished work."""
    for name in orphans:
        if parts.read_receipt(store.folder, name) is None:
            yield f"{parts.FRAMES}/{name} is not the part that its name says; {damage.AGAIN}"


def _twice(found: list[tuple[str, pa.Table]]) -> Iterator[str]:
    """A line for each file with a key that an earlier row has as well."""
    if not found:
        return
    keys = pa.concat_tables([table for _, table in found], promote_options="permissive")
    names = keys.column_names
    owner = np.repeat(np.arange(len(found)), [len(table) for _, table in found])
    order = pc.sort_indices(
        keys.append_column("row", pa.array(np.arange(len(keys)))),
        sort_keys=[(name, "ascending") for name in [*names, "row"]],
    )
    again = ~differs_from_previous(keys.take(order), names) if len(keys) else np.zeros(0, bool)
    for position in np.unique(owner[order.to_numpy()[again]]).tolist():
        count = int((owner[order.to_numpy()[again]] == position).sum())
        yield f"{found[position][0]} repeats {count} rows; run the job again"


def settlement_of(store: Store, job: Job) -> Settlement:
    """The folder as it stands, for its own job."""
    manifest = store.manifest
    return _settlement(
        store, job, store.videos(), manifest.segments.load(), manifest.attempts.load()
    )


def _settlement(
    store: Store, job: Job, videos: pa.Table, segments: pa.Table, attempts: pa.Table
) -> Settlement:
    counted = attempts_that_count(attempts)
    given_up = quarantined(counted, job.settings.max_attempts)
    return Settlement(job, store.folder, videos, segments, given_up)


def _part_problems(store: Store, segments: list[SegmentReceipt], deep: bool) -> Iterator[str]:
    """Every committed segment must be where the manifest says, with as many rows."""
    metadata: dict[str, pq.FileMetaData | None] = {}
    for segment in segments:
        if segment.part not in metadata:
            metadata[segment.part] = _footer(store, segment.part)
        footer = metadata[segment.part]
        groups = range(segment.row_group, segment.row_group + segment.num_row_groups)
        if footer is None:
            yield f"{segment.key}: part {segment.part} is missing or damaged; {_PART_REMEDY}"
        elif groups.stop > footer.num_row_groups:
            yield f"{segment.key}: {segment.part} has only {footer.num_row_groups} row groups"
        elif sum(footer.row_group(g).num_rows for g in groups) != segment.num_rows:
            yield f"{segment.key}: {segment.part} does not hold its {segment.num_rows} rows"
        elif deep and (problem := _content_problem(store, segment)):
            yield problem


def _footer(store: Store, part: str) -> pq.FileMetaData | None:
    path = f"{parts.FRAMES}/{part}"
    try:
        with damage.reading(store.folder, path), store.folder.open(path) as file:
            return pq.ParquetFile(file).metadata
    except (FileNotFoundError, DamagedFile):
        return None


def _content_problem(store: Store, segment: SegmentReceipt) -> str | None:
    try:
        digest = parts.digest_of_segment(store.folder, segment)
    except DamagedFile as error:
        return f"{segment.key}: {error}"
    if digest == segment.digest:
        return None
    return f"{segment.key}: content of {segment.part} changed; {_PART_REMEDY}"


def _account_problems(job: Job, settlement: Settlement) -> Iterator[str]:
    for account in finish.conservation(job, settlement):
        if not account.holds:
            yield f"frames do not add up: {account}; run the job again to complete it"


def _unlinked_problems(job: Job, settlement: Settlement, links: pa.Table) -> Iterator[str]:
    """Every readable video must be linked, from the segments that are there now."""
    linked = set(links["track_key"].to_pylist())
    readable = np.flatnonzero(settlement.videos["num_frames"].to_numpy() > 0)
    for settled in settlement.videos_of(readable.tolist()):
        if track_key(job, settled) not in linked:
            name = settled.video.video_id
            yield f"{name}: its tracks are missing or out of date; run the job again"


def _result_problems(store: Store, under: str, links: pa.Table, deep: bool) -> Iterator[str]:
    """Files that are whole and named by a row of `links`, with as many rows as it says, each once.

    Keys of `masks` are read only by `deep`: there are many.
    """
    named = set(links["file"].to_pylist())
    read: list[tuple[str, pa.Table]] = []
    complete = True
    for path in (f"{under}/{name}" for name in store.folder.names(under) if is_part(name)):
        keys = _keys(store, path, _KEYS[under] if under == TRACKS or deep else [])
        if keys is None:
            yield f"{path} is damaged: it cannot be read; run the job again"
            complete = False
        elif len(keys) and path.partition("/")[2] not in named:
            yield f"{path} is named by no row of manifest/links; run the job again"
        read += [] if keys is None else [(path, keys)]
    expected = pc.sum(links["num_tracks" if under == TRACKS else "num_masks"]).as_py() or 0
    total = sum(len(keys) for _, keys in read)
    if total != expected and complete:
        yield f"{under}/ holds {total} rows, the manifest says {expected}; run the job again"
    yield from _twice([(path, keys) for path, keys in read if keys.num_columns])


_KEYS = {TRACKS: ["video_id", "track_id"], MASKS: ["video_id", "track_id", "frame_index"]}
_STRANGER = "is no file of this folder, yet a glob reads it as results; move it away"


def _keys(store: Store, path: str, columns: list[str]) -> pa.Table | None:
    """These columns of a file, or a table of as many rows without any; None: it is damaged."""
    try:
        with damage.reading(store.folder, path), store.folder.open(path) as file:
            keys = pq.ParquetFile(file).read(columns=columns)
    except (FileNotFoundError, DamagedFile):
        return None
    return keys if keys.column_names == columns else None


_PART_REMEDY = "delete what is there and run the job again: its frames are predicted anew"


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
    return {
        "parts_deleted": len(dead),
        "bytes_freed": freed,
        "staging_deleted": _remove_staging(store),
        "damaged_deleted": _remove_set_aside(store),
    }


def _remove_set_aside(store: Store) -> int:
    """Files that a run found damaged and hid."""
    folders = ["", *FOLDERS, *(f"manifest/{log.name}" for log in store.manifest.logs)]
    found = [
        f"{under}/{name}".lstrip("/")
        for under in folders
        for name in store.folder.names(under, ".")
        if name.endswith(SET_ASIDE_SUFFIX)
    ]
    for path in found:
        store.folder.delete(path)
    return len(found)


def _remove_staging(store: Store) -> int:
    """The caller holds the lease: nobody is writing."""
    if not isinstance(store.folder, LocalFolder):
        return 0
    staged = list(store.folder.path.glob(f"**/{STAGING_PREFIX}*"))
    for path in staged:
        path.unlink(missing_ok=True)
    return len(staged)
