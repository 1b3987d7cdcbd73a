"""Data sets of MP4: frames go through the decoder child into the cache, exactly and once."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle

import numpy as np
import pytest

from tests.support import datasets as made
from tests.support.clips import write_video
from vis_core.data import frame_cache
from vis_core.data.datasets import open_data_set
from vis_core.data.datasets import problems as kinds
from vis_core.data.frame_cache import FrameCache
from vis_core.data.synth import SynthConfig
from vis_core.data.synth.write import write_data_set
from vis_core.errors import ReelmaskError, SourceError, StorageFullError, UsageError
from vis_core.masks import rle
from vis_core.video.limits import Limits
from vis_core.video.reader import ReadRequest, VideoReader
from vis_core.video.sources import expand_inputs


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(frame_cache.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "frames"


@pytest.fixture
def decodings(monkeypatch):
    """Videos that were decoded, in order."""
    found = []
    decode = FrameCache._decode

    def noted(self, source, kept):
        found.append(source.video_id)
        decode(self, source, kept)

    monkeypatch.setattr(FrameCache, "_decode", noted)
    return found


def noise(folder, num_frames=30, size=(48, 64), name="noise.mp4"):
    """A video of which no two frames are alike."""
    frames = np.random.default_rng(3).integers(0, 256, (num_frames, *size, 3), np.uint8)
    write_video(folder / name, frames, codec="libx264", gop=12)
    return folder / name


def decoded(path):
    (source,) = expand_inputs([str(path)], {})
    with VideoReader(Limits()) as reader:
        video = reader.probe(source)
        request = ReadRequest(video=video, start=0, stop=video.num_frames, batch_size=7)
        return np.concatenate([batch.frames for batch in reader.read(request)])


def test_frame_i_of_the_cache_is_frame_i_of_the_video(tmp_path, decodings):
    path = noise(tmp_path)
    expected = decoded(path)
    frames = FrameCache().frames(path)
    assert np.array_equal(frames, expected) and len(np.unique(expected, axis=0)) == 30
    assert isinstance(frames, np.memmap) and not frames.flags.writeable
    assert np.array_equal(FrameCache().frames(path), expected)
    assert decodings == [str(path)], "decoded once"


def test_other_content_and_other_sizes_are_other_files(tmp_path, cache, decodings):
    path = noise(tmp_path)
    FrameCache().frames(path)
    assert FrameCache(24).frames(path).shape == (30, 24, 32, 3)
    assert FrameCache(480).frames(path).shape == (30, 48, 64, 3), "never made larger"
    noise(tmp_path, num_frames=12)
    os.utime(path, ns=(0, 12345))
    assert len(FrameCache().frames(path)) == 12
    assert len(decodings) == len(list(cache.iterdir())) == 4


def test_smaller_frames_are_means_over_areas(tmp_path):
    path = noise(tmp_path)
    blocks = decoded(path).reshape(30, 24, 2, 32, 2, 3).astype(float).mean(axis=(2, 4))
    assert np.abs(FrameCache(24).frames(path) - blocks).max() <= 0.5


class Counting(FrameCache):
    decodings = 0

    def _decode(self, source, kept):
        self.decodings += 1
        super()._decode(source, kept)


def frames_of(path):
    frames = Counting()
    return int(np.asarray(frames.frames(path)).astype(int).sum()), frames.decodings


def test_several_processes_decode_once(tmp_path, cache):
    path = noise(tmp_path, num_frames=60)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(frames_of, [path] * 4, chunksize=1)
    assert len({total for total, _ in found}) == 1
    assert sum(decodings for _, decodings in found) == 1
    assert [file.suffix for file in cache.iterdir()] == [".npy"]


def test_a_decoding_that_was_killed_leaves_nothing_behind(tmp_path, cache, decodings):
    path = noise(tmp_path)
    FrameCache().frames(path)
    (kept,) = cache.iterdir()
    kept.with_suffix(".part").write_bytes(b"x" * 10_000_000)
    kept.unlink()
    assert np.array_equal(FrameCache().frames(path), decoded(path))
    assert [file.name for file in cache.iterdir()] == [kept.name]
    assert kept.stat().st_size == 128 + 30 * 48 * 64 * 3


def test_a_full_disk_is_clear(tmp_path, cache, monkeypatch):
    path = noise(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(frame_cache, "_write_header", full)
        with pytest.raises(StorageFullError, match=r"REELMASK_CACHE.*cache_short_side_px"):
            FrameCache().frames(path)
    assert list(cache.iterdir()) == []
    monkeypatch.setenv(frame_cache.CACHE_VARIABLE, str(path))
    with pytest.raises(ReelmaskError, match="choose another folder with REELMASK_CACHE"):
        FrameCache().frames(path)


def test_videos_that_cannot_be_decoded(tmp_path, cache):
    path = tmp_path / "text.mp4"
    path.write_text("not a video")
    with pytest.raises(SourceError, match=r"text\.mp4"):
        FrameCache().frames(path)
    with pytest.raises(SourceError, match="does not exist"):
        FrameCache().frames(tmp_path / "nothing.mp4")
    cut = noise(tmp_path, name="cut.mp4")
    data = cut.read_bytes()
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3
    cut.write_bytes(data[:middle] + bytes(20_000) + data[middle + 20_000 :])
    with pytest.raises(SourceError, match=r"cannot be decoded|file is damaged"):
        FrameCache().frames(cut)
    assert list(cache.iterdir()) == []


def test_few_maps_are_open(tmp_path, monkeypatch):
    monkeypatch.setattr(frame_cache, "_MAX_OPEN", 2)
    paths = [noise(tmp_path, 3, (16, 16), f"{i}.mp4") for i in range(4)]
    frames = FrameCache()
    for path in [*paths, paths[0]]:
        frames.frames(path)
    assert list(frames._open) == [paths[3], paths[0]]
    assert not pickle.loads(pickle.dumps(frames))._open  # noqa: S301 - our own


# --- layouts --------------------------------------------------------------------------------------


def opened(root, layout, **settings):
    return open_data_set({"layout": layout, "path": str(root), **settings})


def dense(data, video):
    tracks = data.truth(video).tracks
    header = data.videos[video].header
    found = np.zeros((len(tracks), header.num_frames, *header.size), bool)
    found[tracks.owner, tracks.frame_index] = rle.decode(tracks.masks, header.size)
    return found


def is_close(frame, expected):
    return np.abs(frame.astype(int) - expected).max() <= 8


def test_synthetic_clips_have_seeds(tmp_path, decodings):
    config = SynthConfig(height=96, width=128, num_frames=36)
    write_data_set(config, tmp_path / "made", seed=11, num_videos=2)
    data = opened(tmp_path / "made", "synth", strict=True, cache_short_side_px=48)
    assert [video.seed for video in data.videos] == [11, 12]
    assert [video.header.video_id for video in data.videos] == ["clip_0000", "clip_0001"]
    assert decodings == [], "nothing is decoded before it is asked for"
    assert data.frame(1, 3).shape == (48, 64, 3)
    copy = pickle.loads(pickle.dumps(data))  # noqa: S301 - our own
    assert np.array_equal(copy.frame(1, 3), data.frame(1, 3))
    assert len(decodings) == 1
    assert len(data.truth(0).tracks) > 0 and len(data.categories) > 1


def test_sav_is_annotated_every_fourth_frame(tmp_path):
    clips = made.make_clips(2, num_frames=9)
    made.write_sav(tmp_path, clips)
    data = opened(tmp_path, "sav", strict=True)
    for place, clip in enumerate(clips):
        video = data.videos[place]
        assert video.annotated.tolist() == [0, 4, 8] and video.header.num_frames == 9
        assert np.array_equal(dense(data, place)[:, ::4], clip.masks[:, ::4])
        assert all(is_close(data.frame(place, i), clip.frames[i]) for i in range(9))


def test_sav_manual_before_auto(tmp_path):
    clips = made.make_clips(2)
    made.write_sav(tmp_path, clips)
    folder = tmp_path / "sav_train" / "sav_000"
    (folder / "clip1_manual.json").rename(folder / "clip1_auto.json")
    document = made.sav_document(clips[0])
    document["masklet"] = [row[:1] for row in document["masklet"]]
    document["masklet_id"] = [0]
    made.save_json(folder / "clip0_auto.json", document)
    counts = {kind: [] for kind in (None, "manual", "auto")}
    for kind, found in counts.items():
        data = opened(tmp_path, "sav", annotations=kind)
        found += [len(data.truth(i).tracks) for i in range(len(data.videos))]
    assert counts == {None: [2, 2], "manual": [2], "auto": [1, 2]}


def test_sav_problems(tmp_path):
    clips = made.make_clips(5, num_frames=9)
    made.write_sav(tmp_path, clips)
    folder = tmp_path / "sav_train" / "sav_000"
    (folder / "clip0.mp4").unlink()
    (folder / "clip1_manual.json").write_text("[]")
    made.save_json(folder / "clip2_manual.json", made.sav_document(clips[3]))
    short = made.sav_document(clips[3])
    del short["masklet"][-1]
    made.save_json(folder / "clip3_manual.json", short)
    document = made.sav_document(clips[4])
    made.save_json(folder / "clip4_manual.json", {key: document[key] for key in reversed(document)})
    data = opened(tmp_path, "sav")
    assert data.problems.counts == {
        kinds.MISSING_VIDEOS: 1,
        kinds.UNREADABLE_TRUTH: 1,
        kinds.OTHER_IDS: 1,
    }
    assert [video.header.video_id for video in data.videos] == ["clip3", "clip4"]
    with pytest.raises(SourceError, match="expected masks of 3 frames, every fourth of 9, got 2"):
        data.truth(0)
    assert len(data.truth(1).tracks) == 2, "fields may come in any order"
    with pytest.raises(UsageError, match="1 videos without any frame"):
        opened(tmp_path, "sav", strict=True)


def test_real_masklets(shared, tmp_path):
    """Headers come from the beginning of a real file; no video is needed for its masks."""
    for kind in ("manual", "auto"):
        path = shared / "media" / f"sav_000001_{kind}.json"
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "sav_000001.mp4").touch()
    data = opened(tmp_path, "sav", strict=True)
    header = data.videos[0].header
    assert (header.video_id, header.size, header.num_frames) == ("sav_000001", (848, 480), 483)
    assert data.videos[0].annotated[-1] == 480
    assert len(data.truth(0).tracks) == 5
    assert len(opened(tmp_path, "sav", annotations="auto").truth(0).tracks) == 9


def test_sparse_uvo_reads_the_frames_that_names_number(tmp_path):
    clips = made.make_clips()
    made.write_uvo_movies(tmp_path, clips, step=3)
    data = opened(tmp_path, "uvo", strict=True)
    assert data.videos[1].header.num_frames == 5
    assert np.array_equal(dense(data, 1), clips[1].masks)
    assert all(is_close(data.frame(1, i), clips[1].frames[i]) for i in range(5))


def test_a_movie_that_does_not_fit_its_truth(tmp_path):
    clips = made.make_clips(3)
    made.write_uvo_movies(tmp_path, clips, step=1)
    folder = tmp_path / "uvo_videos_sparse"
    (folder / "clip0.mp4").unlink()
    write_video(folder / "clip1.mp4", clips[1].frames[:3], codec="libx264", gop=4)
    turned = np.ascontiguousarray(clips[2].frames.transpose(0, 2, 1, 3))
    write_video(folder / "clip2.mp4", turned, codec="libx264", gop=4)
    data = opened(tmp_path, "uvo")
    assert data.problems.counts == {kinds.MISSING_VIDEOS: 1}
    with pytest.raises(SourceError, match=r"expected more than 4 frames, .* got 3"):
        data.frame(0, 4)
    with pytest.raises(SourceError, match="expected 24 x 32 pixels"):
        data.frame(1, 0)


def test_the_name_of_a_movie_stays_in_its_folder(tmp_path):
    clips = made.make_clips()
    made.write_uvo_movies(tmp_path / "set", clips, step=1)
    path = tmp_path / "set" / "VideoSparseSet" / "UVO_video_train_sparse.json"
    document = made.ytvis_document(clips, "{}.png")
    document["videos"][0]["video_id"] = "../../secret"
    made.save_json(path, document)
    write_video(tmp_path / "secret.mp4", clips[0].frames, codec="libx264", gop=4)
    data = opened(tmp_path / "set", "uvo")
    assert data.problems.counts == {kinds.UNSAFE_NAMES: 1}
    assert [video.header.video_id for video in data.videos] == ["clip1"]
