"""Inputs that cannot be read now, are not what they were, or are no files at all."""

import contextlib
import ctypes
import json
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from jobs import cli
from tests.support.clips import write_clips
from tests.support.results import open_failures, result_digest, run_record, table
from tests.support.web import serving
from vis_core import errors
from vis_core.errors import SourceChangedError
from vis_core.video.limits import Limits
from vis_core.video.reader import ReadRequest, VideoReader
from vis_core.video.sources import expand_inputs

pytestmark = pytest.mark.timeout(60)
ORACLE = ("--system", "oracle", "--set", "truth=formula:1")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    (path,) = write_clips(tmp_path_factory.mktemp("clip"), 1, num_frames=6)
    return path


def run(*words):
    return cli.main([str(word) for word in words])


def label(inputs, out, *more):
    return run("label", inputs, "--out", out, *ORACLE, *more)


def status(out):
    rows = table(out, "videos").select(["video_id", "status"]).to_pylist()
    return {row["video_id"]: row["status"] for row in rows}


def reasons(out):
    return {row["video_id"]: row["message"] for row in open_failures(out)}


def lines(capsys):
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.err.splitlines()


# --- folders that cannot be listed --------------------------------------------------------------


_READ_ANYTHING = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@pytest.fixture
def modes_count():
    """Modes of files hold for this thread even where it is root's."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    mine = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; then their upper halves
    assert libc.capget(header, mine) == 0
    fewer = (ctypes.c_uint32 * 6)(mine[0] & ~_READ_ANYTHING, *mine[1:])
    assert libc.capset(header, fewer) == 0
    yield
    assert libc.capset(header, mine) == 0


@pytest.mark.parametrize("pattern", ["", "/*/*.mp4", "/**/*.mp4"])
def test_what_is_below_a_folder_that_cannot_be_listed_is_kept(
    pattern, clip, tmp_path, modes_count, capsys
):
    """Its videos and tracks stay, a row says what is wrong, and the next run finds all again."""
    inputs, out = tmp_path / "in", tmp_path / "out"
    for name in ("a/one.mp4", "b/two.mp4"):
        (inputs / name).parent.mkdir(parents=True)
        shutil.copyfile(clip, inputs / name)
    assert label(f"{inputs}{pattern}", out) == 0
    whole = result_digest(out)

    (inputs / "b").chmod(0)
    assert label(f"{inputs}{pattern}", out) == errors.EXIT_QUARANTINE
    assert status(out) == {"a/one": "ok", "b/two": "ok", "b": "failed"}
    assert "b: the folder cannot be listed: Permission denied" in reasons(out)["b"]
    assert (result_digest(out), run_record(out)["frames_predicted"]) == (whole, 0)
    assert run("verify", out, "--deep") == 0

    (inputs / "b").chmod(0o700)
    assert label(f"{inputs}{pattern}", out) == 0
    assert status(out) == {"a/one": "ok", "b/two": "ok"}
    assert (result_digest(out), run_record(out)["frames_predicted"]) == (whole, 0)
    lines(capsys)


def test_an_input_that_cannot_be_listed_changes_nothing(clip, tmp_path, modes_count, capsys):
    """It is like one that is not there: a usage error."""
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    shutil.copyfile(clip, inputs / "one.mp4")
    assert label(inputs, out) == 0
    whole = result_digest(out)
    inputs.chmod(0)
    lines(capsys)
    assert label(inputs, out) == errors.EXIT_USAGE
    assert "cannot be listed: Permission denied" in lines(capsys)[-1]
    assert label(f"{inputs}/*.mp4", out) == errors.EXIT_USAGE
    assert result_digest(out) == whole
    inputs.chmod(0o700)


def test_a_listing_of_a_server_that_fails_hides_nothing(clip, tmp_path, capsys):
    """Sub-folders behind a network are kept in the same way."""
    for name in ("a/one.mp4", "b/two.mp4"):
        (tmp_path / "web" / name).parent.mkdir(parents=True)
        shutil.copyfile(clip, tmp_path / "web" / name)
    out = tmp_path / "out"
    with serving(tmp_path / "web") as web:
        assert label(f"{web.url}/*/*.mp4", out) == 0
        whole = result_digest(out)
        web.broken = {"/b", "/b/"}
        assert label(f"{web.url}/*/*.mp4", out) == errors.EXIT_QUARANTINE
        assert status(out) == {"a/one": "ok", "b/two": "ok", "b": "failed"}
        assert "the folder cannot be listed" in reasons(out)["b"]
        assert result_digest(out) == whole
    lines(capsys)


@pytest.mark.parametrize("pattern", ["", "/*/*.mp4", "/**/*.mp4"])
def test_what_is_behind_a_link_that_leads_nowhere_is_kept(pattern, clip, tmp_path, capsys):
    """As when a disk is not mounted; a link nothing was found behind is nobody's business."""
    inputs, disk, out = tmp_path / "in", tmp_path / "disk", tmp_path / "out"
    inputs.mkdir()
    disk.mkdir()
    shutil.copyfile(clip, disk / "one.mp4")
    (inputs / "archive").symlink_to(disk)
    (inputs / "lock").symlink_to("host:123")
    assert label(f"{inputs}{pattern}", out) == 0
    whole = result_digest(out)
    disk.rename(tmp_path / "elsewhere")
    assert label(f"{inputs}{pattern}", out) == errors.EXIT_QUARANTINE
    assert status(out) == {"archive/one": "ok", "archive": "failed"}
    assert "leads nowhere" in reasons(out)["archive"]
    assert result_digest(out) == whole
    lines(capsys)


def test_a_video_that_cannot_be_reached_is_kept(clip, tmp_path, capsys):
    """An outage of a server that a list names takes no tracks away."""
    (tmp_path / "web").mkdir()
    for name in ("one.mp4", "two.mp4"):
        shutil.copyfile(clip, tmp_path / "web" / name)
    out, listed = tmp_path / "out", tmp_path / "list.txt"
    with serving(tmp_path / "web") as web:
        listed.write_text(f"{web.url}/one.mp4\n{web.url}/two.mp4\n")
        assert label(listed, out) == 0
        whole = result_digest(out)
        for _ in range(2):
            web.broken = {"/two.mp4"}
            assert label(listed, out) == errors.EXIT_QUARANTINE
            assert status(out) == {"one": "ok", "two": "partial"}
            assert set(reasons(out)) == {"two"}
            assert (result_digest(out), run_record(out)["frames_predicted"]) == (whole, 0)
        web.broken = set()
        assert label(listed, out) == 0
        assert (status(out), result_digest(out)) == ({"one": "ok", "two": "ok"}, whole)
    lines(capsys)


def test_a_link_to_itself_is_one_bad_file(clip, tmp_path, capsys):
    """The folder it is in is searched all the same."""
    inputs = tmp_path / "in"
    inputs.mkdir()
    shutil.copyfile(clip, inputs / "one.mp4")
    for name in ("loop", "loop.mp4"):
        (inputs / name).symlink_to(name)
    os.mkfifo(inputs / "pipe.mp4")
    assert label(inputs, tmp_path / "out") == errors.EXIT_QUARANTINE
    assert status(tmp_path / "out") == {"one": "ok", "loop": "failed", "pipe": "failed"}
    assert "device or pipe" in reasons(tmp_path / "out")["pipe"]
    lines(capsys)


# --- pictures -----------------------------------------------------------------------------------


def write_pictures(folder, count=6):
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = np.full((24, 32, 3), 40 * index, np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.png", compress_level=0)


def test_bad_entries_among_pictures_are_holes(tmp_path, capsys):
    """A dangling link, a pipe and a folder named like pictures cost a frame each."""
    inputs, out = tmp_path / "in", tmp_path / "out"
    write_pictures(inputs / "take")
    (inputs / "take" / "006.png").symlink_to("gone.png")
    os.mkfifo(inputs / "take" / "007.png")
    (inputs / "take" / "008.png").mkdir()
    assert label(inputs, out) == errors.EXIT_QUARANTINE
    assert status(out) == {"take": "partial"}
    found = {row["start_frame"]: row["message"] for row in open_failures(out)}
    assert sorted(found) == [6, 7, 8]
    words = ("does not exist", "a device or pipe", "a folder")
    assert all(text in found[6 + i] for i, text in enumerate(words))
    lines(capsys)


def pictures_source(tmp_path):
    write_pictures(tmp_path / "in" / "take")
    (source,) = expand_inputs([str(tmp_path / "in")], {})
    return source, tmp_path / "in" / "take"


def swap(folder):
    """Two pictures of one size and time trade names: nothing but their places changes."""
    (folder / "002.png").rename(folder / "swap")
    (folder / "004.png").rename(folder / "002.png")
    (folder / "swap").rename(folder / "004.png")


def overwrite(folder):
    """One picture becomes another in place; its size and time stay."""
    path = folder / "003.png"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    path.write_bytes((folder / "005.png").read_bytes())
    os.utime(path, ns=times)


def remove(folder):
    (folder / "003.png").rename(folder / "003.gone")


@pytest.mark.parametrize("change", [swap, overwrite, remove])
@pytest.mark.parametrize("looked_before", [False, True])
def test_pictures_that_were_swapped_are_not_read(tmp_path, change, looked_before):
    """Also by a decoder that has seen the right ones; put back, they are read again."""
    source, folder = pictures_source(tmp_path)
    with VideoReader(Limits()) as reader:
        video = reader.probe(source)
        request = ReadRequest(video=video, start=0, stop=6)
        if looked_before:
            assert len([frame for batch in reader.read(request) for frame in batch.frames]) == 6
        saved = tmp_path / "saved"
        shutil.copytree(folder, saved)
        change(folder)
        with pytest.raises(SourceChangedError):
            list(reader.read(request))
        shutil.rmtree(folder)
        saved.rename(folder)
        assert len([frame for batch in reader.read(request) for frame in batch.frames]) == 6


# --- videos that were cut -----------------------------------------------------------------------


def remuxed(clip, path, *, start=0, **options):
    """The packets of a clip in another file; from frame `start` on to be shown."""
    with av.open(str(clip)) as source, av.open(str(path), "w", options=options) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                shift = int(start / 10 / packet.time_base)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - shift,
                    packet.dts - shift,
                    stream,
                )
                target.mux(packet)
    return path


def test_an_mp4_cut_at_a_packet_is_partial(tmp_path, capsys):
    """Whole packets alone look like a healthy, shorter file; the sample table knows better."""
    (clip,) = write_clips(tmp_path / "made", 1, num_frames=36)
    front = remuxed(clip, tmp_path / "front.mp4", movflags="faststart")
    with av.open(str(front)) as container:
        where = [packet.pos for packet in container.demux(video=0) if packet.size]
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    (inputs / "cut.mp4").write_bytes(front.read_bytes()[: where[18]])
    shutil.copyfile(front, inputs / "whole.mp4")
    for _ in range(2):  # and it stays so
        assert label(inputs, out) == errors.EXIT_QUARANTINE
        assert status(out) == {"cut": "partial", "whole": "ok"}
        assert reasons(out) == {"cut": "cut off: 18 of 36 frames are in the file"}
        (row,) = (r for r in table(out, "videos").to_pylist() if r["video_id"] == "cut")
        assert (row["num_frames"], row["error"]) == (18, f"frames 18-36: {reasons(out)['cut']}")
    shutil.copyfile(front, inputs / "cut.mp4")
    assert label(inputs, out) == 0
    assert status(out) == {"cut": "ok", "whole": "ok"}
    lines(capsys)


@pytest.mark.parametrize(
    ("name", "options", "start"),
    [
        ("plain.mp4", {}, 0),
        ("plain.mp4", {}, 10),
        ("front.mp4", {"movflags": "faststart"}, 0),
        ("front.mp4", {"movflags": "faststart"}, 10),
        ("pieces.mp4", {"movflags": "frag_keyframe+empty_moov"}, 0),
        ("pieces.mp4", {"movflags": "frag_keyframe+empty_moov"}, 10),
        ("old.mov", {}, 0),
        ("old.mov", {}, 10),
        ("other.mkv", {}, 0),
        ("stream.ts", {}, 0),
        ("old.avi", {}, 0),
    ],
)
def test_healthy_files_are_not_called_cut(tmp_path, name, options, start):
    """Frames that an edit list leaves out are counted in the header, and not missing."""
    codec = "mpeg4" if name.endswith(".avi") else "libx264"
    (clip,) = write_clips(tmp_path / "made", 1, num_frames=36, codec=codec)
    path = remuxed(clip, tmp_path / name, start=start, **options)
    (source,) = expand_inputs([str(path)], {})
    with VideoReader(Limits()) as reader:
        video = reader.probe(source)
    assert (video.status, video.missing_frames) == ("ok", 0)


# --- lists --------------------------------------------------------------------------------------


def test_odd_entries_of_a_list_are_rows(clip, tmp_path, capsys):
    """Each with its reason; the good one beside them is labelled."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copyfile(clip, tmp_path / "two" / name)
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    rows = [
        ("good", clip),
        ("gone", "gone.mp4"),
        ("pipe", "pipe.mp4"),
        ("loop", "loop.mp4"),
        ("zero", "/dev/zero"),
        ("below", f"{clip}/x.mp4"),
        ("long", "x" * 5000),
        ("empty", "empty"),
        ("two", "two"),
    ]
    listed = tmp_path / "list.jsonl"
    text = (json.dumps({"video_id": name, "path": str(path)}) for name, path in rows)
    listed.write_text("\n".join(text))
    assert label(listed, tmp_path / "out") == errors.EXIT_QUARANTINE
    expected = {name: "ok" if name == "good" else "failed" for name, _ in rows}
    assert status(tmp_path / "out") == expected
    assert set(reasons(tmp_path / "out")) == set(expected) - {"good"}
    assert "holds 2 videos; list them one by one" in reasons(tmp_path / "out")["two"]
    lines(capsys)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl"])
def test_a_line_of_a_list_has_a_length(suffix, tmp_path, capsys):
    """50 MB in one line are refused at once, by its number."""
    path = tmp_path / f"list{suffix}"
    first = {".txt": "a.mp4", ".csv": "path", ".jsonl": '{"path": "a.mp4"}'}[suffix]
    path.write_text(f"{first}\n{'x' * (50 << 20)}\n")
    assert label(path, tmp_path / "out") == errors.EXIT_USAGE
    (line,) = lines(capsys)
    assert f"list{suffix} line 2: longer than 1048576 characters" in line


@pytest.mark.parametrize("kind", ["text", "table"])
def test_an_address_has_a_length(kind, tmp_path, capsys):
    """The row is named, and only the beginning is shown."""
    path = tmp_path / ("list.txt" if kind == "text" else "list.parquet")
    if kind == "text":
        path.write_text(f"a.mp4\n{'x' * 100_000}\n")
    else:
        pq.write_table(pa.table({"path": ["a.mp4", "x" * 100_000]}), path)
    assert label(path, tmp_path / "out") == errors.EXIT_USAGE
    (line,) = lines(capsys)
    assert ("line 2" in line or "row 2" in line) and "got 100000 characters" in line
    assert len(line) < 500


# --- files that settings name -------------------------------------------------------------------


@pytest.fixture(params=["pipe", "device", "folder"])
def no_file(request, tmp_path):
    """What would wait for ever, never end, or is none."""
    if request.param == "device":
        return "/dev/zero"
    path = tmp_path / "odd"
    os.mkfifo(path) if request.param == "pipe" else path.mkdir()
    return path


def settings_that_name(path, clip, folder):
    """One command for each place that names a file."""
    label = ("label", clip, "--out", folder / "out")
    job = folder / "job.yaml"
    two = [{"name": name, "system": "oracle"} for name in "ab"]
    more = {"truth": "formula:1", "label_map": str(path)}
    values = {"inputs": str(clip), "out": str(folder / "o"), "members": two, "settings": more}
    job.write_text(yaml.safe_dump(values))
    return [
        (*label, "--system", "oracle", "--set", f"truth={path}"),
        (*label, "--system", "idol", "--set", f"weights={path}"),
        (*label, "--system", "propose_reduce", "--set", f"weights={path}"),
        ("job", "run", job),
        ("job", "run", path),
        ("train", path),
    ]


def test_only_regular_files_are_read_where_a_setting_names_one(no_file, clip, tmp_path, capsys):
    """One line, at once; it names the file."""
    for words in settings_that_name(no_file, clip, tmp_path):
        assert run(*words) == errors.EXIT_USAGE, words
        (line,) = lines(capsys)
        assert str(no_file) in line, line
        weights = Path(no_file).is_dir() and any("=" in str(word) for word in words)
        kind = "file or a folder of files, got none" if weights else "regular file"
        assert f"expected a {kind}" in line, line


def test_only_regular_files_are_truth_and_lists(clip, tmp_path, capsys):
    """A pipe among the files of another's set is refused too."""
    out, pipe = tmp_path / "out", tmp_path / "pipe.json"
    os.mkfifo(pipe)
    assert label(clip, out) == 0
    lines(capsys)
    for truth in (pipe, "/dev/zero"):
        assert run("eval", out, "--truth", truth, "--metric", "ytvis") == errors.EXIT_USAGE
        assert "expected a regular file" in lines(capsys)[-1]
    os.mkfifo(tmp_path / "list.txt")
    assert label(tmp_path / "list.txt", tmp_path / "o") == errors.EXIT_USAGE
    assert "device or pipe" in lines(capsys)[-1]


@pytest.mark.parametrize(
    "name",
    ["job.yaml", "videos/videos.parquet", "failures/failures.parquet", "manifest/current.parquet"],
)
def test_a_pipe_in_a_results_folder_is_not_waited_for(name, clip, tmp_path, capsys):
    """Whoever sends the folder, no command hangs on it."""
    out = tmp_path / "out"
    assert label(clip, out) == 0
    (out / name).unlink()
    os.mkfifo(out / name)
    lines(capsys)
    for words in (
        ("verify", out),
        ("explain", out, "clip_0000"),
        ("render", out, "--out", tmp_path),
    ):
        run(*words)
        lines(capsys)


# --- no home ------------------------------------------------------------------------------------


def test_a_user_without_a_home_needs_none(clip, tmp_path, monkeypatch, capsys):
    """Files are read without a cache; one that must be fetched is refused in one line."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("REELMASK_CACHE", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(RuntimeError):
        Path.home()
    truth = clip.parent / "truth.json"
    words = ("label", clip, "--out", tmp_path / "out", "--system", "oracle", "--set")
    assert run(*words, f"truth={truth}") == 0
    lines(capsys)
    with serving(clip.parent) as web:
        assert run(*words, f"truth={web.url}/truth.json") == errors.EXIT_USAGE
        assert "set REELMASK_CACHE to a folder" in lines(capsys)[-1]
        monkeypatch.setenv("REELMASK_CACHE", str(tmp_path / "cache"))
        assert run(*words, f"truth={web.url}/truth.json") == 0
    with contextlib.suppress(FileNotFoundError):
        lines(capsys)
