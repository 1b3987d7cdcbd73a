"""Rows of `tracks` and `masks` by video, and the masks of a video by frame, in bounded memory.

Results are sorted by track, and pictures come by frame: the masks pass through the spool, which
sorts on disk what is more than its run. So memory holds the spool's, one row group, and the masks
of 64 frames, whatever the length of the video.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence, Set

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vis_core import schema
from vis_core.columns import binary_values, numbers
from vis_core.errors import UsageError
from vis_core.masks import rle
from vis_core.store.folder import Folder
from vis_core.store.spool import SPOOLED, MaskSpool

_Place = tuple[str, int]  # file, row group

_BLOCK_FRAMES = 64
_MAX_TRACKS = 2**31 // _BLOCK_FRAMES  # frame within a block and track share 32 bits


class RowGroups:
    """Where the rows of the wanted videos are, in files that may be cut and sorted anyhow."""

    def __init__(self, folder: Folder, under: str, kind: pa.Schema, wanted: Set[str]) -> None:
        self._folder = folder
        self._under = under
        self._kind = kind
        self._held: tuple[_Place, pa.Table] | None = None
        self.places: dict[str, list[_Place]] = {}
        if wanted:
            for name in folder.names(under):
                if name.endswith(".parquet"):
                    self._look_into(name, wanted, min(wanted), max(wanted))

    def _look_into(self, name: str, wanted: Set[str], first: str, last: str) -> None:
        with self._open(name) as file:
            for column in ("video_id", "track_id"):
                if column not in file.schema_arrow.names:
                    raise UsageError(
                        f"{self._folder.root}/{self._under}/{name} has no column {column!r};"
                        f" expected a table of {self._under}"
                    )
            for group in range(file.num_row_groups):
                low, high = _range_of_ids(file, group)
                if (low is not None and low > last) or (high is not None and high < first):
                    continue
                column = file.read_row_group(group, columns=["video_id"])["video_id"]
                for video_id in pc.unique(column).to_pylist():
                    if video_id in wanted:
                        self.places.setdefault(video_id, []).append((name, group))

    def tables(self, video_id: str) -> Iterator[pa.Table]:
        """The rows of a video, one row group at a time."""
        for place in self.places.get(video_id, []):
            table = self._group(place)
            yield table.filter(pc.equal(table["video_id"], video_id))

    def _group(self, place: _Place) -> pa.Table:
        """A row group; the last one is kept, since the next video may be in it, too."""
        if self._held is None or self._held[0] != place:
            self._held = None  # not two at once
            with self._open(place[0]) as file:
                there = [name for name in self._kind.names if name in file.schema_arrow.names]
                table = schema.conform_table(
                    file.read_row_group(place[1], columns=there), self._kind
                )
            self._held = place, table
        return self._held[1]

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[pq.ParquetFile]:
        path = f"{self._under}/{name}"
        with self._folder.open(path) as handle:
            try:
                yield pq.ParquetFile(handle)
            except pa.ArrowException as error:
                message = f"{self._folder.root}/{path} cannot be read: {error}"
                raise UsageError(message) from error


def _range_of_ids(file: pq.ParquetFile, group: int) -> tuple[str | None, str | None]:
    """The lowest and highest id by the statistics; None where they do not say."""
    columns = map(file.metadata.row_group(group).column, range(file.metadata.num_columns))
    statistics = next(c.statistics for c in columns if c.path_in_schema == "video_id")
    if statistics is None or not statistics.has_min_max:
        return None, None
    low, high = statistics.min, statistics.max
    return (low, high) if isinstance(low, str) and isinstance(high, str) else (None, None)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FrameMasks:
    """The masks of one frame, by track; scores are None where a mask was carried."""

    frame_index: int
    track_ids: Sequence[int]  # (N,) ascending
    scores: Sequence[float | None]  # (N,)
    masks: Sequence[bytes]  # (N,) validated run lengths


def in_frame_order(tables: Iterable[pa.Table], size: rle.Size) -> Iterator[FrameMasks]:
    """The frames that have masks, ascending, from untrusted rows of `masks` in any order."""
    with MaskSpool() as spool:
        for table in tables:
            spool.add(_spooled(table))
        for block, rows in spool.tracks():
            yield from _frames_of(block * _BLOCK_FRAMES, rows, size)


def _spooled(table: pa.Table) -> pa.Table:
    """Rows for the spool with changed roles: blocks of frames stand where it sorts tracks."""
    frames, tracks = (_whole_numbers(table, name) for name in ("frame_index", "track_id"))
    if (tracks >= _MAX_TRACKS).any():
        raise UsageError(f"a mask of track {tracks.max()}; expected ids below {_MAX_TRACKS}")
    block, within = np.divmod(frames, _BLOCK_FRAMES)
    columns = {
        "track": block.astype(np.int32),
        "frame_index": (within * _MAX_TRACKS + tracks).astype(np.int32),
        "mask": table["mask"],
        "score": table["score"],
    }
    return pa.table(columns, schema=SPOOLED)


def _whole_numbers(table: pa.Table, name: str) -> np.ndarray:
    try:
        values = numbers(table[name].combine_chunks(), name).astype(np.int64)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if (values < 0).any():
        raise UsageError(f"column {name!r} holds {values.min()}; expected 0 or more")
    return values


def _frames_of(first_frame: int, rows: pa.Table, size: rle.Size) -> Iterator[FrameMasks]:
    frames, tracks = np.divmod(rows["frame_index"].to_numpy().astype(np.int64), _MAX_TRACKS)
    texts = [text for chunk in rows["mask"].chunks for text in binary_values(chunk)]
    scores = rows["score"].to_pylist()
    starts = np.flatnonzero(np.diff(frames, prepend=-1))
    stops = np.append(starts[1:], len(frames))
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        frame_index = first_frame + int(frames[start])
        try:
            masks = rle.validate_counts(texts[start:stop], size)
        except ValueError as error:
            raise UsageError(f"frame {frame_index}: {error}") from error
        yield FrameMasks(
            frame_index=frame_index,
            track_ids=tracks[start:stop].tolist(),
            scores=scores[start:stop],
            masks=masks,
        )
