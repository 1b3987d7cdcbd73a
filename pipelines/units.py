"""Units of work as Arrow rows: what Ray carries is the plan, never a frame."""

from __future__ import annotations

import pyarrow as pa

from vis_core import schema
from vis_core.store.segments import Segment, Unit

UNITS = pa.schema([("part", pa.string()), ("unit", pa.binary())])
_RANGES = pa.schema([("window", pa.int32()), ("start", pa.int32()), ("stop", pa.int32())])


def unit_to_row(unit: Unit) -> pa.Table:
    """A table of one row: one unit is one block is one task."""
    videos = schema.videos_to_table([segment.video for segment in unit.segments])
    for field in _RANGES:
        values = [getattr(segment, field.name) for segment in unit.segments]
        videos = videos.append_column(f"segment_{field.name}", pa.array(values, field.type))
    named = videos.replace_schema_metadata({"member": unit.member, "fingerprint": unit.fingerprint})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, named.schema) as writer:
        writer.write_table(named)
    return pa.table({"part": [unit.part], "unit": [sink.getvalue().to_pybytes()]}, schema=UNITS)


def unit_from_row(row: pa.Table) -> Unit:
    """Inverse of `unit_to_row`."""
    table = pa.ipc.open_stream(row["unit"][0].as_py()).read_all()
    ranges = zip(*(table[f"segment_{field.name}"].to_pylist() for field in _RANGES), strict=True)
    videos = schema.table_to_videos(table.select(schema.VIDEOS.names))
    return Unit(
        member=table.schema.metadata[b"member"].decode(),
        fingerprint=table.schema.metadata[b"fingerprint"].decode(),
        segments=tuple(
            Segment(video=video, window=window, start=start, stop=stop)
            for video, (window, start, stop) in zip(videos, ranges, strict=True)
        ),
    )
