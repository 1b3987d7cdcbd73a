"""flow_match without weights, from a video file to its tracks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.e2e.test_determinism import frames_digest, run
from tests.support.clips import write_video
from tests.support.encode import X264, ffmpeg
from tests.support.moving_disc import moving_disc
from tests.support.results import result_digest, table
from vis_core.masks import rle
from vis_core.systems.flow_match import FLOW_MATCH

NUM_FRAMES = 36
SIZE = (180, 320)


@pytest.fixture(scope="module")
def jumping(shared, tmp_path_factory) -> Path:
    """The end of a real clip, small: two children jump on a bed, on its left half."""
    folder = tmp_path_factory.mktemp("jumping")
    scale = ("-vf", f"scale={SIZE[1]}:{SIZE[0]}", "-frames:v", str(NUM_FRAMES), "-an")
    source = shared / "media" / "bedroom_540p.mp4"
    ffmpeg("-ss", "5.0", "-i", source, *scale, *X264, "-crf", "18", folder / "jumping.mp4")
    return folder


@pytest.fixture(scope="module")
def whole(jumping, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "out"
    run(jumping, out, FLOW_MATCH, {"shard_frames": 100_000})
    return out


@pytest.mark.parametrize("shard", [7, 32])
def test_a_real_clip_gives_the_same_bytes_at_any_shard_size(jumping, whole, tmp_path, shard):
    run(jumping, tmp_path / "cut", FLOW_MATCH, {"shard_frames": shard})
    assert frames_digest(tmp_path / "cut") == frames_digest(whole)
    assert result_digest(tmp_path / "cut") == result_digest(whole)


def test_jumping_children_are_found_and_the_still_room_is_not(whole):
    """Two masks or more in nine of ten frames; hardly a pixel on the wall and door to the right."""
    rows = table(whole, "frames").to_pylist()
    assert [row["frame_index"] for row in rows] == list(range(NUM_FRAMES))
    assert sum(len(row["instances"]) >= 2 for row in rows) >= 0.9 * NUM_FRAMES
    found = np.zeros(SIZE, int)
    for row in rows:
        found += rle.decode([item["mask"] for item in row["instances"]], SIZE).any(axis=0)
    assert (found > NUM_FRAMES / 2).sum() > 2000, "where a child is more often than not"
    assert found[:, 200:].sum() < 0.01 * found.sum()


def test_tracks_follow_a_disc_through_a_video(tmp_path):
    """One track from the first to the last frame, whose masks are the disc; and nothing else."""
    scene = moving_disc(40)
    clips = tmp_path / "clips"
    clips.mkdir()
    write_video(clips / "disc.mp4", scene.frames, codec="libx264", gop=12)
    run(clips, tmp_path / "out", FLOW_MATCH, {})
    (track,) = table(tmp_path / "out", "tracks").to_pylist()
    assert (track["start_frame"], track["stop_frame"], track["num_frames"]) == (0, 40, 40)
    masks = table(tmp_path / "out", "masks").to_pylist()
    found = rle.decode([row["mask"] for row in masks], SIZE)
    pairs = zip(found, scene.discs, strict=True)
    ious = [(mask & disc).sum() / (mask | disc).sum() for mask, disc in pairs]
    assert np.mean(ious) > 0.9, ious
    (category,) = table(tmp_path / "out", "categories").to_pylist()
    assert (category["label"], category["name"]) == (1, "object")


@pytest.mark.parametrize("num_frames", [1, 2])
def test_a_video_of_one_or_two_frames_goes_through(tmp_path, num_frames):
    clips = tmp_path / "clips"
    clips.mkdir()
    write_video(clips / "short.mp4", moving_disc(num_frames).frames, codec="libx264", gop=12)
    run(clips, tmp_path / "out", FLOW_MATCH, {})
    rows = table(tmp_path / "out", "frames").to_pylist()
    assert [row["flow"] is None for row in rows] == [False] * (num_frames - 1) + [True]
