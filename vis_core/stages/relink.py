"""relink: tracks from predictions that are there already, with any system's linker.

The predictions are a results folder's, with all it knows about holes and cuts, or a bare `frames`
table. The output folder gets `tracks`, `masks`, `videos` and `categories`; no manifest, since
linking again is cheap.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from vis_core import schema
from vis_core.errors import UsageError
from vis_core.job import library_versions
from vis_core.schema import FileMetadata
from vis_core.stages import audit
from vis_core.stages.frames_table import FramesTable
from vis_core.stages.link import SettledVideo, member_rows
from vis_core.stages.plan import plan_job
from vis_core.stages.tracks import MemberRows, write_tracks
from vis_core.store import lease as leases
from vis_core.store.folder import Folder, open_folder
from vis_core.store.lease import Lease, Witness
from vis_core.store.names import is_part
from vis_core.store.parts import FRAMES
from vis_core.store.results import MASKS, TRACKS, ResultsWriter, results_name
from vis_core.store.store import (
    CATEGORIES,
    JOB,
    LINK,
    VIDEOS,
    Store,
    is_results_folder,
    open_store,
)
from vis_core.system import LinkConfig, System
from vis_core.types import VideoInfo
from vis_core.video.sampling import Sampling

logger = logging.getLogger(__name__)

_MASKS_PER_FRAME = 10  # a guess, to size batches

Linked = dict[str, Any]  # video_id, num_tracks, num_masks, error


class Predictions(Protocol):
    """Where rows come from; sent whole to whoever links, so it is light."""

    sampling: Sampling | None  # the frames that were looked at, where that is known

    def batches(self, frames: int) -> Iterator[list[str]]:
        """Ids of videos, so many frames at once."""
        ...

    def video(self, video_id: str) -> VideoInfo: ...

    def rows(self, video_id: str, system: System, link_config: LinkConfig) -> MemberRows: ...

    def videos_table(self) -> pa.Table: ...

    def categories_table(self) -> pa.Table: ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Relink:
    """Everything a link task needs."""

    predictions: Predictions
    system: System
    link_config: LinkConfig
    out: str
    metadata: FileMetadata
    row_group_bytes: int
    run_id: str = ""
    witness: Witness | None = None  # of the lease on `out`, where it can be lost

    def folder(self) -> Folder:
        """`out`, to write to for as long as the lease holds."""
        folder = open_folder(self.out)
        return folder if self.witness is None else folder.guarded(self.witness.check)


class TablePredictions:
    """A bare `frames` table: gaps in it are not known to be holes."""

    sampling: Sampling | None = None

    def __init__(self, table: FramesTable) -> None:
        self._table = table

    def batches(self, frames: int) -> Iterator[list[str]]:
        counts = {video_id: self._table.num_rows(video_id) for video_id in self._table.video_ids}
        return _batches(counts, frames)

    def video(self, video_id: str) -> VideoInfo:
        return self._table.video(video_id)

    def rows(self, video_id: str, system: System, link_config: LinkConfig) -> MemberRows:
        return MemberRows(
            member=self._table.member,
            system=system,
            link_config=link_config,
            tables=lambda columns: self._table.tables(video_id, columns),
            cuts=self._table.cuts(video_id),
            holes=[],
            missing=np.zeros(0, np.int32),
        )

    def videos_table(self) -> pa.Table:
        return schema.videos_to_table([self.video(name) for name in self._table.video_ids])

    def categories_table(self) -> pa.Table:
        return schema.CATEGORIES.empty_table()


class FolderPredictions:
    """The current predictions of a results folder's videos that are settled."""

    def __init__(self, store: Store, systems: Mapping[str, System], member: str | None) -> None:
        job = audit.open_job(store, systems)
        names = [m.name for m in job.members]
        if member is None and len(names) > 1:
            raise UsageError(
                f"{store.folder.root} has members {', '.join(names)}: name one with --member"
            )
        if member is not None and member not in names:
            raise UsageError(
                f"{store.folder.root} has no member {member!r}; it has {', '.join(names)}"
            )
        self._job = job
        self.sampling: Sampling | None = job.sampling
        self._member = job.member(member or names[0])
        self._folder = store.folder
        self._categories = store.table(CATEGORIES, schema.CATEGORIES)
        settlement = audit.settlement_of(store, job)
        still_open = plan_job(job, store, settlement.videos).open_pieces() > 0
        usable = settlement.videos["num_frames"].to_numpy() > 0
        if (still_open & usable).any():
            logger.warning(
                "%d videos are not predicted to the end and are left out",
                np.count_nonzero(still_open & usable),
            )
        complete = np.flatnonzero(usable & ~still_open).tolist()
        self._settled: dict[str, SettledVideo] = {
            settled.video.video_id: settled for settled in settlement.videos_of(complete)
        }
        self._videos = settlement.videos.take(pa.array(complete, pa.int64()))

    def batches(self, frames: int) -> Iterator[list[str]]:
        counts = {
            name: sum(segment.num_rows for segment in settled.segments[self._member.name])
            for name, settled in self._settled.items()
        }
        return _batches(counts, frames)

    def video(self, video_id: str) -> VideoInfo:
        return self._settled[video_id].video

    def rows(self, video_id: str, system: System, link_config: LinkConfig) -> MemberRows:
        rows = member_rows(self._job, self._folder, self._settled[video_id], self._member)
        return dataclasses.replace(rows, system=system, link_config=link_config)

    def videos_table(self) -> pa.Table:
        return self._videos

    def categories_table(self) -> pa.Table:
        return self._categories


def open_predictions(
    path: str, systems: Mapping[str, System], member: str | None = None
) -> Predictions:
    """What is at `path`: a results folder, a folder of Parquet files, or one file."""
    if not path.endswith(".parquet") and is_results_folder(path):
        return FolderPredictions(open_store(path, create=False), systems, member)
    return TablePredictions(FramesTable.open(path, member))


def link_batch(relink: Relink, video_ids: Sequence[str]) -> list[Linked]:
    """Links these videos into one pair of result files."""
    found: list[Linked] = []
    with ResultsWriter(relink.folder(), relink.metadata, relink.row_group_bytes) as writer:
        for video_id in video_ids:
            rows = relink.predictions.rows(video_id, relink.system, relink.link_config)
            linked = write_tracks(relink.predictions.video(video_id), [rows], writer)
            found.append({"video_id": video_id, **linked})
        name = results_name(list(video_ids), relink.run_id)
        writer.commit(name)
    return [{**linked, "file": name} for linked in found]


@contextlib.contextmanager
def prepared_out(out: str, run_id: str) -> Iterator[Lease]:
    """Holds the output folder, if it may be written to; what an earlier link left there goes."""
    store = Store(open_folder(out))
    store.refuse_foreign_records()
    if store.folder.exists(JOB):
        raise UsageError(
            f"{out} is a results folder with predictions of its own; link into another --out, or"
            " label again with other linker settings, which re-links in place"
        )
    store.refuse_foreign_files()
    if store.folder.names(FRAMES):
        raise UsageError(
            f"{out} holds predictions, whose {JOB} is gone: link into another --out; what is there"
            " would be deleted"
        )
    with leases.acquire(store.folder, run_id) as lease:
        store.folder.remove_stale_staging()
        folder = store.folder.guarded(lease.check)
        for under in (TRACKS, MASKS):
            for name in filter(is_part, folder.names(under)):
                folder.delete(f"{under}/{name}")
        yield lease
        lease.check()


def finish(relink: Relink, linked: Sequence[Linked]) -> None:
    """The small tables, and a record of what was done."""
    store = Store(relink.folder())
    store.write_table(VIDEOS, relink.predictions.videos_table(), relink.metadata)
    store.write_table(CATEGORIES, relink.predictions.categories_table(), relink.metadata)
    sampling = relink.predictions.sampling
    record = {
        "system": relink.system.name,
        "link": dataclasses.asdict(relink.link_config),
        "sampling": sampling and dataclasses.asdict(sampling),
        "videos": len(linked),
        "failed": {row["video_id"]: row["error"] for row in linked if row["error"] is not None},
        "versions": library_versions(),
    }
    store.folder.replace(LINK, json.dumps(record, indent=2).encode() + b"\n")


def run(
    relink: Relink, link_rows: int, each: Callable[[list[Linked]], None] = lambda linked: None
) -> list[Linked]:
    """All batches, one after the other, in this process."""
    linked: list[Linked] = []
    for batch in relink.predictions.batches(max(1, link_rows // _MASKS_PER_FRAME)):
        done = link_batch(relink, batch)
        each(done)
        linked += done
    return linked


def _batches(counts: Mapping[str, int], frames: int) -> Iterator[list[str]]:
    batch: list[str] = []
    total = 0
    for video_id, count in counts.items():
        batch.append(video_id)
        total += count
        if total >= frames:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch
