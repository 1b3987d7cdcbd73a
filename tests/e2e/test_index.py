"""The index stage on real files: what is probed, what is kept, what becomes a failure."""

import contextlib
import os
import shutil
import subprocess
import threading

import imageio_ffmpeg
import pyarrow as pa
import pytest
from PIL import Image

from vis_core import schema
from vis_core.errors import SourceError, UsageError
from vis_core.stages.index import index_videos
from vis_core.video.images import probe_images
from vis_core.video.limits import Limits
from vis_core.video.probe import probe_source
from vis_core.video.sources import failed_video

LIMITS = Limits()


class Prober:
    """Probes in this process, and notes what was asked and by whom."""

    def __init__(self, probe=None):
        self.asked = []
        self.opened = self.closed = 0
        self.threads = set()
        self._probe = probe or self._real

    @staticmethod
    def _real(source):
        probe = probe_images if source.kind == "images" else probe_source
        return probe(source, LIMITS)

    @contextlib.contextmanager
    def __call__(self):
        self.opened += 1
        try:
            yield self._ask
        finally:
            self.closed += 1

    def _ask(self, source):
        self.asked.append(source.video_id)
        self.threads.add(threading.get_ident())
        return self._probe(source)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Ten frames of H.264."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    source = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=10:d=1", "-c:v", "libx264"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *source, str(path)]
    subprocess.run(command, check=True, timeout=600)
    return path


@pytest.fixture
def archive(tmp_path, clip):
    """Two good videos, a folder of frames, and one empty file."""
    root = tmp_path / "in"
    (root / "deep").mkdir(parents=True)
    (root / "frames").mkdir()
    shutil.copy(clip, root / "b.mp4")
    shutil.copy(clip, root / "deep/a.mp4")
    (root / "bad.mp4").write_bytes(b"")
    for number in range(3):
        Image.new("RGB", (8, 6)).save(root / f"frames/{number}.png")
    return root


def index(root, known=None, prober=None, **options):
    return index_videos([str(root)], known, make_probe=prober or Prober(), **options)


def rows(table, *columns):
    return list(zip(*(table[name].to_pylist() for name in ("video_id", *columns)), strict=True))


def test_every_video_has_a_row_in_order_of_id(archive):
    """Also the one that cannot be read, with the reason."""
    table = index(archive)
    assert table.schema.equals(schema.VIDEOS)
    assert rows(table, "status", "num_frames", "width") == [
        ("b", "ok", 10, 64),
        ("bad", "failed", 0, 0),
        ("deep/a", "ok", 10, 64),
        ("frames", "ok", 3, 8),
    ]
    assert "the file is empty" in table["error"][1].as_py()


def test_copies_are_different_videos_of_one_version(archive):
    """Byte-identical files stand under their own ids."""
    table = index(archive)
    versions = dict(rows(table, "version"))
    assert versions["b"] == versions["deep/a"] != ""


def test_what_did_not_change_is_not_probed_again(archive):
    """Except failures, whose reason may have been the machine."""
    first = index(archive)
    again = Prober()
    assert index(archive, first, again).equals(first)
    assert again.asked == ["bad"]
    (archive / "bad.mp4").unlink()
    third = Prober()
    assert rows(index(archive, first, third)) == [("b",), ("deep/a",), ("frames",)]
    assert third.opened == 0


def test_touching_a_file_probes_it_and_changes_no_version(archive):
    """The time is a hint that saves reading, nothing more."""
    first = index(archive)
    os.utime(archive / "b.mp4", ns=(1, 1))
    prober = Prober()
    second = index(archive, first, prober)
    assert sorted(prober.asked) == ["b", "bad"]
    assert second["version"].equals(first["version"])
    assert second["mtime_ns"][0].as_py() == 1


def test_a_corrected_row_is_kept(archive):
    """What decoding found out about a video outlives the next index."""
    first = index(archive)
    status = pa.array(["partial", *first["status"].to_pylist()[1:]])
    corrected = first.set_column(first.schema.get_field_index("status"), "status", status)
    assert rows(index(archive, corrected), "status")[0] == ("b", "partial")


def test_added_changed_and_removed_files(archive, clip):
    """Only what is new is probed; ids stay; rows of what is gone go."""
    first = index(archive)
    shutil.copy(clip, archive / "b.avi")  # sorts before b.mp4, whose id it would have had
    (archive / "bad.mp4").unlink()
    prober = Prober()
    second = index(archive, first, prober)
    assert rows(second) == [("b",), ("b.avi",), ("deep/a",), ("frames",)]
    assert prober.asked == ["b.avi"]
    assert second["uri"][0].as_py().endswith("b.mp4")


def test_limit_takes_the_first_in_order_of_id(archive):
    """And probes no others."""
    prober = Prober()
    assert rows(index(archive, None, prober, limit=2)) == [("b",), ("bad",)]
    assert sorted(prober.asked) == ["b", "bad"]


def test_any_error_of_a_probe_is_a_row(archive):
    """One bad video never ends an index."""

    def broken(source):
        if source.video_id == "b":
            raise ZeroDivisionError("in a parser")
        raise SourceError("no good")

    errors = dict(rows(index(archive, None, Prober(broken)), "error"))
    assert errors == {
        "b": "ZeroDivisionError: in a parser",
        "bad": "no good",
        "deep/a": "no good",
        "frames": "no good",
    }


def test_each_worker_owns_a_probe_and_closes_it(archive):
    """A probe may be a child process that answers one question at a time."""
    gate = threading.Barrier(3, timeout=120)
    waited = set()

    def wait_for_the_others(source):
        if threading.get_ident() not in waited:  # each thread once: all three are at work
            waited.add(threading.get_ident())
            gate.wait()
        return failed_video(source, "")

    prober = Prober(wait_for_the_others)
    index(archive, None, prober, workers=3)
    assert len(prober.threads) == prober.opened == prober.closed == 3


def test_no_more_workers_than_videos(archive):
    """A child that has nothing to do is not started."""
    prober = Prober()
    index(archive / "deep", None, prober, workers=8)
    assert prober.opened == 1


def test_a_probe_that_cannot_be_made_is_an_error(archive):
    """That is the machine's fault, so no video fails for it."""

    def no_child():
        raise OSError("no more processes")

    with pytest.raises(OSError, match="no more processes"):
        index_videos([str(archive)], None, make_probe=no_child)


def test_progress_counts_what_is_probed(archive):
    """To the number of videos that are not known yet."""
    seen = []
    index(archive, workers=2, progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_no_input_is_no_empty_table(tmp_path):
    """An archive that is not mounted must not look like one that was emptied."""
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match="no video found"):
        index(tmp_path / "in")
