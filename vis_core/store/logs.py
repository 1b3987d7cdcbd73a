"""Append-only tables of a results folder: small files added, now and then merged into one.

A log is a grow-only set of rows. Appends become `tail-*` files; `compact` writes everything into
one `snapshot-*` file and then deletes what it merged. Dying between the two only leaves rows
twice, which the reader's `merge` makes harmless.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from vis_core import schema
from vis_core.failpoints import failpoint
from vis_core.store.folder import Folder

Merge = Callable[[pa.Table], pa.Table]


class Log:
    """One append-only table under `manifest/`."""

    def __init__(self, folder: Folder, name: str, kind: pa.Schema, merge: Merge) -> None:
        self._folder = folder
        self._under = f"manifest/{name}"
        self.schema = kind
        self._merge = merge
        self._nonce = secrets.token_hex(6)
        self._next = 0

    def load(self) -> pa.Table:
        """Every live row, merged."""
        return self._merge(self._read(self._files()))

    def append(self, rows: pa.Table) -> None:
        """Commits rows in a file of their own."""
        if rows.num_rows == 0:
            return
        failpoint("before_flush")
        self._write(f"tail-{self._nonce}-{self._next:06d}.parquet", rows)
        self._next += 1
        failpoint("after_flush")

    def compact(self, *, min_files: int = 1, keep: Merge | None = None) -> pa.Table:
        """Rewrites the log as one snapshot; `keep` may drop rows that nothing needs any more."""
        files = self._files()
        rows = self._merge(self._read(files))
        kept = keep(rows) if keep is not None else rows
        if len(files) < min_files and kept.num_rows == rows.num_rows:
            return kept
        if len(files) == 1 and files[0].startswith("snapshot-") and kept.num_rows == rows.num_rows:
            return kept
        failpoint("before_compact")
        self._write(f"snapshot-{self._nonce}-{self._next:06d}.parquet", kept)
        self._next += 1
        failpoint("after_compact")
        for name in files:
            self._folder.delete(f"{self._under}/{name}")
        return kept

    def _files(self) -> list[str]:
        return [name for name in self._folder.names(self._under) if name.endswith(".parquet")]

    def _read(self, files: list[str]) -> pa.Table:
        tables = []
        for name in files:
            with self._folder.open(f"{self._under}/{name}") as file:
                tables.append(pq.read_table(file, schema=self.schema))
        return pa.concat_tables(tables) if tables else self.schema.empty_table()

    def _write(self, name: str, rows: pa.Table) -> None:
        target = f"{self._under}/{name}"
        with self._folder.staging(target) as staged:
            named = schema.with_metadata(self.schema, schema.FileMetadata())
            pq.write_table(rows.cast(named), staged, **schema.writer_options())
            self._folder.publish(staged, target)
