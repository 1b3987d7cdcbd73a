"""A `frames` table that comes without a manifest: files of rows in any order, from anybody.

The keys of all rows are read once and sorted; a video's rows are then read in order of (window,
frame), a few row groups at a time, however they are scattered.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vis_core import schema
from vis_core.errors import UsageError
from vis_core.masks import rle
from vis_core.store.folder import Folder, open_folder
from vis_core.store.planning import SPAN
from vis_core.types import VideoInfo

_KEYS = ("video_id", "fingerprint", "member", "window", "frame_index", "height", "width")
_NEEDED = {"video_id", "frame_index", "height", "width", "instances"}
_GROUPS_IN_MEMORY = 4

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class _Group:
    """A row group of a file."""

    file: str
    index: int


class FramesTable:
    """One member's rows, by video."""

    def __init__(self, folder: Folder, files: Sequence[str], member: str | None = None) -> None:
        self._folder = folder
        self._groups: list[_Group] = []
        keys = self._read_keys(files)
        keys = _of_one_member(keys, member)
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
        return cls(folder, files, member)

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
        """The video's rows in order of (window, frame), a run of neighbours at a time.

        Masks are checked where they are read whole: nobody vouches for this table.
        """
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
            found = kept[number].take(pa.array(row[start:stop]))
            yield self._checked(found) if columns is None else found

    # --- helpers -----------------------------------------------------------------------------

    def _rows_of(self, video_id: str) -> slice:
        number = int(np.searchsorted(self.video_ids, video_id))
        return slice(int(self._bounds[number]), int(self._bounds[number + 1]))

    def _read_keys(self, files: Sequence[str]) -> pa.Table:
        tables = []
        for file in files:
            with self._open(file) as opened:
                parquet = _parquet(self._folder, file, opened)
                names = set(parquet.schema_arrow.names)
                if missing := _NEEDED - names:
                    raise UsageError(
                        f"{self._folder.root}/{file} is no `frames` table: it has no column"
                        f" {', '.join(sorted(missing))}"
                    )
                wanted = [name for name in _KEYS if name in names]
                for index in range(parquet.num_row_groups):
                    keys = schema.conform_table(
                        parquet.read_row_group(index, columns=wanted),
                        pa.schema([schema.FRAMES.field(name) for name in _KEYS]),
                    )
                    number = pa.array(np.full(len(keys), len(self._groups), np.int64))
                    row = pa.array(np.arange(len(keys), dtype=np.int64))
                    tables.append(keys.append_column("group", number).append_column("row", row))
                    self._groups.append(_Group(file, index))
        if not any(map(len, tables)):
            raise UsageError(f"{self._folder.root}: the `frames` table has no rows")
        return pa.concat_tables(tables)

    def _check_keys(self, video: Ints) -> None:
        position = self._columns["position"]
        same = (np.diff(video) == 0) & (np.diff(position) == 0)
        if same.any():
            first = int(np.flatnonzero(same)[0])
            raise UsageError(
                f"frame {self._columns['frame_index'][first]} of {self.video_ids[video[first]]!r}"
                " is there twice; a table must have one row per (member, window, frame)"
            )

    def _read_group(self, group: _Group, columns: Sequence[str] | None) -> pa.Table:
        with self._open(group.file) as opened:
            parquet = _parquet(self._folder, group.file, opened)
            present = None
            if columns is not None:
                tops = set(parquet.schema_arrow.names)
                present = [name for name in columns if name.split(".")[0] in tops]
            table = parquet.read_row_group(group.index, columns=present)
        if (columns is None or "window" in columns) and "window" not in table.column_names:
            zeros = pa.array(np.zeros(len(table), np.int32))
            table = table.append_column("window", zeros)
        return table

    def _checked(self, table: pa.Table) -> pa.Table:
        """Refuses masks that are not what they say."""
        for height, width, instances in zip(
            table["height"].to_pylist(),
            table["width"].to_pylist(),
            table["instances"],
            strict=True,
        ):
            masks = instances.values.field("mask").to_pylist() if instances.is_valid else []
            try:
                rle.validate_counts(masks, (height, width))
            except ValueError as error:
                raise UsageError(f"{self._folder.root}: {error}") from error
        return table

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


def _parquet(folder: Folder, file: str, opened: pa.NativeFile) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(opened)
    except pa.ArrowInvalid as error:
        raise UsageError(f"{folder.root}/{file} is no Parquet file: {error}") from error


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
