"""Tables and objects are two forms of the same rows, and the digest sees content only."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pathlib

import duckdb
import numpy as np
import polars
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis_core import schema
from vis_core.types import FlowField, FramePrediction, RefAffinity, RefFlow, VideoInfo

_DEFAULT = pathlib.Path(__file__).parents[2].parent / "shared"
GOLDEN = pathlib.Path(os.environ.get("REELMASK_SHARED", _DEFAULT)) / "golden"

OPTIONAL = (
    "class_scores",
    "no_object_logprob",
    "embeddings",
    "prev_query",
    "proposals",
    "centers",
    "mean_offsets",
    "ref_flow",
    "ref_affinity",
)


def ragged_offsets(rng: np.random.Generator, num: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(rng.integers(0, 3, num))]).astype(np.int64)


def random_fields(rng: np.random.Generator, num: int, wanted: frozenset[str]) -> dict:
    flow_offsets, affinity_offsets = ragged_offsets(rng, num), ragged_offsets(rng, num)
    m, a = int(flow_offsets[-1]), int(affinity_offsets[-1])

    def floats(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    def ints(*shape: int) -> np.ndarray:
        return rng.integers(-5, 1000, shape).astype(np.int32)

    fields = {
        "class_scores": floats(num, int(rng.integers(0, 4))),
        "no_object_logprob": floats(num),
        "embeddings": floats(num, 5).astype(np.float16).astype(np.float32),
        "prev_query": ints(num),
        "proposals": ints(num),
        "centers": floats(num, 2),
        "mean_offsets": floats(num, 2),
        "ref_flow": RefFlow(offsets=flow_offsets, frame_index=ints(m), dydx=floats(m, 2)),
        "ref_affinity": RefAffinity(
            offsets=affinity_offsets,
            frame_index=ints(a),
            instance=ints(a),
            iou=floats(a),
            affinity=floats(a),
        ),
    }
    return {name: fields[name] for name in fields if name in wanted and num}


def random_prediction(
    rng: np.random.Generator, index: int, num: int, wanted: frozenset[str], flow: bool
) -> FramePrediction:
    dxdy = (rng.integers(-64, 64, (2, 3, 4)) / 8).astype(np.float16)
    return FramePrediction(
        video_id=f"clips/é{index % 3}",
        frame_index=index,
        pts_seconds=float(rng.random()),
        height=7,
        width=9,
        scores=rng.random(num, np.float32),
        labels=rng.integers(1, 9, num).astype(np.int32),
        boxes=rng.random((num, 4), np.float32),
        masks=[rng.bytes(int(rng.integers(0, 6))) for _ in range(num)],
        flow=FlowField(dxdy=dxdy) if flow else None,
        window=int(rng.integers(0, 3)),
        shot=None if index % 2 else index,
        cut_after=bool(index % 3 == 0),
        **random_fields(rng, num, wanted),
    )


@st.composite
def prediction_lists(draw: st.DrawFn, min_size: int = 0) -> list[FramePrediction]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 4), st.frozensets(st.sampled_from(OPTIONAL)), st.booleans()),
            min_size=min_size,
            max_size=5,
        )
    )
    return [random_prediction(rng, i, *row) for i, row in enumerate(rows)]


def some_predictions(num_frames: int = 6) -> list[FramePrediction]:
    rng = np.random.default_rng(3)
    wanted = [frozenset(OPTIONAL), frozenset(), frozenset({"embeddings"})]
    return [random_prediction(rng, i, i % 4, wanted[i % 3], i % 2 == 0) for i in range(num_frames)]


def to_table(predictions: list[FramePrediction]) -> pa.Table:
    return schema.predictions_to_table(predictions, fingerprint="f1", member="m0")


def assert_same(actual: object, expected: object, where: str = "value") -> None:
    """Equal types, shapes, dtypes and values, bit for bit."""
    if isinstance(expected, np.ndarray):
        assert isinstance(actual, np.ndarray), where
        assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), where
        assert actual.tobytes() == expected.tobytes(), where
    elif dataclasses.is_dataclass(expected):
        assert type(actual) is type(expected), where
        for field in dataclasses.fields(expected):
            name = field.name
            assert_same(getattr(actual, name), getattr(expected, name), f"{where}.{name}")
    elif isinstance(expected, list) and expected and dataclasses.is_dataclass(expected[0]):
        assert len(actual) == len(expected), where
        for i, pair in enumerate(zip(actual, expected, strict=True)):
            assert_same(*pair, f"{where}[{i}]")
    else:
        assert actual == expected, where


def same_content(kind: pa.DataType) -> pa.DataType:
    """The type a foreign writer may choose for the same content."""
    if pa.types.is_list(kind):
        return pa.large_list(same_content(kind.value_type))
    if pa.types.is_struct(kind):
        fields = [pa.field(f.name, same_content(f.type)) for f in kind]
        return pa.struct(fields)
    return {pa.binary(): pa.large_binary(), pa.string(): pa.large_string()}.get(kind, kind)


def foreign(table: pa.Table) -> pa.Table:
    return table.cast(pa.schema({f.name: same_content(f.type) for f in table.schema}))


# --- predictions ----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(prediction_lists())
def test_predictions_come_back_exactly(predictions):
    table = to_table(predictions)
    assert table.schema.equals(schema.FRAMES)
    table.validate(full=True)
    assert_same(schema.table_to_predictions(table), predictions)


@settings(deadline=None, max_examples=30)
@given(prediction_lists(min_size=3), st.integers(0, 2), st.integers(1, 3))
def test_slices_chunks_and_foreign_types_read_the_same(predictions, start, length):
    table = to_table(predictions)
    part = table.slice(start, length)
    expected = predictions[start : start + length]
    assert_same(schema.table_to_predictions(part), expected)
    assert_same(schema.table_to_predictions(foreign(part)), expected)
    chunked = pa.concat_tables([part, foreign(table).cast(table.schema)])
    assert_same(schema.table_to_predictions(chunked), expected + predictions)


def test_every_optional_field_is_covered():
    """The strategy above knows each optional field of a prediction."""
    predictions = some_predictions(1 + OPTIONAL.index("ref_affinity"))
    full = next(p for p in predictions if len(p) == 3 and p.embeddings is not None)
    assert full.frame_index == 3
    names = {f.name for f in dataclasses.fields(FramePrediction) if f.default is None}
    assert names == {*OPTIONAL, "flow", "shot"}
    assert all(getattr(full, name) is not None for name in OPTIONAL)


def test_embeddings_are_rounded_to_float16():
    exact = np.array([[0.1, 1e-3]], np.float32)
    first = dataclasses.replace(some_predictions(2)[1], embeddings=exact)
    (back,) = schema.table_to_predictions(to_table([first]))
    assert np.array_equal(back.embeddings, exact.astype(np.float16).astype(np.float32))
    assert not np.array_equal(back.embeddings, exact)


def test_an_embedding_beyond_float16_is_refused():
    first = some_predictions(2)[1]
    loud = dataclasses.replace(first, embeddings=np.full((1, 2), 1e6, np.float32))
    with pytest.raises(ValueError, match="scale it down"):
        to_table([loud])


def test_absent_columns_and_reordered_fields_read_as_defaults():
    """An older table lacks columns and lists struct fields in another order."""
    kind = pa.struct(
        {"mask": pa.binary_view(), "box": pa.list_(pa.float64(), 4), "label": pa.int64()}
        | {"score": pa.float64()}
    )
    instance = {"mask": b"x", "box": [0.0, 1.0, 2.0, 3.0], "label": 2, "score": 0.5}
    old = pa.table(
        {
            "video_id": pa.array(["a", "a"], pa.string_view()),
            "frame_index": pa.array([4, 5], pa.int64()),
            "pts_seconds": [0.0, 0.1],
            "height": pa.array([3, 3], pa.int16()),
            "width": pa.array([4, 4], pa.int16()),
            "instances": pa.array([[instance], []], pa.large_list(kind)),
        }
    )
    first, second = schema.table_to_predictions(old)
    assert (first.video_id, first.frame_index, first.window, first.shot) == ("a", 4, 0, 0)
    assert (first.masks, len(second)) == ([b"x"], 0)
    assert_same(first.boxes, np.array([[0, 1, 2, 3]], np.float32))
    assert all(getattr(first, name) is None for name in (*OPTIONAL, "flow"))


def test_a_field_null_for_some_instances_only_is_refused():
    rows = to_table([some_predictions(4)[3]]).to_pylist()
    rows[0]["instances"][1]["proposal"] = None
    with pytest.raises(ValueError, match="proposal is null for some instances"):
        schema.table_to_predictions(pa.Table.from_pylist(rows, schema.FRAMES))


def test_vectors_of_different_length_in_one_frame_are_refused():
    rows = to_table([some_predictions(4)[3]]).to_pylist()
    rows[0]["instances"][1]["embedding"] = [1.0]
    with pytest.raises(ValueError, match="embedding: lists of different length"):
        schema.table_to_predictions(pa.Table.from_pylist(rows, schema.FRAMES))


@pytest.mark.parametrize("name", ["score", "mask", "box", "label"])
def test_a_null_where_a_value_is_required_is_refused(name):
    rows = to_table([some_predictions(4)[3]]).to_pylist()
    rows[0]["instances"][0][name] = None
    with pytest.raises(ValueError, match=f"{name}: null where a value is required"):
        schema.table_to_predictions(pa.Table.from_pylist(rows, schema.FRAMES))


def test_a_flow_of_the_wrong_size_is_refused():
    rows = to_table(some_predictions(1)).to_pylist()
    rows[0]["flow"]["height"] = 8
    with pytest.raises(ValueError, match="48 bytes for 2 x 8 x 4"):
        schema.table_to_predictions(pa.Table.from_pylist(rows, schema.FRAMES))


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden fixtures are not beside this checkout")
def test_golden_inputs_are_read_and_rewritten():
    paths = sorted(GOLDEN.glob("*/*/input.parquet"))
    assert len(paths) > 20
    for path in paths:
        golden = pq.read_table(path)
        predictions = schema.table_to_predictions(golden)
        again = schema.table_to_predictions(to_table(predictions))
        assert_same(again, predictions, str(path))
        scores = pc.struct_field(golden["instances"].combine_chunks().flatten(), "score")
        assert np.array_equal(np.concatenate([p.scores for p in predictions]), scores)


# --- videos ---------------------------------------------------------------------------------------


def some_videos() -> list[VideoInfo]:
    plain = VideoInfo(
        video_id="a/b",
        uri="/x/a/b.mp4",
        version="v1",
        bytes=1 << 40,
        height=48,
        width=64,
        num_frames=20,
        fps=29.97,
        duration_seconds=0.667,
        codec="h264",
        rotation=90,
        key_frames=np.array([0, 12], np.int32),
        time_base=(1, 12800),
        first_pts=1024,
        pts_step=512,
        mtime_ns=1_700_000_000_000_000_001,
    )
    uneven = dataclasses.replace(
        plain,
        video_id="c",
        pts=np.array([0, 512, 1500], np.int64),
        sequential=True,
        status="partial",
        error="4 kB of damage",
    )
    empty = dataclasses.replace(plain, video_id="d", key_frames=np.zeros(0, np.int32))
    return [plain, uneven, empty]


def test_videos_come_back_exactly():
    videos = some_videos()
    table = schema.videos_to_table(videos)
    assert table.schema.equals(schema.VIDEOS)
    assert_same(schema.table_to_videos(table), videos)
    assert_same(schema.table_to_videos(pa.concat_tables([table[1:], table])), videos[1:] + videos)
    assert schema.table_to_videos(schema.videos_to_table([])) == []


def test_videos_without_our_own_columns_get_defaults():
    table = schema.videos_to_table(some_videos()[:1])
    table = table.drop_columns(["first_pts", "pts_step", "sequential", "mtime_ns"])
    (video,) = schema.table_to_videos(table)
    assert (video.first_pts, video.pts_step, video.sequential, video.mtime_ns) == (0, 1, False, 0)


# --- files ----------------------------------------------------------------------------------------


def write_frames(path: pathlib.Path, predictions: list[FramePrediction]) -> pa.Table:
    table = to_table(predictions)
    with pq.ParquetWriter(path, table.schema, **schema.frames_writer_options()) as writer:
        writer.write_table(table, row_group_size=2)
    return table


def test_a_frames_file_comes_back_exactly(tmp_path):
    predictions = some_predictions()
    table = write_frames(tmp_path / "f.parquet", predictions)
    back = pq.read_table(tmp_path / "f.parquet")
    assert back.schema.equals(schema.FRAMES)
    assert_same(schema.table_to_predictions(back), predictions)
    assert schema.content_digest(back) == schema.content_digest(table)


def test_embeddings_are_stored_as_split_bytes(tmp_path):
    write_frames(tmp_path / "f.parquet", some_predictions())
    group = pq.read_metadata(tmp_path / "f.parquet").row_group(0)
    chunks = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    embedding = chunks["instances.list.element.embedding.list.element"]
    assert "BYTE_STREAM_SPLIT" in embedding.encodings
    assert not embedding.has_dictionary_page
    assert chunks["video_id"].has_dictionary_page
    assert {chunk.compression for chunk in chunks.values()} == {"ZSTD"}


def test_duckdb_and_polars_read_what_was_written(tmp_path):
    predictions = some_predictions()
    path = tmp_path / "f.parquet"
    write_frames(path, predictions)
    expected = sorted(
        (p.frame_index, float(score), label, mask)
        for p in predictions
        for score, label, mask in zip(p.scores, p.labels.tolist(), p.masks, strict=True)
    )
    query = (
        "SELECT frame_index, i.score, i.label, i.mask FROM "
        f"(SELECT frame_index, UNNEST(instances) AS i FROM '{path}')"
    )
    assert sorted(duckdb.sql(query).fetchall()) == expected
    frame = polars.read_parquet(path).select("frame_index", "instances").explode("instances")
    frame = frame.drop_nulls("instances").unnest("instances")
    assert sorted(frame.select("frame_index", "score", "label", "mask").rows()) == expected


def test_duckdb_written_frames_are_read(tmp_path):
    predictions = some_predictions()
    write_frames(tmp_path / "ours.parquet", predictions)
    duckdb.sql(f"COPY (FROM '{tmp_path}/ours.parquet') TO '{tmp_path}/theirs.parquet'")
    theirs = pq.read_table(tmp_path / "theirs.parquet")
    assert_same(schema.table_to_predictions(theirs), predictions)


def test_polars_written_frames_are_read(tmp_path):
    predictions = some_predictions()
    write_frames(tmp_path / "ours.parquet", predictions)
    theirs = polars.read_parquet(tmp_path / "ours.parquet").to_arrow()
    assert_same(schema.table_to_predictions(theirs), predictions)


def test_metadata_travels_with_the_file(tmp_path):
    metadata = schema.FileMetadata(
        fingerprints=("a", "b"), system="idol", weights_digest="w", code_version="1.0"
    )
    marked = schema.with_metadata(schema.MASKS, metadata, {"receipt": "{}"})
    pq.write_table(marked.empty_table(), tmp_path / "m.parquet", **schema.writer_options())
    back = pq.read_schema(tmp_path / "m.parquet")
    assert schema.file_metadata(back) == metadata
    assert back.metadata[b"receipt"] == b"{}"
    assert schema.file_metadata(schema.MASKS) == schema.FileMetadata()


# --- digest ---------------------------------------------------------------------------------------


def test_the_digest_ignores_representation():
    table = to_table(some_predictions())
    expected = schema.content_digest(table)
    chunked = pa.concat_tables([table[:1], table[1:4], table[4:4], table[4:]])
    sliced = pa.concat_tables([table, table]).combine_chunks().slice(len(table))
    view = table.set_column(2, "video_id", table["video_id"].cast(pa.string_view()))
    encoded = table.set_column(2, "video_id", table["video_id"].dictionary_encode())
    reordered = table.select(table.column_names[::-1])
    for other in (chunked, sliced, foreign(table), view, encoded, reordered):
        assert schema.content_digest(other) == expected
    assert schema.content_digest(foreign(table)[3:]) == schema.content_digest(table[3:])


def test_the_digest_ignores_what_lies_under_nulls():
    plain = pa.table({"a": pa.array([[1.0], None], pa.list_(pa.float32()))})
    padded = pa.ListArray.from_arrays(
        pa.array([0, 1, 3], pa.int32()),
        pa.array([1.0, 7.0, 8.0], pa.float32()),
        mask=pa.array([False, True]),
    )
    assert schema.content_digest(pa.table({"a": padded})) == schema.content_digest(plain)
    left = pa.StructArray.from_arrays([pa.array([1, 2])], ["x"], mask=pa.array([False, True]))
    right = pa.array([{"x": 1}, None], pa.struct({"x": pa.int64()}))
    digests = {schema.content_digest(pa.table({"s": array})) for array in (left, right)}
    assert len(digests) == 1


def test_the_digest_sees_every_difference():
    kinds = pa.list_(pa.int64())
    tables = [
        pa.table({"a": pa.array([[1], [2, 3]], kinds)}),
        pa.table({"a": pa.array([[1, 2], [3]], kinds)}),
        pa.table({"a": pa.array([[1, 2, 3]], kinds)}),
        pa.table({"a": pa.array([[1], [2, 3], []], kinds)}),
        pa.table({"a": pa.array([[1], [2, 3], None], kinds)}),
        pa.table({"a": pa.array([[1], [2, None, 3]], kinds)}),
        pa.table({"a": pa.array([[1], [None, 2, 3]], kinds)}),
        pa.table({"b": pa.array([[1], [2, 3]], kinds)}),
        pa.table({"a": ["ab", "c"]}),
        pa.table({"a": ["a", "bc"]}),
        pa.table({"a": [b"a", b"bc"]}),
        pa.table({"a": [True, False]}),
        pa.table({"a": [False, True]}),
        pa.table({"a": pa.array([0, 1], pa.uint8())}),
        pa.table({"a": [0.0]}),
        pa.table({"a": [-0.0]}),
        pa.table({"a": [{"x": 1}]}),
        pa.table({"a": [{"x": None}]}),
        pa.table({"a": pa.array([None], pa.struct({"x": pa.null()}))}),
        pa.table({"a": [datetime.datetime(2020, 1, 1)]}),
        pa.table({"a": [datetime.datetime(2020, 1, 2)]}),
        pa.table({}),
    ]
    assert len({schema.content_digest(table) for table in tables}) == len(tables)


@pytest.mark.parametrize("name", ["VIDEOS", "FRAMES", "TRACKS", "MASKS", "CATEGORIES", "FAILURES"])
def test_empty_tables_survive_parquet(name, tmp_path):
    kind = getattr(schema, name)
    pq.write_table(kind.empty_table(), tmp_path / "t.parquet", **schema.writer_options())
    back = pq.read_table(tmp_path / "t.parquet")
    assert back.schema.equals(kind)
    assert schema.content_digest(back) == schema.content_digest(kind.empty_table())
