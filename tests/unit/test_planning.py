"""Planning: interval subtraction, cutting and packing, against a slow reference per video."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis_core import schema
from vis_core.store import planning
from vis_core.store.manifest import SEGMENTS
from vis_core.types import VideoInfo
from vis_core.video.sampling import Sampling
from vis_core.windows import WindowSpec, window_ranges


def video(name: str, num_frames: int, key_frames=(0,), *, sequential=False, version="v"):
    return VideoInfo(
        video_id=name,
        uri=f"file:///{name}",
        version=version,
        bytes=1,
        height=8,
        width=8,
        num_frames=num_frames,
        fps=25.0,
        duration_seconds=num_frames / 25,
        codec="h264",
        key_frames=np.asarray(key_frames, np.int32),
        time_base=(1, 25),
        sequential=sequential,
    )


def committed(rows) -> pa.Table:
    """Rows (video_id, version, window, start, stop) of the manifest."""
    names = ("video_id", "version", "window", "start", "stop")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], SEGMENTS)


def plan(videos, done=(), *, shard=10, sampling=None, spec=None):
    table = schema.videos_to_table(videos)
    pieces = planning.plan_pieces(
        planning.VideoColumns(table),
        table,
        committed(done),
        spec=spec or WindowSpec(),
        sampling=sampling or Sampling(),
        shard_frames=shard,
    )
    names = [v.video_id for v in videos]
    return [
        (names[v], w, a, b)
        for v, w, a, b in zip(
            pieces.video.tolist(),
            pieces.window.tolist(),
            pieces.start.tolist(),
            pieces.stop.tolist(),
            strict=True,
        )
    ]


def test_cuts_at_the_last_key_frame_of_the_second_half():
    assert plan([video("a", 30, (0, 7, 16, 25))]) == [
        ("a", 0, 0, 7),
        ("a", 0, 7, 16),
        ("a", 0, 16, 25),
        ("a", 0, 25, 30),
    ]


def test_cuts_at_the_limit_where_key_frames_are_too_far_apart():
    assert plan([video("a", 25)]) == [("a", 0, 0, 10), ("a", 0, 10, 20), ("a", 0, 20, 25)]


def test_sequential_videos_stay_whole_and_empty_ones_vanish():
    videos = [video("a", 25, sequential=True), video("b", 0), video("c", 3)]
    assert plan(videos) == [("a", 0, 0, 25), ("c", 0, 0, 3)]


def test_a_sequential_video_follows_the_length_the_decoder_found():
    """Fewer frames than the index thought: done. More: the ones behind are planned."""
    done = [("a", "v", 0, 0, 25)]
    assert plan([video("a", 20, sequential=True)], done) == []
    assert plan([video("a", 30, sequential=True)], done) == [("a", 0, 25, 30)]


def test_only_the_rest_is_planned_and_another_version_does_not_count():
    videos = [video("a", 20), video("b", 10)]
    done = [("a", "v", 0, 5, 8), ("a", "old", 0, 0, 20), ("b", "v", 0, 0, 10), ("x", "v", 0, 0, 9)]
    assert plan(videos, done, shard=100) == [("a", 0, 0, 5), ("a", 0, 8, 20)]


def test_sampling_makes_shards_longer_in_source_frames():
    assert plan([video("a", 40)], sampling=Sampling(every=3)) == [("a", 0, 0, 30), ("a", 0, 30, 40)]


def test_windows_are_planned_whole():
    spec = WindowSpec(whole_windows=True, num_frames=10, overlap=4)
    pieces = plan([video("a", 19)], [("a", "v", 1, 6, 16)], spec=spec)
    assert pieces == [("a", 0, 0, 10), ("a", 2, 9, 19)]


def test_window_borders_in_source_frames_when_sampling():
    spec = WindowSpec(whole_windows=True, num_frames=3, overlap=1)
    assert plan([video("a", 9)], spec=spec, sampling=Sampling(every=2)) == [
        ("a", 0, 0, 6),
        ("a", 1, 4, 9),
    ]


ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=6)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), ranges, st.sets(st.integers(1, 59))), max_size=5),
    st.integers(1, 25),
)
def test_pieces_are_exactly_the_missing_frames(spec, shard):
    """Union of pieces = owned minus committed; pieces don't overlap; none is above the size."""
    videos, done, expected = [], [], {}
    for i, (num_frames, committed_ranges, keys) in enumerate(spec):
        name = f"v{i}"
        videos.append(video(name, num_frames, sorted({0, *(k for k in keys if k < num_frames)})))
        missing = set(range(num_frames))
        for start, length in committed_ranges:
            done.append((name, "v", 0, start, start + length))
            missing -= set(range(start, start + length))
        expected[name] = missing
    got = {name: [] for name in expected}
    for name, _, start, stop in plan(videos, done, shard=shard) if videos else []:
        assert 0 < stop - start <= shard
        got[name] += range(start, stop)
    assert {n: sorted(f) for n, f in got.items()} == {n: sorted(f) for n, f in expected.items()}


@pytest.mark.parametrize("num_frames", [1, 9, 10, 11, 19, 20, 37])
def test_windows_cover_everything_and_depend_on_the_length_alone(num_frames):
    spec = WindowSpec(whole_windows=True, num_frames=10, overlap=4)
    windows = window_ranges(num_frames, spec)
    assert windows[0][0] == 0 and windows[-1][1] == num_frames
    assert all(b - a == min(10, num_frames) for a, b in windows)
    assert all(left[1] - right[0] >= 4 for left, right in itertools.pairwise(windows))


def test_packing_shares_units_but_never_with_pieces_that_go_alone():
    pieces = planning.Pieces(
        **{n: np.zeros(6, np.int64) for n in ("video", "start", "stop", "window")}
    )
    weights = np.array([4.0, 4, 4, 4, 20, 1])
    alone = np.array([False, False, False, True, False, False])
    assert planning.pack(pieces, weights, alone, 10).tolist() == [0, 0, 1, 2, 3, 4]
