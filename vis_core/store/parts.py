"""Parts: Parquet files of `frames` rows, one or more row groups per segment, with their receipt.

The receipt stands in the file's own metadata, so a part whose writer died before telling anybody
can be adopted instead of computed again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from vis_core import schema
from vis_core.failpoints import failpoint
from vis_core.store.damage import DamagedFile, damaged, reading
from vis_core.store.folder import Folder, full_disk_is_clear
from vis_core.store.names import is_part
from vis_core.store.segments import (
    Receipt,
    SegmentKey,
    SegmentReceipt,
    is_part_of,
    receipt_from_json,
    receipt_to_json,
)
from vis_core.types import FramePrediction, Hole

ROW_GROUP_BYTES = 64 << 20
ROWS_PER_TABLE = 64  # predictions turned into Arrow at once
RECEIPT_KEY = b"reelmask.receipt"
FRAMES = "frames"
_REMEDY = "a run of the job sets it aside and predicts its frames anew; everything else is kept"


class PartWriter:
    """Writes one unit's segments, in any order, frames in order within each.

    Rows go to disk by bytes, so memory is bounded by one row group whatever the unit holds.
    """

    def __init__(
        self,
        folder: Folder,
        part: str,
        *,
        member: str,
        fingerprint: str,
        metadata: schema.FileMetadata,
        row_group_bytes: int = ROW_GROUP_BYTES,
    ) -> None:
        self._folder = folder
        self._part = part
        self._member = member
        self._fingerprint = fingerprint
        self._schema = schema.with_metadata(schema.FRAMES, metadata)
        self._row_group_bytes = row_group_bytes
        self._pending: list[FramePrediction] = []
        self._tables: list[pa.Table] = []
        self._table_bytes = 0
        self._row_groups = 0
        self._segments: list[SegmentReceipt] = []
        self._first_row_group = 0
        self._num_rows = 0
        self._digest = hashlib.sha256()
        self.write_seconds = 0.0

    def __enter__(self) -> PartWriter:
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(full_disk_is_clear(self._folder.root))
        self._staged: Path = self._stack.enter_context(
            self._folder.staging(f"{FRAMES}/{self._part}")
        )
        failpoint("before_write")
        self._writer = pq.ParquetWriter(
            self._staged, self._schema, **schema.frames_writer_options()
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._writer.is_open:
            with contextlib.suppress(OSError):
                self._writer.close()
        self._stack.__exit__(kind, error, trace)

    def append(self, prediction: FramePrediction) -> None:
        """Adds the next row of the current segment."""
        self._pending.append(prediction)
        if len(self._pending) >= ROWS_PER_TABLE:
            self._to_table()

    def end_segment(
        self,
        key: SegmentKey,
        *,
        holes: Sequence[Hole] = (),
        cuts: Sequence[int] = (),
        num_frames_found: int | None = None,
    ) -> None:
        """Closes the current segment; its rows end in a row group of their own."""
        self._to_table()
        self._write_row_group()
        self._segments.append(
            SegmentReceipt(
                key=key,
                part=self._part,
                row_group=self._first_row_group,
                num_row_groups=self._row_groups - self._first_row_group,
                num_rows=self._num_rows,
                digest=self._digest.hexdigest(),
                holes=tuple(holes),
                cuts=tuple(cuts),
                num_frames_found=num_frames_found,
            )
        )
        self._first_row_group = self._row_groups
        self._num_rows = 0
        self._digest = hashlib.sha256()

    def commit(self, receipt: Receipt) -> Receipt:
        """Publishes the part; where another writer was first, its receipt is returned."""
        name = self._part
        if not self._folder.creates_exclusively:
            name = f"{Path(self._part).stem}~{secrets.token_hex(6)}.parquet"
        segments = tuple(dataclasses.replace(segment, part=name) for segment in self._segments)
        receipt = dataclasses.replace(receipt, segments=segments, part=name)
        started = time.perf_counter()
        self._writer.add_key_value_metadata({RECEIPT_KEY: receipt_to_json(receipt).encode()})
        self._writer.close()
        part_bytes = self._staged.stat().st_size
        failpoint("after_write")
        if not self._folder.publish(self._staged, f"{FRAMES}/{name}"):
            first = read_receipt(self._folder, name)
            if first is not None:
                return dataclasses.replace(first, num_frames_predicted=receipt.num_frames_predicted)
            self._folder.replace(f"{FRAMES}/{name}", self._staged.read_bytes())
        failpoint("after_commit")
        self.write_seconds += time.perf_counter() - started
        return dataclasses.replace(receipt, part_bytes=part_bytes)

    def _to_table(self) -> None:
        if not self._pending:
            return
        started = time.perf_counter()
        table = schema.predictions_to_table(
            self._pending, fingerprint=self._fingerprint, member=self._member
        )
        self._pending = []
        self._tables.append(table)
        self._table_bytes += table.nbytes
        self.write_seconds += time.perf_counter() - started
        if self._table_bytes >= self._row_group_bytes:
            self._write_row_group()

    def _write_row_group(self) -> None:
        if not self._tables:
            return
        started = time.perf_counter()
        table = pa.concat_tables(self._tables).cast(self._schema)
        failpoint("write_rows")
        self._writer.write_table(table, row_group_size=table.num_rows)
        self._digest.update(schema.content_digest(table).encode())
        self._num_rows += table.num_rows
        self._row_groups += 1
        self._tables = []
        self._table_bytes = 0
        self.write_seconds += time.perf_counter() - started


def read_receipt(folder: Folder, name: str) -> Receipt | None:
    """The receipt of a finished part; None if there is no such part, or it is no whole file.

    A receipt may be anybody's: the file's own name counts, not the one it states, and must follow
    from its segments. A copy under another name is no part.
    """
    try:
        with reading(folder, f"{FRAMES}/{name}"), folder.open(f"{FRAMES}/{name}") as file:
            metadata = pq.ParquetFile(file).metadata
            receipt = receipt_from_json((metadata.metadata or {}).get(RECEIPT_KEY) or b"")
    except (FileNotFoundError, DamagedFile):
        return None
    if not is_part_of(name, [segment.key for segment in receipt.segments]):
        return None
    last = max(segment.row_group + segment.num_row_groups for segment in receipt.segments)
    if last > metadata.num_row_groups:
        return None
    segments = tuple(dataclasses.replace(segment, part=name) for segment in receipt.segments)
    size = folder.size(f"{FRAMES}/{name}")
    return dataclasses.replace(receipt, segments=segments, part=name, part_bytes=size, adopted=True)


def find_part(folder: Folder, part: str) -> Receipt | None:
    """The receipt of a unit's part, if somebody has committed it."""
    if folder.creates_exclusively:
        return read_receipt(folder, part)
    names = filter(is_part, folder.names(FRAMES, Path(part).stem))
    receipts = (read_receipt(folder, name) for name in names)
    return next((receipt for receipt in receipts if receipt is not None), None)


def read_segment(
    folder: Folder, segment: SegmentReceipt, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """The rows of a segment, a row group at a time."""
    groups = range(segment.row_group, segment.row_group + segment.num_row_groups)
    name = f"{FRAMES}/{segment.part}"
    try:
        with reading(folder, name, _REMEDY), folder.open(name) as file:
            parquet = pq.ParquetFile(file, page_checksum_verification=True)
            for index in groups:
                yield parquet.read_row_group(index, columns=columns)
    except FileNotFoundError as error:
        raise damaged(folder, name, "it is gone", _REMEDY) from error


def digest_of_segment(folder: Folder, segment: SegmentReceipt) -> str:
    """The digest as written, computed from what is stored now."""
    digest = hashlib.sha256()
    for table in read_segment(folder, segment):
        digest.update(schema.content_digest(table).encode())
    return digest.hexdigest()
