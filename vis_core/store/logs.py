"""Append-only tables of a results folder: small files added, now and then merged into one.

A log is a grow-only set of rows. Appends become `tail-*` files; `compact` writes everything into
one `snapshot-*` file and then deletes what it merged. Dying between the two only leaves rows
twice, which the reader's `merge` makes harmless.

On object storage a run that was superseded may still write: its request was under way. What it
adds counts for nothing, because the run that took over has written down, in a fence, which files
were there; beside those only its own count. Fences are named like the epochs of the lease.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Set

import pyarrow as pa
import pyarrow.parquet as pq

from vis_core import schema
from vis_core.failpoints import failpoint
from vis_core.store.damage import DamagedFile, reading
from vis_core.store.folder import Folder, LocalFolder
from vis_core.store.lease import LEASE, newest
from vis_core.store.names import is_log_file

logger = logging.getLogger(__name__)

_TRIES = 5  # a file may be merged into another between the listing and the read
_REMEDY = "a run of the job sets the file aside, and finds out anew what it said"

Merge = Callable[[pa.Table], pa.Table]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fence:
    """Which files of each log count: those that were there, and those of one writer."""

    files: Mapping[str, Set[str]]
    nonce: str

    def lets(self, log: str, name: str) -> bool:
        return name in self.files.get(log, ()) or name.split("-")[1] == self.nonce


class Fences:
    """The fences of a folder; each is read once, since none ever changes."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._known: tuple[str, Fence | None] | None = None
        self._pinned: tuple[Fence | None] | None = None

    @contextlib.contextmanager
    def pinned(self) -> Iterator[None]:
        """Looks once for all that is read meanwhile: for readers that change nothing."""
        self._pinned = (self.newest(),)
        try:
            yield
        finally:
            self._pinned = None

    def newest(self) -> Fence | None:
        """The one that holds now; None: everything counts."""
        if isinstance(self._folder, LocalFolder):
            return None  # there nobody can be superseded
        if self._pinned is not None:
            return self._pinned[0]
        name = newest(self._folder.names(LEASE, "fence-"))
        if name is None:
            return None
        if self._known is None or self._known[0] != name:
            try:
                self._known = name, self._read(name)
            except FileNotFoundError:
                return self.newest()  # the next run has just written its own
        return self._known[1]

    def _read(self, name: str) -> Fence | None:
        try:
            values = json.loads(self._folder.read(f"{LEASE}/{name}"))
            files = {str(log): frozenset(map(str, names)) for log, names in values["files"].items()}
            return Fence(files=files, nonce=str(values["nonce"]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            logger.warning("%s/%s/%s is damaged and ignored", self._folder.root, LEASE, name)
            return None


def write_fence(folder: Folder, suffix: str, fence: Fence) -> None:
    """Publishes the fence of the epoch so named; older ones go once it is there."""
    values = {
        "files": {log: sorted(names) for log, names in fence.files.items()},
        "nonce": fence.nonce,
    }
    folder.replace(f"{LEASE}/fence-{suffix}", json.dumps(values).encode())
    for name in folder.names(LEASE, "fence-"):
        if name != f"fence-{suffix}" and newest([name, f"fence-{suffix}"]) != name:
            folder.delete(f"{LEASE}/{name}")


class Log:
    """One append-only table under `manifest/`.

    `checked` leaves out rows that cannot be ours. `nonce` is that of the run that holds the folder.
    With `heals` a file that cannot be read is named and set aside; else it is an error.
    """

    def __init__(
        self,
        folder: Folder,
        name: str,
        kind: pa.Schema,
        merge: Merge,
        *,
        fences: Fences | None = None,
        checked: Merge = lambda rows: rows,
        nonce: str | None = None,
        heals: bool = False,
    ) -> None:
        self._folder = folder
        self._fences = fences or Fences(folder)
        self.name = name
        self._under = f"manifest/{name}"
        self.schema = kind
        self._merge = merge
        self._checked = checked
        self._nonce = nonce
        self._heals = heals
        self._next = 0

    def load(self) -> pa.Table:
        """Every live row, merged."""
        return self._load()[1]

    def torn(self) -> list[str]:
        """Files of this log that cannot be read."""
        return [f"{self._under}/{name}" for name in self.files() if self._is_torn(name)]

    def append(self, rows: pa.Table) -> None:
        """Commits rows in a file of their own."""
        if rows.num_rows == 0:
            return
        failpoint("before_flush")
        self._write(self._new_name("tail"), rows)
        failpoint("after_flush")

    def compact(self, *, min_files: int = 1, keep: Merge | None = None) -> pa.Table:
        """Rewrites the log as one snapshot; `keep` may drop rows that nothing needs any more."""
        files, rows = self._load()
        kept = keep(rows) if keep is not None else rows
        if len(files) < min_files and kept.num_rows == rows.num_rows:
            return kept
        if len(files) == 1 and files[0].startswith("snapshot-") and kept.num_rows == rows.num_rows:
            return kept
        failpoint("before_compact")
        self._write(self._new_name("snapshot"), kept)
        failpoint("after_compact")
        for name in files:
            self._folder.delete(f"{self._under}/{name}")
        return kept

    def files(self) -> list[str]:
        """Names of the files that count."""
        names = self.names()
        fence = self._fences.newest()
        return names if fence is None else [name for name in names if fence.lets(self.name, name)]

    def names(self) -> list[str]:
        """Names of all files, also of those that came too late to count."""
        return [name for name in self._folder.names(self._under) if is_log_file(name)]

    def _load(self) -> tuple[list[str], pa.Table]:
        tries = 0
        while True:
            files = self.files()
            try:
                return files, self._merge(self._read(files))
            except DamagedFile as error:
                if not self._heals:
                    raise
                logger.warning("%s", error)
                self._folder.set_aside(error.name)
            except FileNotFoundError:
                tries += 1
                if tries == _TRIES:
                    raise

    def _is_torn(self, name: str) -> bool:
        try:
            self._read([name])
        except DamagedFile:
            return True
        except FileNotFoundError:
            return False
        return False

    def _read(self, files: list[str]) -> pa.Table:
        tables = []
        for name in files:
            path = f"{self._under}/{name}"
            with reading(self._folder, path, _REMEDY), self._folder.open(path) as file:
                table = pq.ParquetFile(file, page_checksum_verification=True).read()
                tables.append(self._checked(schema.conform_table(table, self.schema)))
        return pa.concat_tables(tables) if tables else self.schema.empty_table()

    def _new_name(self, kind: str) -> str:
        """A name that counts: with the nonce of the run that holds the folder, or held it last."""
        if self._nonce is not None:
            self._next += 1
            return f"{kind}-{self._nonce}-{self._next:06d}.parquet"
        fence = self._fences.newest()
        nonce = secrets.token_hex(6) if fence is None else fence.nonce
        return f"{kind}-{nonce}-{secrets.randbelow(10**12):012d}.parquet"

    def _write(self, name: str, rows: pa.Table) -> None:
        target = f"{self._under}/{name}"
        with self._folder.staging(target) as staged:
            named = schema.with_metadata(self.schema, schema.FileMetadata())
            pq.write_table(rows.cast(named), staged, **schema.writer_options())
            self._folder.publish(staged, target)
