"""The result files: `tracks` and `masks` of a batch of videos, written together."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from vis_core import schema
from vis_core.errors import ReelmaskError
from vis_core.failpoints import failpoint
from vis_core.store.damage import DamagedFile, reading
from vis_core.store.folder import Folder

TRACKS = "tracks"
MASKS = "masks"


def results_name(track_keys: Sequence[str], run_id: str) -> str:
    """File name, under both `tracks/` and `masks/`, of a batch of videos that this run linked.

    Each run's names are its own: a run that was superseded cannot touch another's files, and a
    damaged file does not stand in the way of its successor.
    """
    content = hashlib.sha256(",".join(sorted(track_keys)).encode()).hexdigest()[:32]
    return f"part-{content}~{hashlib.sha256(run_id.encode()).hexdigest()[:12]}.parquet"


def num_rows(folder: Folder, name: str) -> tuple[int, int] | None:
    """Rows of `tracks` and of `masks` in the files of this name; None: one is gone or damaged."""
    counts = []
    for under in (TRACKS, MASKS):
        try:
            path = f"{under}/{name}"
            with reading(folder, path), folder.open(path) as file:
                counts.append(int(pq.ParquetFile(file).metadata.num_rows))
        except (FileNotFoundError, DamagedFile):
            return None
    return counts[0], counts[1]


class ResultsWriter:
    """Streams rows of a batch into one file under `tracks/` and one under `masks/`."""

    def __init__(self, folder: Folder, metadata: schema.FileMetadata, row_group_bytes: int) -> None:
        self._folder = folder
        self._schemas = {
            TRACKS: schema.with_metadata(schema.TRACKS, metadata),
            MASKS: schema.with_metadata(schema.MASKS, metadata),
        }
        self._row_group_bytes = row_group_bytes
        self._pending: dict[str, list[pa.Table]] = {TRACKS: [], MASKS: []}
        self._bytes = {TRACKS: 0, MASKS: 0}
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._staged: dict[str, Path] = {}

    def __enter__(self) -> ResultsWriter:
        self._stack = contextlib.ExitStack()
        for under, kind in self._schemas.items():
            staging = self._folder.staging(f"{under}/part")
            self._staged[under] = self._stack.enter_context(staging)
            self._writers[under] = pq.ParquetWriter(
                self._staged[under], kind, **schema.writer_options()
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._writers.values():
            if writer.is_open:
                with contextlib.suppress(OSError):
                    writer.close()
        self._stack.__exit__(kind, error, trace)

    def add_tracks(self, rows: pa.Table) -> None:
        self._add(TRACKS, rows)

    def add_masks(self, rows: pa.Table) -> None:
        self._add(MASKS, rows)

    def commit(self, name: str) -> None:
        """Publishes both files; masks first, so that a track is never without its masks.

        The name must follow from the rows, and be this run's own: a file that has it already is
        taken for the same, and a run that has been superseded meanwhile takes it back.
        """
        for under in (MASKS, TRACKS):
            self._flush(under)
            self._writers[under].close()
        try:
            for under in (MASKS, TRACKS):
                failpoint("before_results")
                self._folder.publish(self._staged[under], f"{under}/{name}")
            self._folder.check()
        except ReelmaskError:
            for under in (MASKS, TRACKS):
                self._folder.retract(f"{under}/{name}")
            raise
        failpoint("after_results")

    def _add(self, under: str, rows: pa.Table) -> None:
        self._pending[under].append(rows)
        self._bytes[under] += rows.nbytes
        if self._bytes[under] >= self._row_group_bytes:
            self._flush(under)

    def _flush(self, under: str) -> None:
        if not self._pending[under]:
            return
        table = pa.concat_tables(self._pending[under]).cast(self._schemas[under])
        if table.num_rows:
            self._writers[under].write_table(table, row_group_size=table.num_rows)
        self._pending[under], self._bytes[under] = [], 0
