"""What is committed: segments, blamed attempts and linked videos; the only truth of a folder.

Its logs. `segments`: one row per committed segment. `attempts`: one row per time a decoder died
on a unit, or per pardon. `links`: one row per video and track key, saying which files hold its
tracks. `ids`: every video_id ever given. None of them depends on the order of its rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vis_core.store.folder import Folder
from vis_core.store.logs import Log, Merge
from vis_core.store.segments import Receipt, SegmentKey, SegmentReceipt
from vis_core.types import Hole

_HOLES = pa.list_(pa.struct([("start", pa.int32()), ("stop", pa.int32()), ("reason", pa.string())]))
_KEY_FIELDS = [
    ("fingerprint", pa.string()),
    ("video_id", pa.string()),
    ("version", pa.string()),
    ("window", pa.int32()),
    ("start", pa.int32()),
    ("stop", pa.int32()),
]
KEY_COLUMNS = [name for name, _ in _KEY_FIELDS]
SEGMENTS = pa.schema(
    [
        *_KEY_FIELDS,
        ("member", pa.string()),
        ("part", pa.string()),
        ("part_bytes", pa.int64()),
        ("row_group", pa.int32()),
        ("num_row_groups", pa.int32()),
        ("num_rows", pa.int32()),
        ("digest", pa.string()),
        ("holes", _HOLES),
        ("cuts", pa.list_(pa.int32())),
        ("num_frames_found", pa.int32()),
        ("run_id", pa.string()),
    ]
)
ATTEMPTS = pa.schema(
    [
        *_KEY_FIELDS,
        ("attempt_id", pa.string()),
        ("member", pa.string()),
        ("stage", pa.string()),
        ("singleton", pa.bool_()),  # the unit held this segment alone: only then is it blamed
        ("pardon", pa.bool_()),  # attempts before this one no longer count
        ("message", pa.string()),
        ("run_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),
    ]
)
IDS = pa.schema([("uri", pa.string()), ("video_id", pa.string())])
LINKS = pa.schema(
    [
        ("video_id", pa.string()),
        ("track_key", pa.string()),
        ("file", pa.string()),  # name under both tracks/ and masks/
        ("num_tracks", pa.int32()),
        ("num_masks", pa.int64()),
        ("error", pa.string()),  # why the linker could not do it; then there are no rows
        ("run_id", pa.string()),
    ]
)


class Manifest:
    """The logs of a results folder."""

    def __init__(self, folder: Folder) -> None:
        self.segments = Log(folder, "segments", SEGMENTS, merge_segments)
        self.ids = Log(folder, "ids", IDS, _distinct("uri"))  # an id once given never changes
        self.attempts = Log(folder, "attempts", ATTEMPTS, _distinct("attempt_id"))
        self.links = Log(folder, "links", LINKS, _distinct("video_id", "track_key", "file"))
        # Rows of `links` that failed name no file: a later success is another row, and counts.


def merge_segments(rows: pa.Table) -> pa.Table:
    """One row per segment: of several equal ones, that with the smallest digest, then part."""
    if rows.num_rows == 0:
        return rows
    order = [(name, "ascending") for name in [*KEY_COLUMNS, "digest", "part"]]
    rows = rows.take(pc.sort_indices(rows, sort_keys=order)).combine_chunks()
    return rows.filter(pa.array(_differs_from_previous(rows, KEY_COLUMNS)))


def _distinct(*columns: str) -> Merge:
    def merge(rows: pa.Table) -> pa.Table:
        if rows.num_rows == 0:
            return rows
        order = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in columns])
        rows = rows.take(order).combine_chunks()
        return rows.filter(pa.array(_differs_from_previous(rows, columns)))

    return merge


def _differs_from_previous(rows: pa.Table, columns: Sequence[str]) -> np.ndarray:
    differs = np.zeros(rows.num_rows, bool)
    differs[0] = True
    for name in columns:
        values = rows[name].combine_chunks()
        differs[1:] |= pc.not_equal(values[1:], values[:-1]).to_numpy(zero_copy_only=False)
    return differs


def receipts_to_table(receipts: Sequence[Receipt], run_id: str) -> pa.Table:
    """Receipts as rows of `segments`."""
    rows = [
        {
            **{name: getattr(segment.key, name) for name in KEY_COLUMNS},
            "member": receipt.member,
            "part": segment.part,
            "part_bytes": receipt.part_bytes,
            "row_group": segment.row_group,
            "num_row_groups": segment.num_row_groups,
            "num_rows": segment.num_rows,
            "digest": segment.digest,
            "holes": [
                {"start": hole.start, "stop": hole.stop, "reason": hole.reason}
                for hole in segment.holes
            ],
            "cuts": list(segment.cuts),
            "num_frames_found": segment.num_frames_found,
            "run_id": run_id,
        }
        for receipt in receipts
        for segment in receipt.segments
    ]
    return pa.Table.from_pylist(rows, schema=SEGMENTS)


def rows_to_segments(rows: pa.Table) -> list[SegmentReceipt]:
    """Rows of `segments` as objects; for one video at a time, not for the whole manifest."""
    return [
        SegmentReceipt(
            key=SegmentKey(*(row[name] for name in KEY_COLUMNS)),
            part=row["part"],
            row_group=row["row_group"],
            num_row_groups=row["num_row_groups"],
            num_rows=row["num_rows"],
            digest=row["digest"],
            holes=tuple(Hole(**hole) for hole in row["holes"]),
            cuts=tuple(row["cuts"]),
            num_frames_found=row["num_frames_found"],
        )
        for row in rows.to_pylist()
    ]


class ReceiptFlusher:
    """Commits receipts from a thread of its own, every so many or every so many seconds.

    The loop that receives them never waits for storage; an error of the thread is raised at the
    next `add` or at `close`.
    """

    def __init__(
        self,
        log: Log,
        run_id: str,
        *,
        every: int = 64,
        seconds: float = 5.0,
        guard: Callable[[], None] = lambda: None,
    ) -> None:
        self._log = log
        self._guard = guard  # called before each commit; raises if the lease is gone
        self._run_id = run_id
        self._every = every
        self._seconds = seconds
        self._pending: list[Receipt] = []
        self._error: BaseException | None = None
        self._closing = False
        self._draining = False
        self._busy = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="receipt-flusher", daemon=True)
        self._thread.start()

    def add(self, receipt: Receipt) -> None:
        """Queues a receipt; returns at once."""
        with self._wake:
            self._raise_error()
            self._pending.append(receipt)
            if len(self._pending) >= self._every:
                self._wake.notify_all()

    def drain(self) -> None:
        """Waits until everything added so far is committed."""
        with self._wake:
            self._draining = True
            self._wake.notify_all()
            self._wake.wait_for(lambda: self._error or not (self._pending or self._busy))
            self._draining = False
            self._raise_error()

    def close(self) -> None:
        """Commits the rest and ends the thread; a second call does nothing."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join()
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while True:
            try:
                batch = self._next_batch()
                if batch:
                    self._guard()
                    self._log.append(receipts_to_table(batch, self._run_id))
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
                self._error = error
            with self._wake:
                self._busy = False
                self._wake.notify_all()
                if self._error or (self._closing and not self._pending):
                    return

    def _next_batch(self) -> list[Receipt]:
        with self._wake:
            self._wake.wait_for(
                lambda: self._closing or self._draining or len(self._pending) >= self._every,
                timeout=self._seconds,
            )
            batch, self._pending = self._pending, []
            self._busy = True
            return batch
