"""Sorts one video's masks by track in bounded memory: frames come in order, tracks leave in order.

Memory is bounded by one run plus the largest single track; more masks than a run holds go to
sorted temporary files, which have no name: nothing of them is left, however the program ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from types import TracebackType

import numpy as np
import pyarrow as pa

RUN_BYTES = 64 << 20
_BATCH_BYTES = 256 << 10  # what is read at least, of each run, to find one track's rows
SPOOLED = pa.schema(
    [
        ("track", pa.int32()),
        ("frame_index", pa.int32()),
        ("mask", pa.binary()),
        ("score", pa.float32()),
    ]
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Run:
    """A sorted file: where each track's rows begin."""

    batches: pa.RecordBatchFileReader
    tracks: np.ndarray
    starts: np.ndarray  # one more than tracks
    batch_rows: int


class MaskSpool:
    """Rows (track, frame_index, mask, score) in any order in, one table per track out."""

    def __init__(self, run_bytes: int = RUN_BYTES) -> None:
        self._run_bytes = run_bytes
        self._pending: list[pa.Table] = []
        self._pending_bytes = 0
        self._runs: list[_Run] = []
        self._files = contextlib.ExitStack()

    def __enter__(self) -> MaskSpool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()

    def add(self, rows: pa.Table) -> None:
        """Takes rows of schema SPOOLED."""
        if rows.num_rows == 0:
            return
        self._pending.append(rows)
        self._pending_bytes += rows.nbytes
        if self._pending_bytes >= self._run_bytes:
            self._spill()

    def tracks(self) -> Iterator[tuple[int, pa.Table]]:
        """Every track that has rows, ascending, with its rows in frame order."""
        if not self._runs:
            rows = _sorted(self._pending)
            tracks, starts = _boundaries(rows)
            for track, start, stop in zip(tracks, starts[:-1], starts[1:], strict=True):
                yield int(track), rows.slice(start, stop - start)
            return
        self._spill()
        for track in np.unique(np.concatenate([run.tracks for run in self._runs])):
            pieces = [_read(run, int(track)) for run in self._runs]
            yield int(track), _sorted([piece for piece in pieces if piece is not None])

    def _spill(self) -> None:
        if not self._pending:
            return
        rows = _sorted(self._pending)
        self._pending, self._pending_bytes = [], 0
        batch_rows = max(1, rows.num_rows * _BATCH_BYTES // max(1, rows.nbytes))
        file = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - `__exit__`
        with pa.ipc.new_file(pa.PythonFile(file, "w"), SPOOLED) as writer:
            for start in range(0, rows.num_rows, batch_rows):
                batch = rows.slice(start, batch_rows).combine_chunks().to_batches()[0]
                writer.write_batch(batch)
        batches = pa.ipc.open_file(pa.PythonFile(file, "r"))
        self._runs.append(_Run(batches, *_boundaries(rows), batch_rows))


def _sorted(tables: list[pa.Table]) -> pa.Table:
    rows = pa.concat_tables(tables) if tables else SPOOLED.empty_table()
    return rows.sort_by([("track", "ascending"), ("frame_index", "ascending")]).combine_chunks()


def _boundaries(rows: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    values = rows["track"].to_numpy(zero_copy_only=False)
    tracks, starts = np.unique(values, return_index=True)
    return tracks, np.append(starts, len(values))


def _read(run: _Run, track: int) -> pa.Table | None:
    position = int(np.searchsorted(run.tracks, track))
    if position == len(run.tracks) or run.tracks[position] != track:
        return None
    start, stop = int(run.starts[position]), int(run.starts[position + 1])
    first, last = start // run.batch_rows, (stop - 1) // run.batch_rows
    batches = [run.batches.get_batch(i) for i in range(first, last + 1)]
    return pa.Table.from_batches(batches).slice(start - first * run.batch_rows, stop - start)
