"""The decoder child: crashes, hangs, limits, prefetch, and no orphans."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.test_decode_exact import decode, digest
from tests.support import encode
from vis_core import failpoints
from vis_core.errors import DecoderDied, SourceChangedError, SourceError
from vis_core.video.reader import Limits, ReadRequest, Sampling, VideoReader

REPO = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("child")
    return encode.make_clip(folder / "clip.mp4", encode.CLIPS["open_gop.mp4"])


@pytest.fixture(scope="module")
def video(path):
    return encode.probe(path, "good")


@pytest.fixture(scope="module")
def bad(path):
    """The same frames under an id that failpoints know."""
    return encode.probe(path, "bad")


def whole(video, **settings):
    return ReadRequest(video=video, start=0, stop=video.num_frames, **settings)


def pairs(stream):
    return [
        (int(index), digest(pixels))
        for batch in stream
        for index, pixels in zip(batch.frame_index, batch.frames, strict=True)
    ]


def test_the_child_gives_what_decoding_in_process_gives(video):
    settings = {"halo_before": 2, "halo_after": 1, "pin_first": True, "sampling": Sampling(every=3)}
    expected, decoder = decode(video, 20, 45, **settings)
    with VideoReader() as reader:
        request = ReadRequest(video=video, start=20, stop=45, batch_size=4, **settings)
        stream = reader.read(request)
        assert pairs(stream) == expected
        assert stream.delivered.tolist() == decoder.delivered.tolist()
        assert stream.decode_seconds > 0
        assert stream.wait_seconds > 0


@pytest.mark.parametrize("batch_size", [1, 7, 8, 60, 100])
def test_batches_are_full_but_the_last(video, batch_size):
    with VideoReader() as reader:
        sizes = [len(batch) for batch in reader.read(whole(video, batch_size=batch_size))]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sum(sizes) == 60


def test_batches_stay_what_they_are_while_decoding_goes_on(shared):
    """Many more frames than the arena holds; a batch must not be a view of it."""
    video = encode.probe(shared / "media" / "bedroom_540p.mp4")
    with VideoReader() as reader:
        batches = list(reader.read(whole(video)))
    got = [digest(pixels) for batch in batches for pixels in batch.frames]
    assert got == [value for _, value in decode(video)[0]]


def test_cuts_are_known_a_few_frames_later_not_only_at_the_end(tmp_path):
    video = encode.probe(encode.make_two_shots(tmp_path / "shots.mp4"))
    with VideoReader() as reader:
        stream, early = reader.read(whole(video)), set()
        for batch in stream:
            assert stream.cuts_known_until > int(batch.frame_index[0]) - 64
            if stream.cuts_known_until <= int(batch.frame_index[-1]):
                early = set(stream.cuts)
        assert early == stream.cuts == {39}


def test_the_next_request_is_decoded_ahead(video):
    with VideoReader() as reader:
        first, second = whole(video), ReadRequest(video=video, start=5, stop=9)
        stream = reader.read(first, then=second)
        number = reader._queued.number
        assert len(pairs(stream)) == 60
        ahead = reader.read(ReadRequest(video=video, start=5, stop=9))
        assert ahead._job.number == number
        assert [index for index, _ in pairs(ahead)] == [5, 6, 7, 8]


def test_another_request_than_the_one_announced_is_served(video):
    with VideoReader() as reader:
        stream = reader.read(whole(video), then=ReadRequest(video=video, start=0, stop=50))
        next(stream)  # and the rest is not wanted any more
        other = reader.read(ReadRequest(video=video, start=30, stop=33))
        assert [index for index, _ in pairs(other)] == [30, 31, 32]
        assert len(pairs(reader.read(whole(video)))) == 60


@pytest.mark.parametrize("action", ["segv@3", "kill@3"])
def test_a_crash_is_blamed_on_its_video_alone(video, bad, monkeypatch, action):
    monkeypatch.setenv(failpoints.VARIABLE, f"decode_frame[bad]={action}")
    with VideoReader() as reader:
        stream = reader.read(whole(bad), then=whole(video))
        with pytest.raises(DecoderDied, match=r"bad.*SIG(SEGV|KILL)"):
            pairs(stream)
        assert len(pairs(reader.read(whole(video)))) == 60


def test_a_crash_while_decoding_ahead_does_not_touch_the_video_before(video, bad, monkeypatch):
    monkeypatch.setenv(failpoints.VARIABLE, "decode_frame[bad]=segv@1")
    with VideoReader() as reader:
        stream = reader.read(whole(video, batch_size=1), then=whole(bad))
        next(stream)
        with contextlib.suppress(psutil.NoSuchProcess):  # the reader may have taken its status
            child = psutil.Process(reader.child_pid)
            while child.status() != psutil.STATUS_ZOMBIE:  # wait() would take it
                time.sleep(0.05)
        assert len(pairs(stream)) == 59
        with pytest.raises(DecoderDied, match="SIGSEGV"):
            pairs(reader.read(whole(bad)))
        assert len(pairs(reader.read(whole(video)))) == 60


def test_a_child_that_dies_between_requests_is_nobodys_fault(video):
    with VideoReader() as reader:
        assert len(pairs(reader.read(whole(video)))) == 60
        os.kill(reader.child_pid, signal.SIGKILL)
        assert len(pairs(reader.read(whole(video)))) == 60


def test_a_hang_ends_at_the_deadline(video, bad, monkeypatch):
    monkeypatch.setenv(failpoints.VARIABLE, "decode_frame[bad]=hang@5")
    with VideoReader(Limits(timeout_seconds=1.5)) as reader:
        with pytest.raises(DecoderDied, match=r"\(decode_timeout_seconds\)"):
            pairs(reader.read(whole(bad)))
        assert len(pairs(reader.read(whole(video)))) == 60


def test_a_slow_consumer_is_no_hang(shared):
    """The child waits for a free slot; that is not its fault."""
    video = encode.probe(shared / "media" / "juggle_720p.mp4")
    with VideoReader(Limits(timeout_seconds=1.0)) as reader:
        stream = reader.read(ReadRequest(video=video, start=0, stop=60))
        next(stream)
        time.sleep(2.5)
        assert sum(len(batch) for batch in stream) == 52


def test_probing_never_raises(path, tmp_path, monkeypatch):
    good = encode.source_of(path)
    missing = encode.source_of(path)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"this is no video" * 100)
    monkeypatch.setenv(failpoints.VARIABLE, "probe[crash]=segv,probe[hang]=hang")
    with VideoReader(Limits(timeout_seconds=1.5)) as reader:
        for source, words in (
            (encode.source_of(broken), ""),
            (type(missing)(video_id="m", uri="file:///no", kind="video", bytes=1, mtime_ns=0), ""),
            (encode.source_of(path, "crash"), "SIGSEGV"),
            (encode.source_of(path, "hang"), "timeout_seconds"),
        ):
            info = reader.probe(source)
            assert (info.status, info.num_frames) == ("failed", 0)
            assert words in info.error
        info = reader.probe(good)
        assert (info.status, info.num_frames) == ("ok", 60)
        assert info.key_frames.tolist() == encode.probe(path).key_frames.tolist()


def test_a_file_that_changed_is_told_from_a_bad_one(path, tmp_path):
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(path.read_bytes())
    video = encode.probe(copy)
    copy.write_bytes(path.read_bytes() + b"more")
    with VideoReader() as reader:
        with pytest.raises(SourceChangedError, match="run the command again"):
            pairs(reader.read(whole(video)))
        copy.unlink()
        with pytest.raises(SourceError, match="does not exist"):
            pairs(reader.read(whole(video)))


def test_storage_that_fails_for_a_moment_is_asked_again(bad, monkeypatch):
    monkeypatch.setenv(failpoints.VARIABLE, "decode_frame[bad]=eio@20")
    with VideoReader() as reader:
        stream = reader.read(whole(bad))
        assert pairs(stream) == decode_unarmed(bad, monkeypatch)
        assert stream.holes == []


def decode_unarmed(video, monkeypatch):
    monkeypatch.delenv(failpoints.VARIABLE)
    return decode(video)[0]


def test_storage_that_keeps_failing_is_an_error_of_the_source(bad, monkeypatch):
    monkeypatch.setenv(failpoints.VARIABLE, "decode_frame[bad]=eio")
    with VideoReader() as reader, pytest.raises(SourceError, match="Input/output"):
        pairs(reader.read(whole(bad)))


def test_memory_is_limited(tmp_path, video):
    """A limit that a 4K decoder cannot keep, and a small clip can."""
    graph = "color=gray:s=3840x2160:r=25:d=0.4"
    encode.ffmpeg("-f", "lavfi", "-i", graph, *encode.X264, tmp_path / "large.mp4")
    large = encode.probe(tmp_path / "large.mp4")
    with VideoReader(Limits(max_memory_bytes=32 << 20)) as reader:
        with pytest.raises(DecoderDied, match="decode_memory_bytes"):
            pairs(reader.read(whole(large)))
        assert len(pairs(reader.read(whole(video)))) == 60


def test_frames_above_the_pixel_limit_are_refused(video):
    limits = Limits(max_frame_pixels=160 * 90 - 1)
    with VideoReader(limits) as reader, pytest.raises(SourceError, match="max_frame_pixels"):
        pairs(reader.read(whole(video)))


def test_the_child_of_a_killed_parent_ends(path):
    """Even one that hangs: nobody is left to stop it."""
    program = (
        "import sys, time\n"
        "from tests.support import encode\n"
        "from vis_core.video.reader import *\n"
        "from pathlib import Path\n"
        f"video = encode.probe(Path({str(path)!r}), 'bad')\n"
        "reader = VideoReader()\n"
        "stream = reader.read(ReadRequest(video=video, start=0, stop=60))\n"
        "print(reader.child_pid, flush=True)\n"
        "next(stream)\n"
    )
    environment = {**os.environ, failpoints.VARIABLE: "decode_frame[bad]=hang@9"}
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPO, stdout=subprocess.PIPE, env=environment
    )
    child = psutil.Process(int(parent.stdout.readline()))
    time.sleep(0.5)
    assert child.is_running()
    parent.kill()
    parent.wait()
    child.wait(timeout=120)
    assert not child.is_running()


def test_closing_the_reader_ends_the_child_and_frees_its_memory(video):
    reader = VideoReader()
    stream = reader.read(whole(video))
    next(stream)
    child = psutil.Process(reader.child_pid)
    num_fds = psutil.Process().num_fds()
    reader.close()
    assert not child.is_running()
    assert psutil.Process().num_fds() < num_fds


def test_a_program_in_the_current_folder_is_not_imported(video, tmp_path, monkeypatch):
    """Archives may hold anything, also a numpy.py."""
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the archive')")
    monkeypatch.chdir(tmp_path)
    with VideoReader() as reader:
        assert len(pairs(reader.read(whole(video)))) == 60


def test_what_was_asked_ahead_of_a_child_that_died_is_asked_again(video, bad, monkeypatch):
    """The request behind the one after a crash was sent to nobody; nobody may be waited for."""
    monkeypatch.setenv(failpoints.VARIABLE, "decode_frame[bad]=segv@1")
    with VideoReader(Limits(timeout_seconds=10.0)) as reader:
        with pytest.raises(DecoderDied):
            pairs(reader.read(whole(bad), then=whole(video)))
        second = whole(video, batch_size=4)
        assert len(pairs(reader.read(whole(video), then=second))) == 60
        child = reader.child_pid
        assert len(pairs(reader.read(second))) == 60
        assert reader.child_pid == child, "the child was taken for silent, and replaced"


def test_what_is_asked_ahead_never_overtakes_what_is_asked_now(video, bad, monkeypatch):
    """After a crash the next request is sent to a new child, before the one that follows it."""
    monkeypatch.setenv(failpoints.VARIABLE, "decode_frame[bad]=segv@1")
    chain = [whole(video, batch_size=size) for size in (1, 2, 3, 4)]
    with VideoReader(Limits(timeout_seconds=10.0)) as reader:
        with pytest.raises(DecoderDied):
            pairs(reader.read(whole(bad), then=chain[0]))
        children = set()
        for request, then in zip(chain, [*chain[1:], None], strict=True):
            stream = reader.read(request, then=then)
            assert len(pairs(stream)) == 60
            children.add(reader.child_pid)
        assert len(children) == 1, "a child was taken for silent, and replaced"
