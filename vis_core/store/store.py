"""A results folder as one thing: its manifest, its small tables, its job, its files."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from vis_core import schema
from vis_core.errors import UsageError
from vis_core.store import parts
from vis_core.store.folder import Folder, open_folder
from vis_core.store.manifest import KEY_COLUMNS, Manifest, receipts_to_table
from vis_core.store.results import MASKS, TRACKS
from vis_core.store.segments import Receipt, SegmentKey

VIDEOS = "videos/videos.parquet"
CATEGORIES = "categories/categories.parquet"
FAILURES = "failures/failures.parquet"
CURRENT = "manifest/current.parquet"
IN_FLIGHT = "manifest/in_flight"
JOB = "job.yaml"
RUN = "run.json"


class Store:
    """Reads and writes everything in a results folder that is not a part or a result file."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self.manifest = Manifest(folder)

    def table(self, name: str, kind: pa.Schema) -> pa.Table:
        """A small table; empty if it was never written."""
        if not self.folder.exists(name):
            return kind.empty_table()
        with self.folder.open(name) as file:
            return schema.conform_table(pq.read_table(file), kind)

    def write_table(self, name: str, rows: pa.Table, metadata: schema.FileMetadata) -> None:
        """Replaces a small table at once."""
        buffer = io.BytesIO()
        kind = schema.with_metadata(rows.schema, metadata)
        pq.write_table(rows.cast(kind), buffer, **schema.writer_options())
        self.folder.replace(name, buffer.getvalue())

    def videos(self) -> pa.Table:
        return self.table(VIDEOS, schema.VIDEOS)

    def job(self) -> dict[str, Any] | None:
        """The job this folder holds, as last resolved."""
        if not self.folder.exists(JOB):
            return None
        record = yaml.safe_load(self.folder.read(JOB))
        if not isinstance(record, dict) or "members" not in record:
            raise UsageError(f"{self.folder.root}/{JOB} is damaged; restore it or use --replace")
        return record

    def write_job(self, record: dict[str, Any]) -> None:
        text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
        self.folder.replace(JOB, text.encode())

    def write_run(self, record: dict[str, Any]) -> None:
        self.folder.replace(RUN, json.dumps(record, indent=2).encode() + b"\n")

    def run(self) -> dict[str, Any] | None:
        return json.loads(self.folder.read(RUN)) if self.folder.exists(RUN) else None

    def in_flight(self) -> list[SegmentKey]:
        """What workers of earlier runs had begun; the last unit of each."""
        keys = []
        for name in self.folder.names(IN_FLIGHT):
            with contextlib.suppress(ValueError, TypeError):  # half a file, or an older one
                values = json.loads(self.folder.read(f"{IN_FLIGHT}/{name}"))
                keys += [SegmentKey(*row) for row in values]
        return keys

    def forget_in_flight(self) -> None:
        """Called when that has been looked at, and when a run is done."""
        for name in self.folder.names(IN_FLIGHT):
            self.folder.delete(f"{IN_FLIGHT}/{name}")

    def adopt_orphans(self, run_id: str) -> list[Receipt]:
        """Commits whole parts that no manifest row names: written, but never reported.

        A part that only repeats committed segments is deleted: two workers computed the same
        unit where the store cannot create exclusively.
        """
        rows = self.manifest.segments.load()
        files = {name for name in self.folder.names(parts.FRAMES) if name.endswith(".parquet")}
        orphans = sorted(files.difference(pc.unique(rows["part"]).to_pylist()))
        if not orphans:
            return []
        committed = {SegmentKey(*row.values()) for row in rows.select(KEY_COLUMNS).to_pylist()}
        receipts = [parts.read_receipt(self.folder, name) for name in orphans]
        adopted = []
        for receipt in filter(None, receipts):
            if committed.issuperset(segment.key for segment in receipt.segments):
                self.folder.delete(f"{parts.FRAMES}/{receipt.part}")
            else:
                adopted.append(receipt)
        self.manifest.segments.append(receipts_to_table(adopted, run_id))
        return adopted

    def clear(self) -> None:
        """Forgets everything but the lease: what `--replace` asks for."""
        for under in (
            *(parts.FRAMES, TRACKS, MASKS, "videos", "categories", "failures"),
            *(f"manifest/{log}" for log in ("segments", "attempts", "links")),
        ):
            for name in self.folder.names(under):
                self.folder.delete(f"{under}/{name}")
        for name in (CURRENT, JOB, RUN):
            self.folder.delete(name)
        self.forget_in_flight()


def note_in_flight(folder: Folder, worker: str, keys: Sequence[SegmentKey]) -> None:
    """Says what a worker begins now, so that a later run can tell what was lost."""
    rows = [dataclasses.astuple(key) for key in keys]
    folder.replace(f"{IN_FLIGHT}/{worker}.json", json.dumps(rows).encode())


def open_store(root: str, *, create: bool = True) -> Store:
    """The results folder at `root`; with `create=False` it must be one already."""
    store = Store(open_folder(root, create=create))
    if not create and not store.folder.exists(JOB):
        raise UsageError(f"{root!r} is not a results folder: it has no {JOB}")
    return store


def is_results_folder(root: str) -> bool:
    """Whether some job has been run into this folder; a store that refuses is an error."""
    is_local = "://" not in root or root.startswith("file://")
    if is_local and not Path(root.removeprefix("file://")).is_dir():
        return False
    return open_folder(root, create=False).exists(JOB)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
