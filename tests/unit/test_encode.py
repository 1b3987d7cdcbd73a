"""Writing H.264: what goes in comes out, the same bytes every time, and nothing half-written."""

from __future__ import annotations

import av
import numpy as np
import pytest

from vis_core.errors import ReelmaskError
from vis_core.video.encode import open_video
from vis_core.video.limits import Limits
from vis_core.video.probe import probe_source
from vis_core.video.rgb import RgbConverter
from vis_core.video.sources import expand_inputs


def pictures(count, height=96, width=128, seed=0):
    """Smooth colours with a bright square that moves."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 256, (2, 2, 3)).astype(float)
    y, x = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    top, bottom = corners[0, 0] * (1 - x) + corners[0, 1] * x, corners[1, 0] * (1 - x)
    base = (top * (1 - y) + (bottom + corners[1, 1] * x) * y).astype(np.uint8)
    frames = np.stack([base] * count)
    for index, frame in enumerate(frames):
        frame[20:40, 4 * index : 4 * index + 20] = (250, 240, 40)
    return frames


def write(path, frames, **settings):
    height, width = frames.shape[1:3]
    with open_video(path, height=height, width=width, **{"fps": 12, **settings}) as video:
        for frame in frames:
            video.write(frame)
    return path


def decoded(path):
    """As this project decodes: by the file's own matrix and range."""
    (source,) = expand_inputs([str(path)], {})
    convert = RgbConverter(probe_source(source, Limits()))
    with av.open(str(path)) as container:
        return np.stack([convert(frame).copy() for frame in container.decode(video=0)])


def test_pictures_come_back_in_order_and_in_their_colours(tmp_path):
    frames = pictures(14)
    found = decoded(write(tmp_path / "a.mp4", frames, crf=12))
    assert found.shape == frames.shape
    errors = [[np.abs(a.astype(int) - b).mean() for b in frames] for a in found]
    assert np.argmin(errors, axis=1).tolist() == list(range(14))
    assert np.diagonal(errors).max() < 3


def test_players_and_browsers_can_use_it(tmp_path):
    """4:2:0 H.264, tagged colours, and the index before the pictures."""
    path = write(tmp_path / "a.mp4", pictures(30), fps=29.97, gop=10)
    data = path.read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt, context.profile) == ("h264", "yuv420p", "High")
        assert (int(context.colorspace), int(context.color_range)) == (6, 1)
        assert float(stream.average_rate) == pytest.approx(29.97, abs=0.01)
        keys = [packet.is_keyframe for packet in container.demux(stream) if packet.size]
        assert len(keys) == 30
        assert sum(keys) >= 3


def test_the_same_pictures_give_the_same_bytes(tmp_path):
    one, other = (write(tmp_path / name, pictures(20)) for name in ("a.mp4", "b.mp4"))
    assert one.read_bytes() == other.read_bytes()


def test_worse_quality_is_smaller(tmp_path):
    noise = np.random.default_rng(1).integers(0, 256, (6, 96, 128, 3), np.uint8)
    sizes = [write(tmp_path / f"{crf}.mp4", noise, crf=crf).stat().st_size for crf in (10, 45)]
    assert sizes[1] < 0.5 * sizes[0]


@pytest.mark.parametrize(("height", "width"), [(95, 128), (96, 127), (95, 127)])
def test_odd_pictures_get_their_last_row_or_column_twice(tmp_path, height, width):
    frames = pictures(5, height, width)
    found = decoded(write(tmp_path / "a.mp4", frames, crf=10))
    assert found.shape[1:3] == (96, 128)
    assert np.abs(found[:, :height, :width].astype(int) - frames).mean() < 3


@pytest.mark.parametrize(
    "frame",
    [np.zeros((96, 126, 3), np.uint8), np.zeros((96, 128, 3)), np.zeros((96, 128), np.uint8)],
)
def test_another_kind_of_picture_is_refused(tmp_path, frame):
    with (
        pytest.raises(ValueError, match=r"frame 1: expected uint8 \(96, 128, 3\), got"),
        open_video(tmp_path / "a.mp4", height=96, width=128, fps=5) as video,
    ):
        video.write(pictures(1)[0])
        video.write(frame)
    assert not list(tmp_path.iterdir())


def test_a_video_appears_whole_or_not_at_all(tmp_path):
    path = write(tmp_path / "a.mp4", pictures(3))
    before = path.read_bytes()
    with (
        pytest.raises(RuntimeError, match="on the way"),
        open_video(path, height=96, width=128, fps=5) as video,
    ):
        video.write(pictures(1)[0])
        raise RuntimeError("on the way")
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["a.mp4"]


def test_no_frames_make_no_video(tmp_path):
    with (
        pytest.raises(ReelmaskError, match="at least one frame"),
        open_video(tmp_path / "a.mp4", height=96, width=128, fps=5),
    ):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"height": 0}, "height and width: expected 2 pixels or more"),
        ({"fps": 0}, "fps: expected a rate above 0"),
        ({"fps": float("nan")}, "fps: expected a rate above 0"),
        ({"crf": 52}, r"crf: expected 0 \(lossless\) to 51"),
        ({"gop": 0}, "gop: expected 1 frame or more"),
    ],
)
def test_settings_are_checked(tmp_path, settings, words):
    values = {"height": 96, "width": 128, "fps": 12, **settings}
    with pytest.raises(ValueError, match=words), open_video(tmp_path / "a.mp4", **values):
        pass
