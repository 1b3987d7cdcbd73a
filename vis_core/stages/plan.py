"""plan: what is left to predict, as units; nothing is computed here, and nothing is opened."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vis_core import schema
from vis_core.job import Job, Member
from vis_core.store import planning
from vis_core.store.manifest import KEY_COLUMNS
from vis_core.store.segments import Segment, Unit
from vis_core.store.store import Store

UNITS_PER_BATCH = 1024
UNITS = pa.schema(
    [
        ("unit", pa.int64()),
        ("member", pa.int32()),  # position in the job's list
        ("video", pa.int64()),  # row of the videos table
        ("window", pa.int64()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("frames", pa.float64()),  # about how many the run will look at
    ]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorkPlan:
    """Pieces to predict, grouped into units; columns, not objects."""

    videos: pa.Table
    pieces: pa.Table
    given_up: pa.Table  # KEY columns and message of segments in quarantine

    @property
    def num_units(self) -> int:
        return int(pc.max(self.pieces["unit"]).as_py() or 0) + 1 if len(self.pieces) else 0

    @property
    def num_frames(self) -> float:
        return float(pc.sum(self.pieces["frames"]).as_py() or 0.0)

    def open_pieces(self) -> np.ndarray:
        """Per video, how many pieces must be settled before it can be linked."""
        owners = self.pieces["video"].to_numpy(zero_copy_only=False)
        return np.bincount(owners, minlength=len(self.videos))

    def waves(self, at_most: int) -> Iterator[tuple[int, int]]:
        """Ranges (first, count) of so many units, each of one member: whose model is loaded."""
        units = self.pieces["unit"].to_numpy(zero_copy_only=False)
        _, begin = np.unique(self.pieces["member"].to_numpy(), return_index=True)
        bounds = [*units[begin].tolist(), self.num_units]
        for start, stop in itertools.pairwise(bounds):
            for first in range(start, stop, at_most):
                yield first, min(at_most, stop - first)

    def units(self, job: Job, first: int = 0, count: int | None = None) -> Iterator[Unit]:
        """Units as objects, made a batch at a time: for one wave of the plan."""
        ids = self.pieces["unit"].to_numpy(zero_copy_only=False)
        last = self.num_units if count is None else min(self.num_units, first + count)
        for batch in range(first, last, UNITS_PER_BATCH):
            end = min(batch + UNITS_PER_BATCH, last)
            start, stop = np.searchsorted(ids, [batch, end]).tolist()
            yield from self._units(job, self.pieces.slice(start, stop - start))

    def _units(self, job: Job, pieces: pa.Table) -> Iterator[Unit]:
        videos = schema.table_to_videos(self.videos.take(pieces["video"]))
        rows = zip(pieces.to_pylist(), videos, strict=True)
        for _, group in itertools.groupby(rows, key=lambda item: item[0]["unit"]):
            items = list(group)
            member = job.members[items[0][0]["member"]]
            segments = tuple(
                Segment(video=video, window=row["window"], start=row["start"], stop=row["stop"])
                for row, video in items
            )
            yield Unit(member=member.name, fingerprint=member.fingerprint, segments=segments)


def plan_job(job: Job, store: Store, videos: pa.Table) -> WorkPlan:
    """All members' work on all videos, minus what is committed or in quarantine."""
    committed = store.manifest.segments.load().select(KEY_COLUMNS)
    attempts = attempts_that_count(store.manifest.attempts.load())
    columns = planning.VideoColumns(videos)
    given_up = quarantined(attempts, job.settings.max_attempts)
    tables, first_unit = [], 0
    for position, member in enumerate(job.members):
        pieces = _member_pieces(job, member, columns, videos, committed, given_up)
        alone = _overlaps(columns, pieces, _of(attempts, member))
        table = _units_table(job, columns, pieces, alone, position, first_unit)
        first_unit += len(pc.unique(table["unit"]))
        tables.append(table)
    return WorkPlan(
        videos=videos, pieces=pa.concat_tables(tables).combine_chunks(), given_up=given_up
    )


def quarantined(attempts: pa.Table, max_attempts: int) -> pa.Table:
    """Segments that failed alone `max_attempts` times, with the last message."""
    alone = attempts.filter(attempts["singleton"]).sort_by("time")
    groups = alone.group_by(KEY_COLUMNS, use_threads=False)
    counted = groups.aggregate([("attempt_id", "count"), ("message", "last"), ("stage", "last")])
    names = {"attempt_id_count": "attempts", "message_last": "message", "stage_last": "stage"}
    counted = counted.rename_columns([names.get(name, name) for name in counted.column_names])
    return counted.filter(pc.greater_equal(counted["attempts"], max_attempts))


def attempts_that_count(attempts: pa.Table) -> pa.Table:
    """The attempts that no pardon names; by id, because clocks of machines differ."""
    pardoned = pc.unique(attempts["pardoned"])
    counts = pc.invert(pc.or_(attempts["pardon"], pc.is_in(attempts["attempt_id"], pardoned)))
    return attempts.filter(counts)


def _of(rows: pa.Table, member: Member) -> pa.Table:
    return rows.filter(pc.equal(rows["fingerprint"], member.fingerprint))


def _member_pieces(
    job: Job,
    member: Member,
    columns: planning.VideoColumns,
    videos: pa.Table,
    committed: pa.Table,
    given_up: pa.Table,
) -> planning.Pieces:
    closed = pa.concat_tables(
        [_of(committed, member), _of(given_up.select(KEY_COLUMNS), member)],
        promote_options="permissive",
    )
    return planning.plan_pieces(
        columns,
        videos,
        closed,
        spec=member.system.window(member.predict_config),
        sampling=job.sampling,
        shard_frames=job.settings.shard_frames,
    )


def _overlaps(
    columns: planning.VideoColumns, pieces: planning.Pieces, attempts: pa.Table
) -> np.ndarray:
    """Pieces that some earlier attempt died on, alone or in company: they go alone now."""
    alone = np.zeros(len(pieces), bool)
    owners = columns.locate(attempts)
    for owner, start, stop in zip(
        owners.tolist(), attempts["start"].to_pylist(), attempts["stop"].to_pylist(), strict=True
    ):
        alone |= (pieces.video == owner) & (pieces.start < stop) & (pieces.stop > start)
    return alone


def _units_table(
    job: Job,
    columns: planning.VideoColumns,
    pieces: planning.Pieces,
    alone: np.ndarray,
    member: int,
    first_unit: int,
) -> pa.Table:
    frames = planning.sampled_counts(columns, pieces, job.sampling)
    units = planning.pack(pieces, frames, alone, job.settings.shard_frames)
    return pa.table(
        {
            "unit": units + first_unit,
            "member": np.full(len(pieces), member, np.int32),
            "video": pieces.video,
            "window": pieces.window,
            "start": pieces.start,
            "stop": pieces.stop,
            "frames": frames,
        },
        schema=UNITS,
    )
