"""The exact Arrow schemas of every table, and exact round trips between rows and objects.

Rows are built from concatenated numpy arrays and read as slices of them: no Python object per
instance, except the `bytes` of each mask. A frame without instances has no optional
per-instance fields: it comes back with None in all of them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vis_core.columns import (
    ContentDigest,
    conform,
    content_digest,
    list_array,
    list_lengths,
    numbers,
    offsets_of,
    split,
    valid_mask,
)
from vis_core.instances import (
    FLOW,
    INSTANCE,
    InstanceReader,
    flow_array,
    instances_array,
    read_flows,
)
from vis_core.types import FramePrediction, VideoInfo

__all__ = [
    "CATEGORIES",
    "FAILURES",
    "FRAMES",
    "MASKS",
    "SCHEMA_VERSION",
    "TRACKS",
    "VIDEOS",
    "ContentDigest",
    "FileMetadata",
    "conform_table",
    "content_digest",
    "file_metadata",
    "frames_writer_options",
    "iter_predictions",
    "predictions_to_table",
    "table_to_predictions",
    "table_to_videos",
    "videos_to_table",
    "with_metadata",
    "writer_options",
]

SCHEMA_VERSION = 1

_FLOATS = pa.list_(pa.float32())

VIDEOS = pa.schema(
    {
        "video_id": pa.string(),
        "uri": pa.string(),
        "version": pa.string(),
        "bytes": pa.int64(),
        "height": pa.int32(),
        "width": pa.int32(),
        "num_frames": pa.int32(),
        "fps": pa.float64(),
        "duration_seconds": pa.float64(),
        "codec": pa.string(),
        "rotation": pa.int32(),
        "key_frames": pa.list_(pa.int32()),
        "time_base": pa.list_(pa.int64()),
        "pts": pa.list_(pa.int64()),
        "status": pa.string(),
        "error": pa.string(),
        "first_pts": pa.int64(),
        "pts_step": pa.int64(),
        "sequential": pa.bool_(),
        "mtime_ns": pa.int64(),
        "missing_frames": pa.int32(),
    }
)

FRAMES = pa.schema(
    {
        "fingerprint": pa.string(),
        "member": pa.string(),
        "video_id": pa.string(),
        "window": pa.int32(),
        "frame_index": pa.int32(),
        "shot": pa.int32(),
        "pts_seconds": pa.float64(),
        "height": pa.int32(),
        "width": pa.int32(),
        "instances": pa.list_(INSTANCE),
        "flow": FLOW,
        "cut_after": pa.bool_(),
    }
)

TRACKS = pa.schema(
    {
        "video_id": pa.string(),
        "track_id": pa.int32(),
        "label": pa.int32(),
        "score": pa.float32(),
        "class_scores": _FLOATS,
        "entries": pa.list_(pa.struct({"label": pa.int32(), "score": pa.float32()})),
        "start_frame": pa.int32(),
        "stop_frame": pa.int32(),
        "num_frames": pa.int32(),
        "num_missing_frames": pa.int32(),
        "height": pa.int32(),
        "width": pa.int32(),
        "video_num_frames": pa.int32(),
        "members": pa.list_(pa.string()),
    }
)

MASKS = pa.schema(
    {
        "video_id": pa.string(),
        "track_id": pa.int32(),
        "frame_index": pa.int32(),
        "box": _FLOATS,
        "mask": pa.binary(),
        "score": pa.float32(),
    }
)

CATEGORIES = pa.schema(
    {"member": pa.string(), "label": pa.int32(), "name": pa.string(), "source": pa.string()}
)

FAILURES = pa.schema(
    {
        "video_id": pa.string(),
        "uri": pa.string(),
        "start_frame": pa.int32(),
        "stop_frame": pa.int32(),
        "member": pa.string(),
        "stage": pa.string(),
        "error_class": pa.string(),
        "message": pa.string(),
        "attempts": pa.int32(),
        "state": pa.string(),
        "run_id": pa.string(),
        "first_seen": pa.timestamp("us", tz="UTC"),
        "last_seen": pa.timestamp("us", tz="UTC"),
    }
)

# What an absent column means where it does not mean null: older tables and foreign writers.
_ABSENT: Mapping[str, Any] = {
    "fingerprint": "",
    "member": "",
    "window": 0,
    "shot": 0,
    "cut_after": False,
    "first_pts": 0,
    "pts_step": 1,
    "sequential": False,
    "missing_frames": 0,
    "mtime_ns": 0,
    "status": "ok",
    "rotation": 0,
}


# --- metadata and writing -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FileMetadata:
    """What every Parquet file of a results folder says about its origin."""

    fingerprints: tuple[str, ...] = ()
    system: str = ""
    weights_digest: str = ""
    code_version: str = ""
    schema_version: int = SCHEMA_VERSION


def with_metadata(
    schema: pa.Schema, metadata: FileMetadata, extra: Mapping[str, str] | None = None
) -> pa.Schema:
    """`schema` with key-value metadata; `extra` adds keys of the caller's own."""
    pairs = {
        "schema_version": str(metadata.schema_version),
        "fingerprints": json.dumps(list(metadata.fingerprints)),
        "system": metadata.system,
        "weights_digest": metadata.weights_digest,
        "code_version": metadata.code_version,
    }
    return schema.with_metadata({**pairs, **(extra or {})})


def file_metadata(schema: pa.Schema) -> FileMetadata:
    """The metadata of a file's schema; absent keys, as in foreign files, are empty."""
    pairs = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    return FileMetadata(
        fingerprints=tuple(json.loads(pairs.get("fingerprints", "[]"))),
        system=pairs.get("system", ""),
        weights_digest=pairs.get("weights_digest", ""),
        code_version=pairs.get("code_version", ""),
        schema_version=int(pairs.get("schema_version", SCHEMA_VERSION)),
    )


def writer_options() -> dict[str, Any]:
    """Keyword arguments of `pq.ParquetWriter` for every table but `frames`."""
    return {"compression": "zstd", "write_page_checksum": True}


def frames_writer_options() -> dict[str, Any]:
    """Keyword arguments of `pq.ParquetWriter` for `frames`.

    Embeddings rounded to float16 leave the low bytes of each float32 zero: split into byte
    streams they compress to a third; a dictionary would come first and spoil it.
    """
    return {
        **writer_options(),
        "use_dictionary": ["fingerprint", "member", "video_id"],
        "use_byte_stream_split": ["instances.list.element.embedding.list.element"],
    }


def conform_table(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """`table` with exactly the columns and types of `schema`; what is absent becomes null."""
    columns = []
    for field in schema:
        if field.name in table.column_names:
            chunks = [conform(chunk, field.type) for chunk in table.column(field.name).chunks]
        else:
            fill = pa.scalar(_ABSENT.get(field.name), field.type)
            chunks = [pa.repeat(fill, table.num_rows)]
        columns.append(pa.chunked_array(chunks, field.type))
    return pa.table(columns, schema=schema)


# --- videos -------------------------------------------------------------------------------------

_VIDEO_LISTS = ("key_frames", "time_base", "pts")


def videos_to_table(videos: Sequence[VideoInfo]) -> pa.Table:
    """One row of `videos` per object, in order."""
    columns = {
        field.name: pa.array([getattr(video, field.name) for video in videos], field.type)
        for field in VIDEOS
        if field.name not in _VIDEO_LISTS
    }
    columns["key_frames"] = _int_lists([video.key_frames for video in videos], np.int32)
    columns["time_base"] = _int_lists([np.asarray(v.time_base) for v in videos], np.int64)
    columns["pts"] = _int_lists([video.pts for video in videos], np.int64)
    return pa.table(columns, schema=VIDEOS)


def table_to_videos(table: pa.Table) -> list[VideoInfo]:
    """One object per row of a `videos` table, in order."""
    videos: list[VideoInfo] = []
    for batch in conform_table(table, VIDEOS).to_batches():
        columns: dict[str, Sequence[Any]] = {
            name: batch.column(name).to_pylist()
            for name in VIDEOS.names
            if name not in _VIDEO_LISTS
        }
        lists = {name: _list_rows(batch.column(name)) for name in _VIDEO_LISTS}
        columns["key_frames"] = [_EMPTY if rows is None else rows for rows in lists["key_frames"]]
        columns["time_base"] = [
            (1, 1) if r is None else tuple(r.tolist()) for r in lists["time_base"]
        ]
        columns["pts"] = lists["pts"]
        rows = zip(*columns.values(), strict=True)
        videos.extend(VideoInfo(**dict(zip(columns, row, strict=True))) for row in rows)
    return videos


_EMPTY = np.zeros(0, np.int32)


def _int_lists(rows: Sequence[npt.NDArray | None], dtype: type) -> pa.Array:
    null = np.array([row is None for row in rows], bool)
    parts: list[npt.NDArray] = [
        np.zeros(0, dtype) if row is None else np.asarray(row, dtype) for row in rows
    ]
    values = np.concatenate(parts) if parts else np.zeros(0, dtype)
    return list_array([len(part) for part in parts], pa.array(values), null)


def _list_rows(array: pa.Array) -> list[npt.NDArray | None]:
    values = numbers(array.flatten(), "list element")
    rows = split(values, offsets_of(list_lengths(array)))
    return [row if ok else None for row, ok in zip(rows, valid_mask(array), strict=True)]


# --- predictions to rows ------------------------------------------------------------------------


def predictions_to_table(
    predictions: Sequence[FramePrediction], *, fingerprint: str, member: str
) -> pa.Table:
    """One row of `frames` per prediction, in order; embeddings rounded to float16."""
    num = len(predictions)
    columns = {
        "fingerprint": pa.repeat(pa.scalar(fingerprint), num),
        "member": pa.repeat(pa.scalar(member), num),
        "instances": instances_array(predictions),
        "flow": flow_array([prediction.flow for prediction in predictions]),
    }
    for field in FRAMES:
        if field.name not in columns:
            values = [getattr(prediction, field.name) for prediction in predictions]
            columns[field.name] = pa.array(values, field.type)
    return pa.table(columns, schema=FRAMES)


# --- rows to predictions ------------------------------------------------------------------------


def table_to_predictions(table: pa.Table) -> list[FramePrediction]:
    """One object per row of a `frames` table, in order; arrays are views of the table's columns."""
    return list(iter_predictions(table))


def iter_predictions(table: pa.Table) -> Iterator[FramePrediction]:
    """As `table_to_predictions`, holding the objects of one chunk at a time."""
    for batch in conform_table(table, FRAMES).to_batches():
        yield from _batch_predictions(batch)


_ROW_COLUMNS = (
    "video_id",
    "window",
    "frame_index",
    "shot",
    "pts_seconds",
    "height",
    "width",
    "cut_after",
)


def _batch_predictions(batch: pa.RecordBatch) -> Iterator[FramePrediction]:
    columns: dict[str, Sequence[Any]] = {
        name: batch.column(name).to_pylist() for name in _ROW_COLUMNS
    }
    columns["flow"] = read_flows(batch.column("flow"))
    columns.update(InstanceReader(batch.column("instances")).columns())
    names = list(columns)
    for row in zip(*columns.values(), strict=True):
        yield FramePrediction(**dict(zip(names, row, strict=True)))
