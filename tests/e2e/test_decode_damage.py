"""Damaged files: never a crash or a hang, and the same frames and holes wherever shards are cut."""

from __future__ import annotations

import itertools
import random

import pytest

from tests.e2e.test_decode_exact import decode
from tests.support import encode
from vis_core.errors import SourceError
from vis_core.video.reader import Limits, ReadRequest, VideoReader

NAMES = ["closed.mp4", "open_gop.mkv", "stream.ts", "hevc.mp4", "vp9.webm", "mpeg4.avi"]
NAMES += ["intra_refresh.mp4", "av1.mkv", "vp8.webm", "mpeg2.mpg", "mjpeg.mov", "raw.h264"]
COPIES = 17  # of each clip: 204 files
COMPARED = 4


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage")
    return {name: encode.make_clip(folder / name, encode.CLIPS[name]) for name in NAMES}


@pytest.fixture(scope="module")
def reader():
    with VideoReader(Limits(timeout_seconds=20, max_memory_bytes=1 << 30)) as reader:
        yield reader


def mutants(path, folder, count):
    rng = random.Random(path.name)
    data = path.read_bytes()
    for number in range(count):
        copy = folder / f"{number}{path.suffix}"
        copy.write_bytes(encode.damaged(data, rng))
        yield copy


def missing_of(decoder):
    return {
        (index, hole.reason) for hole in decoder.holes for index in range(hole.start, hole.stop)
    }


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_neither_crash_nor_hang(originals, reader, tmp_path, name):
    """Every core frame is delivered or in a hole, and one child survives all files."""
    for path in mutants(originals[name], tmp_path, COPIES):
        info = reader.probe(encode.source_of(path))
        pid = reader.child_pid
        if info.status == "failed":
            assert info.error
            continue
        stream = reader.read(ReadRequest(video=info, start=0, stop=info.num_frames))
        num_frames = sum(len(batch) for batch in stream)
        num_missing = sum(hole.stop - hole.start for hole in stream.holes)
        expected = info.num_frames
        if stream.num_frames_found is not None:
            expected = min(expected, stream.num_frames_found)
        assert num_frames + num_missing == expected
        assert num_frames == len(stream.delivered)
        assert reader.child_pid == pid


@pytest.mark.parametrize("name", [name for name in NAMES if name != "raw.h264"])
def test_damage_looks_the_same_from_every_shard(originals, tmp_path, name):
    for path in mutants(originals[name], tmp_path, COMPARED):
        try:
            video = encode.probe(path)
        except SourceError:
            continue
        frames, decoder = decode(video)
        parts, missing, cuts = [], set(), []
        for start in range(0, video.num_frames, 11):
            part, shard = decode(video, start, min(start + 11, video.num_frames))
            parts += part
            missing |= missing_of(shard)
            cuts += shard.cuts.tolist()
        if video.sequential:
            continue
        assert parts == frames
        assert missing == missing_of(decoder)
        assert cuts == decoder.cuts.tolist()


def test_damage_in_the_middle_is_a_hole_and_not_the_end(originals, tmp_path):
    """4 kB of noise cost a few frames; what comes after is exactly what it was."""
    whole = decode(encode.probe(originals["stream.ts"]))[0]
    data = bytearray(originals["stream.ts"].read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4096] = random.Random(0).randbytes(4096)
    path = tmp_path / "noise.ts"
    path.write_bytes(data)
    frames, _ = decode(encode.probe(path))
    assert [value for _, value in frames[-10:]] == [value for _, value in whole[-10:]]
    assert [value for _, value in frames[:20]] == [value for _, value in whole[:20]]
    assert len(frames) < 60


def test_halo_reaches_back_past_damaged_frames(originals, tmp_path):
    """The three frames before the core that can be decoded, however far back they are."""
    rng = random.Random(1)
    for _ in range(40):
        path = tmp_path / "damaged.mp4"
        path.write_bytes(encode.damaged(originals["closed.mp4"].read_bytes(), rng))
        try:
            video = encode.probe(path)
        except SourceError:
            continue
        alive = [index for index, _ in decode(video)[0]]
        start = next((b for a, b in itertools.pairwise(alive) if b - a > 3), None)
        if start is None or start < 6:
            continue
        frames, _ = decode(video, start, start + 1, halo_before=3)
        place = alive.index(start)
        assert [index for index, _ in frames] == alive[max(0, place - 3) : place + 1]
        return
    pytest.fail("no copy had a hole in its middle")
