"""Our own results, video by video: a results folder, or a `tracks` folder with `masks` beside it.

Rows may be in any order and files cut anyhow; those that a run of ours wrote are read once, front
to back, with the rows of one video and one row group of each table in memory.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vis_core import schema
from vis_core.columns import binary_values, list_lengths, numbers, valid_mask
from vis_core.errors import UsageError
from vis_core.formats import fields
from vis_core.formats.model import (
    Entries,
    IntArray,
    VideoHeader,
    VideoTracks,
    make_tracks,
    no_tracks,
)
from vis_core.parquet_errors import reading
from vis_core.store.folder import Folder, open_folder
from vis_core.store.names import is_part
from vis_core.store.results import MASKS, TRACKS
from vis_core.store.store import CATEGORIES, VIDEOS, Store
from vis_core.types import Category
from vis_core.video.sampling import Sampling, sampled_frames

_HEADER = ["video_id", "height", "width", "video_num_frames"]
_TRACK_COLUMNS = [*_HEADER, "track_id", "label", "score", "entries", "num_frames", "members"]
_NEEDED = (*_HEADER, "track_id", "label", "num_frames", "frame_index", "mask")
_MASK_COLUMNS = ["video_id", "track_id", "frame_index", "mask", "score"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Rows:
    """One row group, sorted by video."""

    table: pa.Table
    videos: Mapping[str, tuple[int, int]]

    def of(self, video_id: str) -> pa.Table:
        start, stop = self.videos[video_id]
        return self.table.slice(start, stop - start)


class _Table:
    """Files of one kind, and which row groups hold rows of which video."""

    def __init__(
        self, folder: Folder, under: str, names: Sequence[str], kind: pa.Schema, columns: list[str]
    ) -> None:
        self._folder = folder
        self._under = under
        self._kind = pa.schema([kind.field(name) for name in columns])
        self._held: tuple[tuple[str, int], _Rows] | None = None
        self.groups: dict[str, list[tuple[str, int]]] = {}
        for name in names:
            with self._open(name) as file:
                for group in range(file.num_row_groups):
                    column = file.read_row_group(group, columns=["video_id"])["video_id"]
                    for video_id in pc.unique(column).to_pylist():
                        self.groups.setdefault(_known(video_id), []).append((name, group))

    def rows(self, video_id: str) -> pa.Table:
        """All rows of a video."""
        found = [self._group(*place).of(video_id) for place in self.groups.get(video_id, [])]
        return pa.concat_tables(found) if found else self._kind.empty_table()

    def _group(self, name: str, group: int) -> _Rows:
        if self._held is None or self._held[0] != (name, group):
            self._held = None  # not two at once
            with self._open(name) as file:
                there = [c for c in self._kind.names if c in file.schema_arrow.names]
                table = file.read_row_group(group, columns=there)
            self._held = (name, group), _by_video(schema.conform_table(table, self._kind))
        return self._held[1]

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[pq.ParquetFile]:
        path = f"{self._under}/{name}"
        where = f"{self._folder.root}/{path}"
        with reading(where), self._folder.open(path) as handle:
            file = pq.ParquetFile(handle)
            _check_columns(file, where, self._kind)
            yield file


def _check_columns(file: pq.ParquetFile, path: str, kind: pa.Schema) -> None:
    """Some columns may be absent, but not those that make a row one of `tracks` or `masks`."""
    for name in kind.names:
        if name in _NEEDED and name not in file.schema_arrow.names:
            raise UsageError(f"{path} has no column {name!r}; expected {', '.join(kind.names)}")


def _known(video_id: str | None) -> str:
    if video_id is None:
        raise UsageError("a row without video_id; expected one in every row")
    return video_id


def _by_video(table: pa.Table) -> _Rows:
    codes = table["video_id"].combine_chunks().dictionary_encode()
    index = codes.indices.to_numpy(zero_copy_only=False)
    if (np.diff(index) < 0).any():
        order = np.argsort(index, kind="stable")
        table, index = table.take(pa.array(order)), index[order]
    names = codes.dictionary.to_pylist()
    bounds = np.searchsorted(index, np.arange(len(names) + 1)).tolist()
    ranges = dict(zip(names, itertools.pairwise(bounds), strict=True))
    return _Rows(table.combine_chunks(), ranges)


class Results:
    """A results folder, or its `tracks` folder alone."""

    def __init__(self, root: str) -> None:
        self.path = root
        self._folder = _folder_of(root)
        self._names = {under: self._folder.names(under) for under in (TRACKS, MASKS)}
        parquet = [n for n in self._names[TRACKS] if n.endswith(".parquet")]
        if not parquet:
            raise UsageError(
                f"{root!r} holds no tracks; expected a results folder, a folder of tracks with"
                " masks beside it, or a results file in YouTube-VIS format"
            )
        store = Store(self._folder)
        with reading(f"{root}/{VIDEOS}"):
            self._videos = store.videos()
            self._headers = _headers(self._videos)
        with reading(f"{root}/{CATEGORIES}"):
            self._names_of_labels = _names_of_labels(store)
        self.sampling = store.sampling()

    @property
    def lists_videos(self) -> bool:
        """Whether videos without tracks are known, too."""
        return bool(self._headers)

    def failed(self) -> list[str]:
        """Videos that could not be labelled."""
        failed = pc.equal(self._videos["status"], "failed")
        names: list[str] = self._videos.filter(failed)["video_id"].to_pylist()
        return names

    def headers(self) -> dict[str, VideoHeader]:
        """Every video known, also those without tracks."""
        found = self._headers.copy()
        for table in self._scan(_HEADER):
            for header in self._headers_of(table):
                found.setdefault(header.video_id, header)
        return found

    def labels(self) -> dict[tuple[str, int], int]:
        """How many result lines each (member, label) has."""
        counts: collections.Counter[tuple[str, int]] = collections.Counter()
        for table in self._scan(["label", "score", "entries", "members"]):
            lines = _lines(table)
            members = np.array(_members(table), object)[lines.track]
            counts.update(zip(members.tolist(), lines.labels.tolist(), strict=True))
        return dict(counts)

    def name_of(self, member: str, label: int) -> str | None:
        """What a member calls a label; None where no table says."""
        return self._names_of_labels.get((member, label), self._names_of_labels.get(("", label)))

    def categories(self) -> list[Category]:
        """Every label that has a name or is used; one list for all members, ids as they are."""
        names = {label: name for (_, label), name in sorted(self._names_of_labels.items())}
        used = {label for _, label in self.labels()}
        for label in used - set(names):
            names[label] = str(label)
        self._check_names_agree()
        return [Category(label=label, name=names[label]) for label in sorted(names)]

    def _check_names_agree(self) -> None:
        names: dict[int, set[str]] = {}
        for (_, label), name in self._names_of_labels.items():
            names.setdefault(label, set()).add(name)
        for label, several in sorted(names.items()):
            if len(several) > 1:
                raise UsageError(
                    f"{self.path}: label {label} is {' and '.join(sorted(several))}, depending on"
                    " the member; one list of categories cannot say both: export the members"
                    " apart"
                )

    def looked_at(self, video_id: str) -> IntArray | None:
        """The frames that the job sampled; None: all of them, or nobody knows."""
        if self.sampling is None or self.sampling == Sampling() or video_id not in self._row:
            return None
        (info,) = schema.table_to_videos(self._videos.slice(self._row[video_id], 1))
        return sampled_frames(info, self.sampling).astype(np.int64)

    @functools.cached_property
    def _row(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._videos["video_id"].to_pylist())}

    def tracks(self, wanted: Collection[str] | None = None) -> Iterator[VideoTracks]:
        """The tracks of the wanted videos (None: all), each video once; order as stored."""
        seen: set[str] = set()
        for names in self._batches():
            tracks = _Table(self._folder, TRACKS, names[TRACKS], schema.TRACKS, _TRACK_COLUMNS)
            masks = _Table(self._folder, MASKS, names[MASKS], schema.MASKS, _MASK_COLUMNS)
            for video_id in tracks.groups:
                if video_id in seen:
                    raise UsageError(
                        f"{self.path}: video {video_id!r} is in several result files; let the run"
                        " end (`reelmask label` again), which keeps one"
                    )
                if wanted is None or video_id in wanted:
                    seen.add(video_id)
                    yield self._video(tracks.rows(video_id), masks.rows(video_id))
            if strangers := sorted(set(masks.groups) - set(tracks.groups)):
                raise UsageError(
                    f"{self.path}: {len(strangers)} videos have masks but no tracks:"
                    f" {fields.shown(strangers)}; are the two tables of one run?"
                )
        seen.update(self.failed())
        for video_id, header in sorted(self._headers.items()):
            if video_id not in seen and (wanted is None or video_id in wanted):
                yield no_tracks(header)

    def tracks_of(self, video_id: str) -> VideoTracks | None:
        """One video's tracks, None where it has none; which files hold them is looked up once."""
        place = self._places.get(video_id)
        if place is None:
            return None
        tracks, masks = place
        return self._video(tracks.rows(video_id), masks.rows(video_id))

    def class_scores_of(self, video_id: str) -> list[npt.NDArray[np.float32] | None]:
        """Per track, in order of id, the scores of all classes, where the table has them."""
        place = self._places.get(video_id)
        if place is None:
            return []
        column = place[0].rows(video_id).sort_by("track_id")["class_scores"]
        return [None if row is None else np.asarray(row, np.float32) for row in column.to_pylist()]

    @functools.cached_property
    def _places(self) -> dict[str, tuple[_Table, _Table]]:
        found: dict[str, tuple[_Table, _Table]] = {}
        columns = [*_TRACK_COLUMNS, "class_scores"]
        for names in self._batches():
            tracks = _Table(self._folder, TRACKS, names[TRACKS], schema.TRACKS, columns)
            masks = _Table(self._folder, MASKS, names[MASKS], schema.MASKS, _MASK_COLUMNS)
            found.update(dict.fromkeys(tracks.groups, (tracks, masks)))
        return found

    def _video(self, rows: pa.Table, masks: pa.Table) -> VideoTracks:
        """Joins one video's rows."""
        rows = rows.sort_by("track_id")
        header, *others = self._headers_of(rows)
        if others:
            raise UsageError(
                f"{self.path}: the tracks of video {header.video_id!r} disagree about its size or"
                " length"
            )
        ids, named = (_numbers(table, "track_id") for table in (rows, masks))
        owner = np.searchsorted(ids, named)
        counts = np.bincount(owner, minlength=len(ids) + 1)
        known = np.append(ids, -1)[owner] == named
        wrong = np.flatnonzero(counts[:-1] != _numbers(rows, "num_frames"))
        if (np.diff(ids) <= 0).any() or not known.all() or len(wrong):
            where = f"track {ids[wrong[0]]}: " if len(wrong) else ""
            raise UsageError(
                f"{self.path}: video {header.video_id!r}: {where}tracks and masks do not belong"
                " together; expected one row per track, and as many masks of it as its num_frames"
            )
        return make_tracks(
            header,
            track_ids=ids,
            labels=_numbers(rows, "label"),
            scores=_numbers(rows, "score"),
            owner=owner,
            frame_index=_numbers(masks, "frame_index"),
            masks=[value for chunk in masks["mask"].chunks for value in binary_values(chunk)],
            mask_scores=pc.fill_null(masks["score"], float("nan")).to_numpy(),
            entries=_lines(rows),
            members=tuple(_members(rows)),
        )

    def _headers_of(self, rows: pa.Table) -> list[VideoHeader]:
        """The distinct headers that rows of `tracks` state."""
        distinct = rows.select(_HEADER).group_by(_HEADER, use_threads=False).aggregate([])
        found = []
        for row in distinct.to_pylist():
            if None in row.values():
                raise UsageError(
                    f"{self.path}: the tracks of video {row['video_id']!r} do not state its size"
                    " and length; expected height, width and video_num_frames in every row"
                )
            size = {"height": row["height"], "width": row["width"]}
            found.append(
                VideoHeader(video_id=row["video_id"], num_frames=row["video_num_frames"], **size)
            )
        return found

    def _batches(self) -> Iterator[Mapping[str, Sequence[str]]]:
        """Files that are read together: pairs where they are ours, else everything at once."""
        names = {
            under: [name for name in found if name.endswith(".parquet")]
            for under, found in self._names.items()
        }
        if names[TRACKS] == names[MASKS] and all(map(is_part, names[TRACKS])):
            for name in names[TRACKS]:
                yield {TRACKS: [name], MASKS: [name]}
        else:
            yield names

    def _scan(self, columns: list[str]) -> Iterator[pa.Table]:
        """Light columns of all tracks, one row group at a time."""
        kind = pa.schema([schema.TRACKS.field(name) for name in columns])
        for name in self._names[TRACKS]:
            if not name.endswith(".parquet"):
                continue
            path = f"{TRACKS}/{name}"
            where = f"{self._folder.root}/{path}"
            with reading(where), self._folder.open(path) as handle:
                file = pq.ParquetFile(handle)
                _check_columns(file, where, kind)
                there = [column for column in columns if column in file.schema_arrow.names]
                for group in range(file.num_row_groups):
                    yield schema.conform_table(file.read_row_group(group, columns=there), kind)


def _folder_of(root: str) -> Folder:
    """The folder that holds `tracks` and `masks`, given itself or its `tracks`."""
    trimmed = root.rstrip("/")
    scheme, separator, rest = trimmed.rpartition("://")
    path = PurePosixPath(rest)
    if path.name == TRACKS:
        parent = open_folder(f"{scheme}{separator}{path.parent}", create=False)
        if parent.names(TRACKS) and parent.names(MASKS):
            return parent
    return open_folder(trimmed or root, create=False)


def _names_of_labels(store: Store) -> dict[tuple[str, int], str]:
    rows = store.table(CATEGORIES, schema.CATEGORIES).to_pylist()
    return {(row["member"] or "", row["label"]): row["name"] for row in rows}


def _headers(videos: pa.Table) -> dict[str, VideoHeader]:
    columns = [videos[name].to_pylist() for name in ("video_id", "height", "width", "num_frames")]
    return {
        name: VideoHeader(video_id=name, height=height, width=width, num_frames=num_frames)
        for name, height, width, num_frames in zip(*columns, strict=True)
    }


def _lines(rows: pa.Table) -> Entries:
    """The entries of all tracks; a track without such a list stands for itself."""
    column = rows["entries"].combine_chunks()
    given = valid_mask(column)
    track = np.repeat(np.arange(len(given)), np.where(given, list_lengths(column), 1))
    labels = _numbers(rows, "label")[track]
    scores = _numbers(rows, "score").astype(np.float64)[track]
    values = column.flatten()
    labels[given[track]] = _required(values.field("label"), "entries.label")
    scores[given[track]] = _required(values.field("score"), "entries.score")
    return Entries(track=track, labels=labels, scores=scores)


def _numbers(rows: pa.Table, name: str) -> np.ndarray:
    """A column without nulls, in 64 bits."""
    values = _required(rows[name].combine_chunks(), name)
    return values.astype(np.float64 if values.dtype.kind == "f" else np.int64)


def _required(values: pa.Array, name: str) -> np.ndarray:
    try:
        return numbers(values, name)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _members(rows: pa.Table) -> list[str]:
    """The first member of each track, whose names its labels have."""
    return [(members or [""])[0] for members in rows["members"].to_pylist()]
