"""finish: makes the folder say exactly what is true, for the tables people glob.

Everything here is derived from the manifest and the index, so it may be run at any time, and
running it twice changes nothing.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vis_core import schema
from vis_core.association.fusion import check_label_maps
from vis_core.association.label_maps import map_categories, read_label_maps
from vis_core.failpoints import failpoint
from vis_core.job import Job, file_metadata
from vis_core.stages.settle import Settlement
from vis_core.store.damage import reading
from vis_core.store.manifest import LINKS
from vis_core.store.names import is_part
from vis_core.store.results import MASKS, TRACKS, ResultsWriter, num_rows, results_name
from vis_core.store.store import CATEGORIES, CURRENT, FAILURES, VIDEOS, Store, now

logger = logging.getLogger(__name__)

_FAILURE_KEY = ("video_id", "member", "stage", "start_frame", "stop_frame")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conservation:
    """One member's account: every owned frame is committed or a hole."""

    member: str
    owned: int
    committed: int
    holes: int

    def __str__(self) -> str:
        sign = "=" if self.holds else "≠"
        return (
            f"{self.member}: {self.owned} frames owned {sign} {self.committed} committed"
            f" + {self.holes} holes"
        )

    @property
    def holds(self) -> bool:
        return self.owned == self.committed + self.holes


def write_tables(
    job: Job, store: Store, settlement: Settlement, link_rows: pa.Table, run_id: str
) -> pa.Table:
    """Writes `videos`, `categories`, `failures` and `manifest/current`; returns the failures."""
    metadata = file_metadata(job)
    failures = current_failures(settlement, link_rows, job, run_id)
    merged = merge_failures(store.table(FAILURES, schema.FAILURES), failures, settlement.videos)
    failpoint("before_tables")
    store.write_table(VIDEOS, with_status(settlement, failures), metadata)
    store.write_table(CATEGORIES, categories(job), metadata)
    store.write_table(FAILURES, merged, metadata)
    store.write_table(CURRENT, settlement.live_files(), metadata)
    failpoint("after_tables")
    return merged


def categories(job: Job) -> pa.Table:
    rows = [
        {"member": member.name, **dataclasses.asdict(category)}
        for member in job.members
        for category in member.categories()
    ]
    return pa.Table.from_pylist(rows, schema=schema.CATEGORIES)


def check_labels(job: Job) -> None:
    """Labels have names, before anything is computed; fused members have the same ones."""
    found = {member.name: member.categories() for member in job.members}
    if job.fusion is None:
        return
    maps = read_label_maps(job.fusion.label_map, list(found))
    named = {name: map_categories(c, maps.get(name, {})) for name, c in found.items() if c}
    check_label_maps(named)


def current_failures(
    settlement: Settlement, link_rows: pa.Table, job: Job, run_id: str
) -> list[dict[str, Any]]:
    """What cannot be labelled as things stand: unreadable files, holes, given-up segments."""
    rows = [
        *_index_failures(settlement.videos),
        *settlement.hole_rows(),
        *settlement.given_up_rows(),
        *_link_failures(link_rows),
    ]
    uris = settlement.uris()
    seen = now()
    return [
        {
            **row,
            "uri": uris[row["video_id"]],
            "state": "open",
            "run_id": run_id,
            "first_seen": seen,
            "last_seen": seen,
        }
        for row in rows
    ]


def _index_failures(videos: pa.Table) -> Iterable[dict[str, Any]]:
    # With frames: its file could not be reached by this run, what is known of it stays.
    failed = videos.filter(pc.equal(videos["status"], "failed"))
    for row in failed.select(["video_id", "error"]).to_pylist():
        yield _failure(row["video_id"], 0, 0, "", "index", "SourceError", row["error"] or "")
    cut = videos.filter(pc.greater(videos["missing_frames"], 0))
    for row in cut.select(["video_id", "num_frames", "missing_frames"]).to_pylist():
        there, promised = row["num_frames"], row["num_frames"] + row["missing_frames"]
        message = f"cut off: {there} of {promised} frames are in the file"
        yield _failure(row["video_id"], there, promised, "", "index", "CutOff", message)


def _link_failures(link_rows: pa.Table) -> Iterable[dict[str, Any]]:
    failed = link_rows.filter(pc.is_valid(link_rows["error"]))
    for row in failed.to_pylist():
        kind, _, message = row["error"].partition(": ")
        yield _failure(row["video_id"], 0, 0, "", "link", kind, message)


def _failure(
    video_id: str, start: int, stop: int, member: str, stage: str, kind: str, message: str
) -> dict[str, Any]:
    return {
        "video_id": video_id,
        "start_frame": start,
        "stop_frame": stop,
        "member": member,
        "stage": stage,
        "error_class": kind,
        "message": message,
        "attempts": 1,
    }


def merge_failures(
    earlier: pa.Table, current: Sequence[dict[str, Any]], videos: pa.Table
) -> pa.Table:
    """Keeps when a failure was first seen; what is gone now is `resolved`, not forgotten."""
    rows = {_key(row): row for row in current}
    known = set(videos["video_id"].to_pylist()) if earlier.num_rows else set()
    for row in earlier.to_pylist():
        if _key(row) in rows:
            now_row = rows[_key(row)]
            now_row["first_seen"] = row["first_seen"]
            now_row["attempts"] = max(row["attempts"], now_row["attempts"])
        elif row["video_id"] in known:
            rows[_key(row)] = {**row, "state": "resolved"}
    ordered = [rows[key] for key in sorted(rows)]
    return pa.Table.from_pylist(ordered, schema=schema.FAILURES)


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _FAILURE_KEY)


def with_status(settlement: Settlement, failures: Sequence[dict[str, Any]]) -> pa.Table:
    """The videos table with the status and reason that prediction and linking found."""
    videos = settlement.videos
    reasons: dict[str, list[str]] = {}
    has_frames = pc.greater(videos["num_frames"], 0)
    with_frames = set(videos["video_id"].filter(has_frames).to_pylist())
    for row in failures:
        if row["video_id"] in with_frames:
            where = (
                f"frames {row['start_frame']}-{row['stop_frame']}: " if row["stop_frame"] else ""
            )
            reasons.setdefault(row["video_id"], []).append(f"{where}{row['message']}")
    readable = has_frames.to_pylist()
    empty = settlement.videos_without_rows()
    # What the index noted of a file stands; what an earlier run found may no longer hold.
    from_index = pc.not_equal(videos["status"], "partial").to_pylist()
    status, error = [], []
    for video_id, can_read, noted, old in zip(
        videos["video_id"].to_pylist(),
        readable,
        from_index,
        videos["error"].to_pylist(),
        strict=True,
    ):
        mine = reasons.get(video_id, [])
        failed = not can_read or video_id in empty
        status.append("failed" if failed else "partial" if mine else "ok")
        more = f" (and {len(mine) - 3} more)" if len(mine) > 3 else ""
        error.append("; ".join(mine[:3]) + more if mine else (old if noted else None))
    for name, values in (("status", status), ("error", error)):
        position = videos.schema.get_field_index(name)
        videos = videos.set_column(position, name, pa.array(values, pa.string()))
    return videos


def keep_live_results(job: Job, store: Store, live: pa.Table, run_id: str) -> None:
    """Leaves exactly the live rows under `tracks/` and `masks/`, and their rows in the manifest.

    A file with dead rows is rewritten without them. Order matters: the new file, then the
    manifest that names it, then the old file goes. Only what is there now may go: files of a run
    that takes over meanwhile are none of ours.
    """
    there = {under: store.folder.names(under) for under in (TRACKS, MASKS)}
    named = live.filter(pc.is_null(live["error"]))
    rewritten = [
        _rewritten(job, store, file, rows, run_id)
        for file, rows in _by_file(named)
        if _has_dead_rows(store, file, rows)
    ]
    if rewritten:
        store.manifest.links.append(pa.concat_tables(rewritten))
        moved = pa.concat_tables(rewritten)
        stay = pc.invert(pc.is_in(live["track_key"], moved["track_key"].combine_chunks()))
        live = pa.concat_tables([live.filter(stay), moved])
    failpoint("before_sweep")
    store.manifest.links.compact(keep=lambda _: live)
    _sweep(job, store, live, there, run_id)
    failpoint("after_sweep")


def _by_file(rows: pa.Table) -> Iterable[tuple[str, pa.Table]]:
    for file in sorted(pc.unique(rows["file"]).to_pylist()):
        yield file, rows.filter(pc.equal(rows["file"], file))


def _has_dead_rows(store: Store, file: str, live: pa.Table) -> bool:
    """Compares the file's row counts with those of its live videos."""
    expected = (pc.sum(live["num_tracks"]).as_py() or 0, pc.sum(live["num_masks"]).as_py() or 0)
    return num_rows(store.folder, file) != expected


def _rewritten(job: Job, store: Store, file: str, live: pa.Table, run_id: str) -> pa.Table:
    name = results_name([*live["track_key"].to_pylist(), file], run_id)
    wanted = live["video_id"].combine_chunks()
    settings = job.settings
    with ResultsWriter(store.folder, file_metadata(job), settings.row_group_bytes) as writer:
        for under, add in ((TRACKS, writer.add_tracks), (MASKS, writer.add_masks)):
            path = f"{under}/{file}"
            with reading(store.folder, path), store.folder.open(path) as handle:
                parquet = pq.ParquetFile(handle, page_checksum_verification=True)
                for group in range(parquet.num_row_groups):
                    rows = parquet.read_row_group(group)
                    add(rows.filter(pc.is_in(rows["video_id"], wanted)))
        writer.commit(name)
    position = LINKS.get_field_index("file")
    return live.set_column(position, "file", pa.array([name] * len(live), pa.string()))


def _sweep(
    job: Job, store: Store, live: pa.Table, there: Mapping[str, Sequence[str]], run_id: str
) -> None:
    """Deletes result files that no live row names; a glob must always match one file."""
    named = set(live.filter(pc.is_null(live["error"]))["file"].to_pylist())
    if not named:
        named = {_empty_file(job, store, there, run_id)}
    for under, names in there.items():
        for name in filter(is_part, names):
            if name not in named:
                store.folder.delete(f"{under}/{name}")


def _empty_file(job: Job, store: Store, there: Mapping[str, Sequence[str]], run_id: str) -> str:
    """The name of a pair of files without rows: one that is there, or a new one."""
    both = set(there[TRACKS]).intersection(there[MASKS])
    for name in sorted(filter(is_part, both)):
        if num_rows(store.folder, name) == (0, 0):
            return name
    name = results_name([], run_id)
    with ResultsWriter(store.folder, file_metadata(job), 1 << 20) as writer:
        writer.commit(name)
    return name


def conservation(job: Job, settlement: Settlement) -> list[Conservation]:
    """Per member: frames owned, committed and missing; the run is only whole if they add up."""
    return [
        Conservation(
            member=member.name,
            owned=int(np.sum(settlement.owned(member.name))),
            committed=settlement.num_committed(member.name),
            holes=settlement.num_missing(member.name),
        )
        for member in job.members
    ]
