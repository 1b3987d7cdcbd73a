"""One flat row per (video, track, frame): `tracks` and `masks` joined, as Parquet or CSV."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from vis_core import schema
from vis_core.columns import binary_array
from vis_core.formats.model import IntArray, VideoTracks
from vis_core.masks import rle
from vis_core.types import Category

_GROUP_BYTES = 64 << 20
ROWS = pa.schema(
    {
        "video_id": pa.string(),
        "track_id": pa.int32(),
        "frame_index": pa.int32(),
        "label": pa.int32(),
        "category": pa.string(),
        "track_score": pa.float64(),
        "score": pa.float64(),  # of this mask; null where it was carried
        "x1": pa.float32(),
        "y1": pa.float32(),
        "x2": pa.float32(),
        "y2": pa.float32(),
        "area": pa.int64(),
        "height": pa.int32(),
        "width": pa.int32(),
        "mask": pa.binary(),  # COCO run lengths; text in CSV
    }
)


class RowsWriter:
    """Writes rows as they come; memory is one row group."""

    def __init__(self, path: Path, categories: Sequence[Category], *, as_csv: bool) -> None:
        self._names = {category.label: category.name for category in categories}
        self._pending: list[pa.Table] = []
        if as_csv:
            self._schema = ROWS.set(ROWS.get_field_index("mask"), pa.field("mask", pa.string()))
            self._out = pc.CSVWriter(path, self._schema)
        else:
            self._schema = ROWS
            self._out = pq.ParquetWriter(path, ROWS, **schema.writer_options())

    def add(self, tracks: VideoTracks, frames: IntArray) -> None:
        owner = tracks.owner
        labels = tracks.labels[owner]
        boxes = rle.boxes(tracks.masks, tracks.video.size)
        columns = {
            "video_id": pa.repeat(pa.scalar(tracks.video.video_id), len(owner)),
            "track_id": tracks.track_ids[owner],
            "frame_index": tracks.frame_index,
            "label": labels,
            "category": [self._names.get(label, str(label)) for label in labels.tolist()],
            "track_score": tracks.scores[owner],
            "score": pa.array(tracks.mask_scores, from_pandas=True),  # NaN becomes null
            **{name: boxes[:, k] for k, name in enumerate(("x1", "y1", "x2", "y2"))},
            "area": tracks.areas,
            "height": np.full(len(owner), tracks.video.height),
            "width": np.full(len(owner), tracks.video.width),
            "mask": binary_array(tracks.masks),
        }
        arrays = [pa.array(columns[f.name]).cast(f.type) for f in self._schema]
        self._pending.append(pa.table(arrays, schema=self._schema))
        if sum(table.nbytes for table in self._pending) >= _GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._out.close()

    def _flush(self) -> None:
        if self._pending:
            rows = pa.concat_tables(self._pending).combine_chunks()
            if rows.num_rows:
                self._out.write_table(rows)
            self._pending = []
