"""What is committed: segments, blamed attempts and linked videos; the only truth of a folder.

Its logs. `segments`: one row per committed segment. `attempts`: one row per time a decoder died
on a unit, or per pardon of one. `links`: one row per video and track key, saying which files hold
its tracks. `ids`: every video_id ever given. None of them depends on the order of its rows.
"""

from __future__ import annotations

import functools
import logging
import secrets
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vis_core.store.folder import Folder
from vis_core.store.logs import Fence, Fences, Log, Merge, write_fence
from vis_core.store.names import is_part
from vis_core.store.segments import Receipt, SegmentKey, SegmentReceipt
from vis_core.types import Hole

logger = logging.getLogger(__name__)

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
        ("pardon", pa.bool_()),  # no attempt: the one that `pardoned` names no longer counts
        ("message", pa.string()),
        ("run_id", pa.string()),
        ("time", pa.timestamp("us", tz="UTC")),  # for people: clocks of machines differ
        ("pardoned", pa.string()),
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
    """The logs of a results folder; with `heals` as the run that holds it, which mends damage."""

    def __init__(self, folder: Folder, *, heals: bool = False) -> None:
        self._folder = folder
        self._nonce = secrets.token_hex(6)
        self._fences = Fences(folder)
        nonce = self._nonce if heals else None
        log = functools.partial(Log, folder, fences=self._fences, nonce=nonce, heals=heals)
        self.segments = log("segments", SEGMENTS, merge_segments, checked=_our_segments)
        self.ids = log("ids", IDS, _distinct("uri"), checked=_named)  # given once, for good
        self.attempts = log("attempts", ATTEMPTS, _distinct("attempt_id"), checked=_named)
        self.links = log(
            "links", LINKS, _distinct("video_id", "track_key", "file"), checked=_our_links
        )
        # Rows of `links` that failed name no file: a later success is another row, and counts.

    @property
    def logs(self) -> tuple[Log, ...]:
        return self.segments, self.ids, self.attempts, self.links

    def load(self) -> dict[str, pa.Table]:
        """The rows of all logs, by name."""
        with self._fences.pinned():
            return {log.name: log.load() for log in self.logs}

    def fence(self, suffix: str) -> None:
        """From now on only what is there counts, and what this object writes.

        For the run that has just taken the lease, whose epoch has this suffix. What a superseded
        run added too late for the last fence goes.
        """
        earlier = self._fences.newest()
        names = {log.name: log.names() for log in self.logs}
        counted = {
            log: {name for name in found if earlier is None or earlier.lets(log, name)}
            for log, found in names.items()
        }
        write_fence(self._folder, suffix, Fence(files=counted, nonce=self._nonce))
        for log, found in names.items():
            for name in sorted(set(found).difference(counted[log])):
                self._folder.delete(f"manifest/{log}/{name}")


def _our_segments(rows: pa.Table) -> pa.Table:
    """Rows that this program can have written: whole, and of files whose names are ours."""
    kept = _without_nulls(rows, [*KEY_COLUMNS, "part", "row_group", "num_row_groups", "num_rows"])
    kept = kept.filter(pc.is_in(kept["part"], _parts_of(kept["part"])))
    low = pc.min_element_wise(
        *(kept[name] for name in ("window", "start", "row_group", "num_row_groups", "num_rows"))
    )
    good = pc.and_(pc.greater_equal(low, 0), pc.less(kept["start"], kept["stop"]))
    return _told(rows, kept.filter(good), "segments")


def _our_links(rows: pa.Table) -> pa.Table:
    kept = _without_nulls(rows, ["video_id", "track_key"])
    ours = pc.fill_null(pc.is_in(kept["file"], _parts_of(kept["file"])), False)
    return _told(rows, kept.filter(pc.or_(ours, pc.is_valid(kept["error"]))), "links")


def _named(rows: pa.Table) -> pa.Table:
    """Rows of `ids` and `attempts` that say what they are about."""
    wanted = ("uri", "video_id", "attempt_id", *KEY_COLUMNS, "singleton", "pardon")
    return _told(rows, _without_nulls(rows, [n for n in wanted if n in rows.column_names]), "ids")


def _without_nulls(rows: pa.Table, columns: Sequence[str]) -> pa.Table:
    valid = [pc.is_valid(rows[name]) for name in columns]
    return rows.filter(functools.reduce(pc.and_, valid))


def _parts_of(names: pa.ChunkedArray) -> pa.Array:
    return pa.array([name for name in pc.unique(names).to_pylist() if is_part(name)], pa.string())


def _told(rows: pa.Table, kept: pa.Table, log: str) -> pa.Table:
    if kept.num_rows < rows.num_rows:
        lost = rows.num_rows - kept.num_rows
        logger.warning("manifest/%s: %d rows are not ours and are left out", log, lost)
    return kept


def merge_segments(rows: pa.Table) -> pa.Table:
    """One row per segment: of several equal ones, that with the smallest digest, then part."""
    if rows.num_rows == 0:
        return rows
    order = [(name, "ascending") for name in [*KEY_COLUMNS, "digest", "part"]]
    rows = rows.take(pc.sort_indices(rows, sort_keys=order)).combine_chunks()
    return rows.filter(pa.array(differs_from_previous(rows, KEY_COLUMNS)))


def _distinct(*columns: str) -> Merge:
    def merge(rows: pa.Table) -> pa.Table:
        if rows.num_rows == 0:
            return rows
        order = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in columns])
        rows = rows.take(order).combine_chunks()
        return rows.filter(pa.array(differs_from_previous(rows, columns)))

    return merge


def differs_from_previous(rows: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """For each row, whether these columns are not those of the row before it."""
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
