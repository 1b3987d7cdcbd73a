"""Masks by frame: whatever order, files and row groups they are stored in, and however they lie."""

import functools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vis_core import schema
from vis_core.errors import UsageError
from vis_core.masks import rle
from vis_core.render import rows
from vis_core.render.rows import RowGroups, in_frame_order
from vis_core.store.folder import open_folder
from vis_core.store.spool import MaskSpool

SIZE = (6, 8)


def masks_table(records, seed=None) -> pa.Table:
    """Rows (video_id, track_id, frame_index), each with a mask of its own; shuffled with a seed."""
    rng = np.random.default_rng(0)
    texts = rle.encode(rng.random((max(1, len(records)), *SIZE)) < 0.5)
    listed = [
        {
            "video_id": video_id,
            "track_id": track_id,
            "frame_index": frame,
            "box": [0.0, 0.0, 1.0, 1.0],
            "mask": texts[i],
            "score": None if frame % 5 == 0 else track_id / 8,
        }
        for i, (video_id, track_id, frame) in enumerate(records)
    ]
    if seed is not None:
        np.random.default_rng(seed).shuffle(listed)
    return pa.Table.from_pylist(listed, schema=schema.MASKS)


def flat(frames) -> list[tuple]:
    return [
        (frame.frame_index, *row)
        for frame in frames
        for row in zip(frame.track_ids, frame.scores, frame.masks, strict=True)
    ]


def expected(table: pa.Table, video_id: str = "a") -> list[tuple]:
    found = [row for row in table.to_pylist() if row["video_id"] == video_id]
    keys = ("frame_index", "track_id", "score", "mask")
    return sorted((tuple(row[key] for key in keys) for row in found), key=lambda row: row[:2])


RECORDS = [("a", track, frame) for track in range(7) for frame in range(track, 200, track + 1)]


@pytest.mark.parametrize("run_bytes", [64 << 20, 2000])
def test_frames_in_order_whatever_the_order_of_rows(monkeypatch, run_bytes):
    """Also where the masks do not fit the memory of the spool and are sorted on disk."""
    monkeypatch.setattr(rows, "MaskSpool", functools.partial(MaskSpool, run_bytes=run_bytes))
    table = masks_table(RECORDS, seed=1)
    pieces = [table.slice(start, 50) for start in range(0, len(table), 50)]
    found = list(in_frame_order(pieces, SIZE))
    assert flat(found) == expected(table)
    assert [frame.frame_index for frame in found] == sorted({frame for _, _, frame in RECORDS})


def test_no_masks_no_frames():
    assert list(in_frame_order([], SIZE)) == []
    assert list(in_frame_order([masks_table([])], SIZE)) == []


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("frame_index", -1, "column 'frame_index' holds -1"),
        ("track_id", -7, "column 'track_id' holds -7"),
        ("track_id", 2**31 - 1, "expected ids below 33554432"),
        ("track_id", None, "'track_id' has 1 nulls"),
        ("frame_index", None, "'frame_index' has 1 nulls"),
        ("mask", b"\xff", "is not COCO RLE text"),
        ("mask", b"", "no run lengths"),
        ("mask", None, "no run lengths"),
        ("mask", rle.encode(np.ones((1, 9, 9), bool))[0], "cover 81 pixels"),
    ],
)
def test_rows_that_cannot_be(column, value, message):
    listed = masks_table([("a", 0, 0), ("a", 0, 1)]).to_pylist()
    listed[1][column] = value
    table = pa.Table.from_pylist(listed, schema=schema.MASKS)
    with pytest.raises(UsageError, match=message):
        list(in_frame_order([table], SIZE))


def write(folder, name, table, row_group_size=None, **options):
    path = folder / "masks" / name
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size, **options)


def groups(folder, wanted) -> RowGroups:
    return RowGroups(open_folder(str(folder)), "masks", schema.MASKS, wanted)


@pytest.mark.parametrize("statistics", [True, False])
def test_rows_of_a_video_are_found_wherever_they_are(tmp_path, statistics):
    records = [(video, track, frame) for video in "abcdé" for track in range(3) for frame in (4, 9)]
    table = masks_table(records, seed=2)
    write(tmp_path, "one.parquet", table.slice(0, 17), 5, write_statistics=statistics)
    write(tmp_path, "two.parquet", table.slice(17), 4, write_statistics=statistics)
    found = groups(tmp_path, set("abdé"))
    assert set(found.places) == set("abdé")
    for video in "abdé":
        assert flat(in_frame_order(found.tables(video), SIZE)) == expected(table, video)


def test_row_groups_of_other_videos_are_not_read(tmp_path, monkeypatch):
    table = masks_table([(video, 0, frame) for video in "abcdef" for frame in range(10)])
    write(tmp_path, "one.parquet", table, 10)
    read = []
    original = pq.ParquetFile.read_row_group

    def spy(self, group, **settings):
        read.append(group)
        return original(self, group, **settings)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spy)
    found = groups(tmp_path, {"c"})
    assert len(list(found.tables("c"))) == 1
    assert set(read) == {2}


def test_columns_may_stand_in_any_order_and_the_optional_ones_be_absent(tmp_path):
    table = masks_table([("a", 0, 1), ("b", 0, 1)])
    write(
        tmp_path,
        "one.parquet",
        table.select(["box", "mask", "frame_index", "track_id", "video_id"]),
    )
    (found,) = in_frame_order(groups(tmp_path, {"b"}).tables("b"), SIZE)
    assert (found.frame_index, found.track_ids, found.scores) == (1, [0], [None])


def test_a_file_that_is_no_table_is_named(tmp_path):
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "x.parquet").write_bytes(b"PAR1 not at all PAR1")
    with pytest.raises(UsageError, match=r"masks/x.parquet cannot be read"):
        groups(tmp_path, {"a"})


def test_a_table_of_another_kind_is_named(tmp_path):
    write(tmp_path, "x.parquet", pa.table({"video_id": ["a"]}))
    with pytest.raises(UsageError, match=r"x.parquet has no column 'track_id'"):
        groups(tmp_path, {"a"})


def test_columns_of_other_types_are_named_with_their_file(tmp_path):
    rows = pa.table({"video_id": ["a"], "track_id": ["one"], "frame_index": [0], "mask": [b"0"]})
    write(tmp_path, "x.parquet", rows)
    with pytest.raises(UsageError, match=r"masks/x.parquet cannot be read: .*'one'"):
        list(groups(tmp_path, {"a"}).tables("a"))
