"""A results folder as one thing: its manifest, its small tables, its job, its files."""

from __future__ import annotations

import contextlib
import datetime
import functools
import io
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from vis_core import plain_yaml, schema
from vis_core.addresses import is_remote
from vis_core.errors import UsageError
from vis_core.failpoints import failpoint
from vis_core.store import in_flight, parts
from vis_core.store import lease as leases
from vis_core.store.damage import DamagedFile, reading
from vis_core.store.folder import Folder, open_folder
from vis_core.store.manifest import KEY_COLUMNS, Manifest, receipts_to_table
from vis_core.store.names import FOLDERS, GLOBBED, is_part
from vis_core.store.results import MASKS, TRACKS
from vis_core.store.segments import Receipt
from vis_core.video.sampling import Sampling

logger = logging.getLogger(__name__)

VIDEOS = "videos/videos.parquet"
CATEGORIES = "categories/categories.parquet"
FAILURES = "failures/failures.parquet"
CURRENT = "manifest/current.parquet"
JOB = "job.yaml"
LINK = "link.json"  # instead of a job, where predictions of elsewhere were linked
FUSE = "fuse.json"  # where results of several runs were fused
RUN = "run.json"


_MAX_NODES = 2_000_000  # of our own records, whose lists of inputs may be long


def is_job_record(record: Any) -> bool:
    """Whether a run wrote it: people's job files have neither versions nor resolved sampling."""
    return _has("versions", "sampling")(record)


def _has(*keys: str) -> Callable[[Any], bool]:
    return lambda record: isinstance(record, dict) and record.keys() >= set(keys)


_RECORDS: dict[str, Callable[[Any], bool]] = {
    JOB: is_job_record,
    RUN: _has("run_id", "exit_code"),
    LINK: _has("system", "versions"),
    FUSE: _has("runs", "versions"),
}


class Store:
    """Reads and writes everything in a results folder that is not a part or a result file."""

    def __init__(self, folder: Folder, *, heals: bool = False) -> None:
        self.folder = folder
        self.manifest = Manifest(folder, heals=heals)
        self._heals = heals  # as the run that holds the folder may

    def table(self, name: str, kind: pa.Schema) -> pa.Table:
        """A small table; empty if it was never written."""
        if not self.folder.exists(name):
            return kind.empty_table()
        try:
            with reading(self.folder, name), self.folder.open(name) as file:
                table = pq.ParquetFile(file, page_checksum_verification=True).read()
                return schema.conform_table(table, kind)
        except DamagedFile as error:
            if not self._heals:
                raise
            logger.warning("%s", error)
            self.folder.set_aside(name)
            return kind.empty_table()

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
        try:
            record = self._parsed(JOB)
            parts_of_it = record["inputs"], record["members"]
        except (UsageError, ValueError, TypeError, AttributeError, KeyError):
            parts_of_it = None, None
        if not all(isinstance(part, list) for part in parts_of_it):
            raise UsageError(f"{self.folder.root}/{JOB} is damaged; restore it or use --replace")
        return dict(record)

    def _parsed(self, name: str) -> Any:
        text = self.folder.read(name).decode()
        return plain_yaml.parse(text, max_nodes=_MAX_NODES) if name == JOB else json.loads(text)

    def refuse_foreign_records(self) -> None:
        """Records are overwritten by every run: only where a run of ours wrote them."""
        logs = [f"manifest/{log}" for log in ("segments", "attempts", "links", "ids")]
        damaged_is_ours = any(self.folder.names(under) for under in (*logs, TRACKS))
        for name, is_ours in _RECORDS.items():
            if not self.folder.exists(name):
                continue
            try:
                ours = is_ours(self._parsed(name))
            except (UsageError, ValueError, RecursionError):
                ours = damaged_is_ours
            if not ours:
                raise UsageError(
                    f"{self.folder.root} holds a {name} that no run wrote, and a run would"
                    " overwrite it; move it, or use an --out of its own"
                )

    def refuse_linked_results(self) -> None:
        """A run leaves its own tracks alone: those of `link` and `fuse` would be deleted."""
        found = [name for name in (LINK, FUSE) if self.folder.exists(name)]
        if found and not self.folder.exists(JOB):
            raise UsageError(
                f"{self.folder.root} holds results of `reelmask {found[0].removesuffix('.json')}`,"
                " which a run would delete; use an --out of its own"
            )

    def sampling(self) -> Sampling | None:
        """The frames that were looked at; None where nobody says."""
        name = JOB if self.folder.exists(JOB) else LINK
        if not self.folder.exists(name):
            return None
        try:
            record = self.job() if name == JOB else json.loads(self.folder.read(name))
            values = (record or {}).get("sampling")
            return Sampling(**values) if values is not None else None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{self.folder.root}/{name} cannot be understood: {error}") from error

    def write_job(self, record: dict[str, Any]) -> None:
        text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
        self.folder.replace(JOB, text.encode())

    def write_run(self, record: dict[str, Any]) -> None:
        self.folder.replace(RUN, json.dumps(record, indent=2).encode() + b"\n")

    def adopt_orphans(self, run_id: str) -> list[Receipt]:
        """Makes manifest and parts agree again; returns what was written but never reported.

        Whole parts that no row names are committed. One that only repeats committed segments is
        deleted: two workers computed the same unit where the store cannot create exclusively.
        What is no whole part, or has another size than was committed, is set aside. Rows whose
        part is gone are dropped, so that their frames are predicted again.
        """
        rows = self.manifest.segments.load()
        sizes = self.folder.sizes(parts.FRAMES)
        files = {name for name in sizes if is_part(name)}
        files -= self._set_aside_parts(_resized(rows, sizes))
        named = set(pc.unique(rows["part"]).to_pylist())
        if named - files:
            logger.warning(
                "%d parts are gone; their frames are predicted again", len(named - files)
            )
            rows = self.forget_parts(named - files)
        found = {name: parts.read_receipt(self.folder, name) for name in sorted(files - named)}
        self._set_aside_parts([name for name, receipt in found.items() if receipt is None])
        receipts = [receipt for receipt in found.values() if receipt is not None]
        orphans = receipts_to_table(receipts, run_id)
        new = orphans.select([*KEY_COLUMNS, "part"]).join(
            rows.select(KEY_COLUMNS), keys=KEY_COLUMNS, join_type="left anti"
        )
        wanted = set(new["part"].to_pylist())
        for receipt in receipts:
            if receipt.part not in wanted:
                self.folder.delete(f"{parts.FRAMES}/{receipt.part}")
        self.manifest.segments.append(orphans.filter(pc.is_in(orphans["part"], _strings(wanted))))
        return [receipt for receipt in receipts if receipt.part in wanted]

    def forget_parts(self, names: Iterable[str]) -> pa.Table:
        """Drops the manifest's rows of these parts; returns the others."""
        gone = _strings(names)
        keep = functools.partial(_not_of_parts, gone)
        return self.manifest.segments.compact(keep=keep)

    def _set_aside_parts(self, names: Iterable[str]) -> set[str]:
        done = set(names)
        for name in sorted(done):
            path = f"{parts.FRAMES}/{name}"
            logger.warning(
                "%s/%s is not the whole part that its name says, and is set aside",
                self.folder.root,
                path,
            )
            self.folder.set_aside(path)
        return done

    def clear(self) -> None:
        """Forgets everything but the job and the lease: what `--replace` asks for.

        The manifest goes first: parts that nothing names are harmless if this is cut short.
        """
        for log in self.manifest.logs:
            for name in log.names():
                self.folder.delete(f"manifest/{log.name}/{name}")
        failpoint("clear_results")
        for under in (TRACKS, MASKS, parts.FRAMES):
            for name in filter(is_part, self.folder.names(under)):
                self.folder.delete(f"{under}/{name}")
        failpoint("clear_tables")
        for name in (VIDEOS, CATEGORIES, FAILURES, CURRENT, RUN):
            self.folder.delete(name)
        in_flight.forget(self.folder)

    def refuse_foreign_files(self) -> None:
        """A folder that is not ours yet must not hold other files where ours will go."""
        ours = {VIDEOS, CATEGORIES, FAILURES, CURRENT}
        for under in FOLDERS:
            for name in self.folder.names(under):
                path = f"{under}/{name}"
                if under != "manifest" and path not in ours and not is_part(name):
                    raise UsageError(
                        f"{self.folder.root} holds {path}, which is no file of a results folder;"
                        " use an --out of its own"
                    )

    def refuse_strangers(self) -> None:
        """Where people glob, a Parquet file that is not ours would be read as results."""
        for path in self.strangers():
            raise UsageError(
                f"{self.folder.root}/{path} is no file of this results folder, yet whoever reads"
                f" {path.partition('/')[0]}/*.parquet reads it as results; move it away and run"
                " again"
            )

    def strangers(self) -> list[str]:
        """Parquet files that are not ours, in the folders where people glob."""
        ours = {VIDEOS, CATEGORIES, FAILURES}
        return [
            f"{under}/{name}"
            for under in GLOBBED
            for name in self.folder.names(under)
            if name.endswith(".parquet")
            and f"{under}/{name}" not in ours
            and not (under in (TRACKS, MASKS) and is_part(name))
        ]


def _not_of_parts(gone: pa.Array, rows: pa.Table) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["part"], gone)))


def _resized(rows: pa.Table, sizes: Mapping[str, int]) -> set[str]:
    """Parts that are there, with another size than was committed."""
    stated = dict(zip(rows["part"].to_pylist(), rows["part_bytes"].to_pylist(), strict=True))
    return {name for name, size in stated.items() if size and sizes.get(name, size) != size}


def _strings(values: Iterable[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())


def open_store(root: str, *, create: bool = True) -> Store:
    """The results folder at `root`; with `create=False` it must be one already."""
    store = Store(open_folder(root, create=create))
    if not create and not store.folder.exists(JOB):
        raise UsageError(f"{root!r} is not a results folder: it has no {JOB}")
    return store


@contextlib.contextmanager
def holding(folder: Folder, run_id: str) -> Iterator[tuple[Store, leases.Lease]]:
    """Takes the folder's lease; through the store that it gives, nothing is changed without it."""
    with leases.acquire(folder, run_id) as lease:
        store = Store(folder.guarded(lease.check), heals=True)
        if lease.witness is not None:
            store.manifest.fence(lease.witness.suffix)
        yield store, lease


def is_results_folder(root: str) -> bool:
    """Whether some job has been run into this folder; a store that refuses is an error."""
    if not is_remote(root) and not Path(root.removeprefix("file://")).is_dir():
        return False
    return open_folder(root, create=False).exists(JOB)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
