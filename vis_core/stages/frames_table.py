"""A `frames` table that comes without a manifest: files of rows in any order, from anybody.

Nobody vouches for it, so all of it is checked before any of it is used: one row that is not as it
should be refuses the table, by file, row, video and frame. The keys of all rows are sorted; a
video's rows are then read in order of (window, frame), a few row groups at a time, however they are
scattered.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vis_core import schema
from vis_core.config import brief
from vis_core.errors import UsageError
from vis_core.parquet_errors import reading
from vis_core.stages.frames_check import BadRow, BadTable, FramesCheck
from vis_core.store import parts
from vis_core.store.folder import Folder, open_folder
from vis_core.store.planning import SPAN
from vis_core.store.store import CATEGORIES, VIDEOS, Store
from vis_core.types import VideoInfo

_KEYS = ("video_id", "fingerprint", "member", "window", "frame_index", "height", "width")
_NEEDED = {"video_id", "frame_index", "height", "width", "instances"}
_UNREADABLE = "cannot be read as a `frames` table"
_GROUPS_IN_MEMORY = 4
_MAX_GROUP_BYTES = 4 << 30  # of one row group, unpacked
_MAX_GROUP_ROWS = 1 << 24

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class _Group:
    """A row group of a file."""

    file: str
    index: int
    first_row: int  # of the file


class FramesTable:
    """One member's rows, by video."""

    def __init__(
        self,
        folder: Folder,
        files: Sequence[str],
        member: str | None = None,
        beside: Store | None = None,
    ) -> None:
        """`beside`: the store whose small tables say what videos and categories there are."""
        self._folder = folder
        self._groups: list[_Group] = []
        keys = self._read_keys(files)
        keys = _of_one_member(keys, member)
        self._check_rows(keys, beside)
        names = pc.unique(keys["video_id"]).sort()
        self.video_ids: list[str] = names.to_pylist()
        self.member = keys["member"][0].as_py() if len(keys) else ""
        self.fingerprint = keys["fingerprint"][0].as_py() if len(keys) else ""
        video = np.asarray(pc.index_in(keys["video_id"], names), np.int64)
        columns = {name: keys[name].to_numpy() for name in (*_KEYS[3:], "group", "row")}
        columns["position"] = columns["window"].astype(np.int64) * SPAN + columns["frame_index"]
        order = np.lexsort((columns["position"], video))
        self._columns = {name: values[order] for name, values in columns.items()}
        self._bounds = np.searchsorted(video[order], np.arange(len(self.video_ids) + 1))
        self._check_keys(video[order])

    @classmethod
    def open(cls, path: str, member: str | None = None) -> FramesTable:
        """A Parquet file, or a folder of them."""
        parent, _, name = path.rstrip("/").rpartition("/")
        folder = open_folder(parent or ".", create=False)
        if name.endswith(".parquet"):
            files = [name] if folder.exists(name) else []
        else:
            files = [f"{name}/{file}" for file in folder.names(name) if file.endswith(".parquet")]
        if not files:
            raise UsageError(f"{path!r}: expected a `frames` table: a .parquet file or a folder")
        is_of_results = name == parts.FRAMES and folder.exists(VIDEOS)
        return cls(folder, files, member, Store(folder) if is_of_results else None)

    def video(self, video_id: str) -> VideoInfo:
        """What the rows tell about their video: its size, and that it is at least so long."""
        rows = self._rows_of(video_id)
        values = (self._columns[name][rows] for name in ("height", "width", "frame_index"))
        return video_of_rows(video_id, *values)

    def num_rows(self, video_id: str) -> int:
        rows = self._rows_of(video_id)
        return rows.stop - rows.start

    def cuts(self, video_id: str) -> Ints:
        """Frames after which a shot ends, where the table says so."""
        found = [
            table["frame_index"].filter(pc.fill_null(table["cut_after"], False)).to_numpy()
            for table in self.tables(video_id, ["frame_index", "cut_after"])
            if "cut_after" in table.column_names
        ]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *found]))

    def tables(self, video_id: str, columns: Sequence[str] | None) -> Iterator[pa.Table]:
        """The video's rows in order of (window, frame), a run of neighbours at a time."""
        rows = self._rows_of(video_id)
        group, row = self._columns["group"][rows], self._columns["row"][rows]
        starts = np.flatnonzero(np.diff(group, prepend=-1))
        kept: collections.OrderedDict[int, pa.Table] = collections.OrderedDict()
        for start, stop in zip(starts, [*starts[1:], len(group)], strict=True):
            number = int(group[start])
            if number not in kept:
                kept[number] = self._read_group(self._groups[number], columns)
                if len(kept) > _GROUPS_IN_MEMORY:
                    kept.popitem(last=False)
            kept.move_to_end(number)
            yield kept[number].take(pa.array(row[start:stop]))

    # --- helpers -----------------------------------------------------------------------------

    def _rows_of(self, video_id: str) -> slice:
        number = int(np.searchsorted(self.video_ids, video_id))
        return slice(int(self._bounds[number]), int(self._bounds[number + 1]))

    def _read_keys(self, files: Sequence[str]) -> pa.Table:
        tables = []
        for file in files:
            with self._reading(file) as parquet:
                names = set(parquet.schema_arrow.names)
                if missing := _NEEDED - names:
                    raise UsageError(
                        f"{self._folder.root}/{file} is no `frames` table: it has no column"
                        f" {', '.join(sorted(missing))}"
                    )
                wanted = [name for name in _KEYS if name in names]
                first_row = 0
                for index in range(parquet.num_row_groups):
                    _check_is_readable(parquet.metadata.row_group(index))
                    keys = schema.conform_table(
                        parquet.read_row_group(index, columns=wanted),
                        pa.schema([schema.FRAMES.field(name) for name in _KEYS]),
                    )
                    self._groups.append(_Group(file, index, first_row))
                    with self._naming_rows(self._groups[-1], keys):
                        FramesCheck().check_keys(keys)
                    number = pa.array(np.full(len(keys), len(self._groups) - 1, np.int64))
                    row = pa.array(np.arange(len(keys), dtype=np.int64))
                    tables.append(keys.append_column("group", number).append_column("row", row))
                    first_row += len(keys)
        if not any(map(len, tables)):
            raise UsageError(f"{self._folder.root}: the `frames` table has no rows")
        return pa.concat_tables(tables)

    def _check_rows(self, keys: pa.Table, beside: Store | None) -> None:
        """Everything the member's rows hold, a row group at a time."""
        check = FramesCheck() if beside is None else _check_of(beside, keys["member"][0].as_py())
        group, row = keys["group"].to_numpy(), keys["row"].to_numpy()
        for number in np.unique(group).tolist():
            rows = row[group == number]
            place = self._groups[number]
            with self._naming_rows(place, keys.filter(pc.equal(keys["group"], number))):
                check.sound(self._read_group(place, None).take(pa.array(rows)))

    @contextlib.contextmanager
    def _naming_rows(self, group: _Group, keys: pa.Table) -> Iterator[None]:
        """Says of a bad row which one it is."""
        try:
            yield
        except BadRow as bad:
            row = keys["row"][bad.row].as_py() if "row" in keys.column_names else bad.row
            video, frame = (keys[name][bad.row].as_py() for name in ("video_id", "frame_index"))
            raise UsageError(
                f"{self._folder.root}/{group.file}: row {group.first_row + row} (video"
                f" {brief(video)}, frame {frame}): {bad}"
            ) from bad
        except BadTable as bad:
            name = f"{self._folder.root}/{group.file}"
            raise UsageError(f"{name} {_UNREADABLE}: {bad}") from bad

    def _check_keys(self, video: Ints) -> None:
        position = self._columns["position"]
        same = (np.diff(video) == 0) & (np.diff(position) == 0)
        if same.any():
            first = int(np.flatnonzero(same)[0])
            raise UsageError(
                f"{self._folder.root}: frame {self._columns['frame_index'][first]} of"
                f" {self.video_ids[video[first]]!r} is there twice; a table must have one row per"
                " (member, window, frame)"
            )
        height, width = self._columns["height"], self._columns["width"]
        other = (np.diff(video) == 0) & ((np.diff(height) != 0) | (np.diff(width) != 0))
        if other.any():
            self.video(self.video_ids[video[int(np.argmax(other))]])

    def _read_group(self, group: _Group, columns: Sequence[str] | None) -> pa.Table:
        with self._reading(group.file) as parquet:
            tops = set(parquet.schema_arrow.names)
            present = [
                name for name in columns or schema.FRAMES.names if name.split(".")[0] in tops
            ]
            table = parquet.read_row_group(group.index, columns=present)
        if (columns is None or "window" in columns) and "window" not in table.column_names:
            zeros = pa.array(np.zeros(len(table), np.int32))
            table = table.append_column("window", zeros)
        return table

    @contextlib.contextmanager
    def _reading(self, file: str) -> Iterator[pq.ParquetFile]:
        """Arrow's errors do not say which file they are about."""
        with self._open(file) as opened:
            name = f"{self._folder.root}/{file}"
            with reading(name, "is no Parquet file"):
                parquet = pq.ParquetFile(opened)
            with reading(name, _UNREADABLE):
                yield parquet

    def _open(self, file: str) -> pa.NativeFile:
        return self._folder.open(file)


def video_of_rows(video_id: str, height: Ints, width: Ints, frame_index: Ints) -> VideoInfo:
    """What rows tell about their video: its size, and that it is at least so long."""
    sizes = np.unique(np.stack([height, width]), axis=1).T.tolist()
    if len(sizes) > 1:
        raise UsageError(f"{video_id!r} has frames of several sizes: {sizes}")
    return VideoInfo(
        video_id=video_id,
        uri="",
        version="",
        bytes=0,
        height=sizes[0][0],
        width=sizes[0][1],
        num_frames=int(frame_index.max()) + 1,
        fps=0.0,
        duration_seconds=0.0,
        codec="",
    )


def _check_is_readable(group: pq.RowGroupMetaData) -> None:
    """A few bytes may promise more than any memory holds."""
    if group.num_rows > _MAX_GROUP_ROWS or group.total_byte_size > _MAX_GROUP_BYTES:
        raise ValueError(
            f"a row group of {group.num_rows} rows and {group.total_byte_size} bytes, expected at"
            f" most {_MAX_GROUP_ROWS} and {_MAX_GROUP_BYTES}: write it in smaller row groups"
        )


def _check_of(store: Store, member: str) -> FramesCheck:
    """Bounded by what a results folder knows of its videos and categories."""
    videos = store.table(VIDEOS, schema.VIDEOS)
    known = videos.filter(pc.invert(pc.fill_null(videos["sequential"], False)))
    labels = store.table(CATEGORIES, schema.CATEGORIES)
    mine = labels.filter(pc.equal(labels["member"], member))["label"].to_pylist()
    lengths = zip(known["video_id"].to_pylist(), known["num_frames"].to_pylist(), strict=True)
    return FramesCheck(num_frames=dict(lengths), labels=frozenset(mine))


def _of_one_member(keys: pa.Table, member: str | None) -> pa.Table:
    """The rows of the member asked for; of several, one must be named."""
    pairs = keys.group_by(["member", "fingerprint"], use_threads=False).aggregate([])
    names = sorted(set(pairs["member"].to_pylist()))
    if member is not None:
        if member not in names:
            raise UsageError(f"no member {member!r} in this table; it has {', '.join(names)}")
        keys = keys.filter(pc.equal(keys["member"], member))
    elif len(names) > 1:
        raise UsageError(f"this table has members {', '.join(names)}: name one with --member")
    prints = set(pc.unique(keys["fingerprint"]).to_pylist())
    if len(prints) > 1:
        raise UsageError(
            f"this table has predictions of {len(prints)} settings (fingerprints) mixed; link the"
            " results folder they are in, which knows the current ones, or keep one of them"
        )
    return keys
