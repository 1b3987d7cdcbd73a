"""Which frames a run looks at."""

from __future__ import annotations

import numpy as np
import pytest

from vis_core.types import VideoInfo
from vis_core.video.sampling import Sampling, sampled_frames


def video(num_frames=10, pts=None, time_base=(1, 25)):
    return VideoInfo(
        video_id="v",
        uri="file:///v",
        version="1",
        bytes=1,
        height=2,
        width=2,
        num_frames=num_frames,
        fps=25.0,
        duration_seconds=num_frames / 25,
        codec="h264",
        time_base=time_base,
        pts=None if pts is None else np.array(pts, np.int64),
    )


def by_definition(info, fps):
    """The docstring, word by word."""
    seconds = info.seconds_of(np.arange(info.num_frames))
    taken, k = [], 0
    while True:
        later = np.flatnonzero(seconds >= seconds[0] + k / fps - 1e-6)
        if not len(later):
            return taken
        if not taken or later[0] > taken[-1]:
            taken.append(int(later[0]))
        k += 1


def test_all_frames_without_settings():
    assert sampled_frames(video(4), Sampling()).tolist() == [0, 1, 2, 3]


def test_every_third():
    frames = sampled_frames(video(8), Sampling(every=3))
    assert frames.tolist() == [0, 3, 6]
    assert frames.dtype == np.int32


@pytest.mark.parametrize("fps", [0.5, 1, 5, 12.5, 24, 25, 29.97, 30, 1000])
def test_fps_is_what_the_definition_says(fps):
    info = video(200)
    assert sampled_frames(info, Sampling(fps=fps)).tolist() == by_definition(info, fps)


@pytest.mark.parametrize("fps", [1, 3, 7, 10])
def test_fps_follows_time_stamps_not_counts(fps):
    rng = np.random.default_rng(0)
    pts = np.cumsum(rng.integers(1, 40, 300)) + 5000
    info = video(300, pts=pts, time_base=(1, 90))
    assert sampled_frames(info, Sampling(fps=fps)).tolist() == by_definition(info, fps)


def test_rounded_time_stamps_meet_their_deadline():
    """At 30 fps a container in milliseconds shows frame 1 at 0.033 s, before 1/30 s."""
    pts = [round(i * 1000 / 30) for i in range(31)]
    assert 30 in sampled_frames(video(31, pts=pts, time_base=(1, 1000)), Sampling(fps=1))


def test_a_gap_in_time_is_one_frame_not_many():
    info = video(4, pts=[0, 1, 1000, 1001])
    assert sampled_frames(info, Sampling(fps=25)).tolist() == [0, 1, 2, 3]
    assert sampled_frames(info, Sampling(fps=1)).tolist() == [0, 2]


def test_an_empty_video_has_no_frames():
    assert len(sampled_frames(video(0), Sampling(fps=2))) == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"every": 0},
        {"every": -1},
        {"every": 1.5},
        {"every": True},
        {"fps": 0},
        {"fps": -2.0},
        {"fps": float("nan")},
        {"fps": float("inf")},
        {"every": 2, "fps": 5},
    ],
)
def test_bad_settings_say_what_was_expected(settings):
    with pytest.raises(ValueError, match=r"every|fps"):
        Sampling(**settings)
