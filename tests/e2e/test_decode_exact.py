"""Frames are FFmpeg's frames, wherever shards are cut."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest

from tests.support import encode
from vis_core.types import FrameBatch
from vis_core.video.decode import RangeDecoder
from vis_core.video.images import probe_images
from vis_core.video.limits import Limits
from vis_core.video.sampling import Sampling
from vis_core.video.sources import Source
from vis_core.video.wire import ReadRequest

# Their time stamps name no frames: one shard, counted.
SEQUENTIAL = {"mpeg4_bframes.avi", "raw.h264"}
MEDIA = [
    *("bedroom_540p.mp4", "cups_720p.mp4", "juggle_720p.mp4"),
    *("edge/av1_video.mkv", "edge/bt709_full_range.mp4", "edge/h264_10bits.mp4"),
    *("edge/h265_10bits.mp4", "edge/h265_video.mp4", "edge/nasa_13013.mp4"),
]


def digest(pixels):
    return hashlib.md5(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def decode(video, start=0, stop=None, **settings):
    """(frame_index, digest) pairs in order of delivery, and the decoder with the rest."""
    stop = video.num_frames if stop is None else stop
    decoder = RangeDecoder(ReadRequest(video=video, start=start, stop=stop, **settings), Limits())
    return [(frame.frame_index, digest(frame.pixels)) for frame in decoder], decoder


def in_shards(video, borders):
    pairs = []
    for start, stop in itertools.pairwise(borders):
        frames, decoder = decode(video, start, stop)
        assert decoder.delivered.tolist() == [index for index, _ in frames]
        pairs += frames
    return pairs


@pytest.fixture(scope="session")
def odd_clips(tmp_path_factory):
    """Each clip is encoded when a test first asks for it."""
    folder, made = tmp_path_factory.mktemp("odd"), {}

    def get(name):
        if name not in made:
            made[name] = encode.make_clip(folder / name, encode.CLIPS[name])
        return made[name]

    return get


def check_exact(path, shard_sizes):
    video, truth = encode.probe(path), encode.ffmpeg_hashes(path)
    frames, decoder = decode(video)
    assert frames == list(enumerate(truth))
    assert decoder.holes == []
    for size in shard_sizes:
        borders = [*range(0, video.num_frames, size), video.num_frames]
        assert in_shards(video, borders) == frames, f"shards of {size} frames"
    keys = sorted({*video.key_frames.tolist(), 0, video.num_frames})
    assert in_shards(video, keys) == frames, "shards at key frames"


@pytest.mark.parametrize("name", MEDIA)
def test_real_media_equal_ffmpeg(shared, name):
    size = 7 if name.startswith("edge/") else 97
    check_exact(shared / "media" / name, [size])


@pytest.mark.parametrize("name", [name for name in encode.CLIPS if name not in SEQUENTIAL])
def test_odd_encodings_equal_ffmpeg(odd_clips, name):
    check_exact(odd_clips(name), [7, 13])


@pytest.mark.parametrize("name", sorted(SEQUENTIAL))
def test_videos_without_usable_time_stamps_are_counted(odd_clips, name):
    path = odd_clips(name)
    video = encode.probe(path)
    assert video.sequential
    frames, decoder = decode(video)
    assert frames == list(enumerate(encode.ffmpeg_hashes(path)))
    assert decoder.num_frames_found == len(frames)
    assert decode(video, 20, 30)[0] == frames[20:30]


def test_intra_refresh_has_key_frames_that_are_no_starts(odd_clips):
    """The clip is only a test if the container calls such frames key."""
    assert len(encode.probe(odd_clips("intra_refresh.mp4")).key_frames) > 2


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotated_video_is_upright(odd_clips, tmp_path, degrees):
    path = tmp_path / "turned.mp4"
    encode.ffmpeg("-display_rotation", degrees, "-i", odd_clips("closed.mp4"), "-c", "copy", path)
    video = encode.probe(path)
    assert (video.height, video.width) == ((160, 90) if degrees != 180 else (90, 160))
    assert [value for _, value in decode(video)[0]] == encode.ffmpeg_hashes(path)


def test_anamorphic_video_gets_square_pixels(tmp_path):
    path = encode.make_clip(tmp_path / "sar.mp4", (*encode.X264, "-vf", "scale=160:90,setsar=4/3"))
    video = encode.probe(path)
    assert (video.height, video.width) == (90, 213)
    scaled = encode.ffmpeg_hashes(path, "scale=213:90:flags=bicubic")
    assert [value for _, value in decode(video)[0]] == scaled


def test_a_stream_that_changes_its_size_is_scaled_to_the_declared_one(tmp_path):
    parts = []
    for width, height in ((160, 90), (320, 180)):
        part = tmp_path / f"{width}.ts"
        parts.append(encode.make_clip(part, (*encode.X264, "-vf", f"scale={width}:{height}")))
    path = tmp_path / "both.ts"
    encode.ffmpeg("-i", f"concat:{parts[0]}|{parts[1]}", "-c", "copy", path)
    video = encode.probe(path)
    frames = RangeDecoder(ReadRequest(video=video, start=0, stop=video.num_frames), Limits())
    shapes = [frame.pixels.shape for frame in frames]
    assert len(shapes) == 120
    assert set(shapes) == {(90, 160, 3)}


def test_halos_and_pinned_frame_come_in_order(odd_clips):
    video = encode.probe(odd_clips("open_gop.mp4"))
    everything = dict(decode(video)[0])
    frames, decoder = decode(video, 30, 33, halo_before=3, halo_after=2, pin_first=True)
    assert [index for index, _ in frames] == [0, 27, 28, 29, 30, 31, 32, 33, 34]
    assert all(everything[index] == value for index, value in frames)
    assert decoder.delivered.tolist() == [30, 31, 32]


def test_the_pinned_frame_comes_once(odd_clips):
    video = encode.probe(odd_clips("closed.mp4"))
    for start, expected in ((0, [0, 1, 2]), (2, [0, 1, 2]), (3, [0, 1, 2, 3])):
        frames, _ = decode(video, start, start + (1 if start else 3), halo_before=2, pin_first=True)
        assert [index for index, _ in frames] == expected


def test_halos_count_sampled_frames(odd_clips):
    video = encode.probe(odd_clips("closed.mp4"))
    frames, decoder = decode(
        video, 21, 40, sampling=Sampling(every=10), halo_before=2, halo_after=1
    )
    assert [index for index, _ in frames] == [10, 20, 30, 40]
    assert decoder.delivered.tolist() == [30]
    assert decode(video, 31, 40, sampling=Sampling(every=10))[0] == []


@pytest.mark.parametrize("size", [1, 7, 39, 40, 41, 80])
def test_cuts_do_not_depend_on_shards(tmp_path, size):
    video = encode.probe(encode.make_two_shots(tmp_path / "shots.mp4"))
    cuts = []
    for start in range(0, video.num_frames, size):
        cuts += decode(video, start, min(start + size, video.num_frames))[1].cuts.tolist()
    assert cuts == [39]


def picture_folder(tmp_path, odd_clips, *, damaged=()):
    encode.ffmpeg("-i", odd_clips("closed.mp4"), "-frames:v", "12", tmp_path / "f%d.png")
    for number in damaged:
        (tmp_path / f"f{number}.png").write_bytes(b"not a picture")
    source = Source(video_id="pictures", uri=tmp_path.as_uri(), kind="images", bytes=0, mtime_ns=0)
    return probe_images(source, Limits())


def test_a_folder_of_pictures_is_a_video(tmp_path, odd_clips):
    video = picture_folder(tmp_path, odd_clips)
    frames, decoder = decode(video, 5, 12, halo_before=1)
    truth = encode.ffmpeg_hashes(odd_clips("closed.mp4"))
    assert frames == [(index, truth[index]) for index in range(4, 12)]
    assert decoder.holes == []


def test_a_damaged_picture_is_a_hole_and_the_halo_reaches_past_it(tmp_path, odd_clips):
    video = picture_folder(tmp_path, odd_clips, damaged=(5, 6))  # frame_index 4 and 5
    frames, decoder = decode(video, 6, 8, halo_before=2)
    assert [index for index, _ in frames] == [2, 3, 6, 7]
    assert decoder.holes == []
    holes = decode(video, 0, 12)[1].holes
    assert {index for hole in holes for index in range(hole.start, hole.stop)} == {4, 5}


def test_batches_refuse_wrong_shapes():
    """What the reader hands out is checked where it is made."""
    with pytest.raises(ValueError, match="uint8"):
        FrameBatch(
            video_id="v",
            frame_index=np.zeros(1, np.int32),
            pts_seconds=np.zeros(1),
            frames=np.zeros((1, 2, 2), np.uint8),
            rank=np.zeros(1, np.int32),
        )
