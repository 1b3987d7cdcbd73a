"""`render`: overlays that players play, of whatever results say, wherever the videos are."""

import dataclasses
import json
import shutil
import subprocess

import av
import cv2
import imageio_ffmpeg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs import cli
from tests.support.clips import write_clips
from tests.support.encode import CLIPS, make_clip, probe
from tests.support.results import reelmask, table
from vis_core import errors, schema
from vis_core.masks import rle
from vis_core.render.palette import track_color
from vis_core.video.reader import VideoReader
from vis_core.video.sources import expand_inputs


def render(results, out, *more) -> int:
    return cli.main(["render", str(results), "--out", str(out), *map(str, more)])


def decoded(path) -> np.ndarray:
    """(T, H, W, 3) RGB as a player would show it."""
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def files_in(folder) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def labelled(clips, tmp_path_factory):
    """Results of eight clips of 20 frames."""
    out = tmp_path_factory.mktemp("labelled") / "out"
    sets = ("--set", f"truth={clips}/truth.json", "--set", "shard_frames=7")
    assert reelmask("label", clips, "--out", out, "--system", "oracle", *sets).returncode == 0
    return out


@pytest.fixture
def results(labelled, tmp_path):
    """Results to spoil."""
    return shutil.copytree(labelled, tmp_path / "results")


@pytest.fixture(scope="module")
def overlays(labelled, tmp_path_factory):
    out = tmp_path_factory.mktemp("overlays")
    assert render(labelled, out) == 0
    return out


def handmade(folder, videos, masks):
    """A results folder of these videos; masks are (video_id, track_id, frame_index, pixels)."""
    sizes = {video.video_id: (video.height, video.width) for video in videos}
    rows = [
        {
            "video_id": video_id,
            "track_id": track_id,
            "frame_index": frame,
            "box": [0.0] * 4,
            "mask": rle.encode(np.broadcast_to(pixels, sizes[video_id])[None])[0],
            "score": 0.5,
        }
        for video_id, track_id, frame, pixels in masks
    ]
    tables = {
        "videos/videos": schema.videos_to_table(videos),
        "masks/some": pa.Table.from_pylist(rows, schema=schema.MASKS),
        "tracks/some": schema.TRACKS.empty_table(),
    }
    for name, rows_of_it in tables.items():
        path = folder / f"{name}.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(rows_of_it, path)
    return folder


def rewrite(results, under, change):
    """Replaces the files of a table by one, changed."""
    rows = change(table(results, under))
    for path in (results / under).glob("*.parquet"):
        path.unlink()
    pq.write_table(rows, results / under / "changed.parquet")


# --- what is written ------------------------------------------------------------------------------


def test_one_overlay_per_video_that_browsers_play(labelled, overlays):
    videos = table(labelled, "videos").to_pylist()
    assert files_in(overlays) == {f"{video['video_id']}.mp4" for video in videos}
    for video in videos:
        path = overlays / f"{video['video_id']}.mp4"
        with av.open(str(path)) as container:
            (stream,) = container.streams
            assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
            assert (stream.height, stream.width) == (video["height"], video["width"])
            assert stream.frames == video["num_frames"]
            assert float(stream.average_rate) == pytest.approx(video["fps"])
        data = path.read_bytes()
        assert 0 < data.index(b"moov") < data.index(b"mdat")  # plays before it is loaded


def test_each_mask_has_its_tracks_colour_where_it_is(tmp_path):
    """Looked at through the codec: the tint within, the footage elsewhere."""
    folder, out, size = tmp_path / "clips", tmp_path / "results", (192, 256)
    write_clips(folder, 1, num_frames=12, size=size, seed=3)
    sets = ("--set", f"truth={folder}/truth.json")
    assert cli.main(["label", str(folder), "--out", str(out), "--system", "oracle", *sets]) == 0
    assert render(out, tmp_path / "overlays") == 0
    before = decoded(folder / "clip_0000.mp4").astype(int)
    after = decoded(tmp_path / "overlays" / "clip_0000.mp4").astype(int)
    rows = table(out, "masks").to_pylist()
    masks = rle.decode([row["mask"] for row in rows], size).view(np.uint8)
    shares = []
    for frame in range(12):
        mine = [i for i, row in enumerate(rows) if row["frame_index"] == frame]
        covered = masks[mine].sum(axis=0).astype(np.uint8)
        for i in mine:
            inner = cv2.erode(masks[i] * (covered == 1), np.ones((9, 9))) > 0
            if inner.sum() > 400:
                color = np.array(track_color("clip_0000", rows[i]["track_id"]))
                tint = after[frame][inner] - 0.55 * before[frame][inner]
                shares.append((np.abs(tint - 0.45 * color).max(axis=1) < 20).mean())
        far = cv2.dilate(covered, np.ones((61, 61))) == 0  # beyond outlines and labels
        assert far.sum() > 1000
        assert np.abs(before[frame][far] - after[frame][far]).mean() < 4
    assert len(shares) > len(rows) / 2
    assert min(shares) > 0.3 and np.mean(shares) > 0.7  # the rest lies under labels


def test_same_rows_same_file_however_they_are_stored(results, overlays, tmp_path):
    rng = np.random.default_rng(1)
    for under in ("masks", "tracks"):
        rows = table(results, under)
        rows = rows.take(pa.array(rng.permutation(len(rows))))
        for path in (results / under).glob("*.parquet"):
            path.unlink()
        for number in range(3):
            mine = rows.take(pa.array(np.arange(number, len(rows), 3)))
            pq.write_table(mine, results / under / f"{number}.parquet", row_group_size=13)
    assert render(results, tmp_path / "again") == 0
    for path in sorted(overlays.iterdir()):
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_what_link_wrote_is_drawn_the_same(labelled, overlays, tmp_path):
    out = tmp_path / "linked"
    assert cli.main(["link", str(labelled), "--system", "oracle", "--out", str(out)]) == 0
    assert render(out, tmp_path / "again", "--limit", 2) == 0
    for path in sorted((tmp_path / "again").iterdir()):
        assert path.read_bytes() == (overlays / path.name).read_bytes()


def test_an_overlay_that_is_there_is_replaced(labelled, overlays, tmp_path):
    old = (overlays / "clip_0001.mp4").read_bytes()
    (tmp_path / "clip_0000.mp4").write_bytes(old)
    (tmp_path / "mine.txt").write_bytes(b"mine")
    assert render(labelled, tmp_path, "--video", "clip_0000") == 0
    assert (tmp_path / "clip_0000.mp4").read_bytes() == (overlays / "clip_0000.mp4").read_bytes()
    assert files_in(tmp_path) == {"clip_0000.mp4", "mine.txt"}


def test_sampled_runs_show_sampled_frames_at_the_speed_they_were_filmed(clips, tmp_path):
    sets = ("--set", f"truth={clips}/truth.json", "--every", "3", "--limit", "1")
    words = ["label", clips, "--out", tmp_path / "results", "--system", "oracle", *sets]
    assert cli.main([str(word) for word in words]) == 0
    assert render(tmp_path / "results", tmp_path / "overlays") == 0
    with av.open(str(tmp_path / "overlays" / "clip_0000.mp4")) as container:
        assert container.streams.video[0].frames == 7  # 0, 3, …, 18
        assert float(container.streams.video[0].average_rate) == pytest.approx(10 / 3)
    assert {row % 3 for row in table(tmp_path / "results", "masks")["frame_index"].to_pylist()} == {
        0
    }


@pytest.mark.parametrize(("height", "shown"), [(90, (90, 160)), (89, (90, 158)), (200, (200, 354))])
def test_odd_sizes_and_other_heights(tmp_path, height, shown):
    """157 x 89 pixels: H.264 takes even sides only, so a row or a column is repeated."""
    video = probe(make_clip(tmp_path / "odd.mp4", CLIPS["odd_size.mp4"]))
    assert (video.height, video.width) == (89, 157)
    pixels = np.zeros((89, 157), bool)
    pixels[40:, 80:] = True
    source = handmade(tmp_path / "results", [video], [("odd", 0, 0, pixels)])
    assert render(source, tmp_path / "out", "--height", height) == 0
    frames = decoded(tmp_path / "out" / "odd.mp4")
    assert frames.shape == (60, *shown, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1)])
def test_frames_too_small_for_h264_are_drawn_larger(tmp_path, size):
    folder = tmp_path / "tiny"
    folder.mkdir()
    for frame in range(3):
        Image.new("RGB", size[::-1]).save(folder / f"{frame:03d}.png")
    (source,) = expand_inputs([str(folder)], {})
    with VideoReader() as reader:
        video = reader.probe(source)
    results = handmade(tmp_path / "results", [video], [(video.video_id, 0, 1, True)])
    assert render(results, tmp_path / "out") == 0
    (path,) = (tmp_path / "out").iterdir()
    assert decoded(path).shape == (3, max(2, size[0]), max(2, size[1]), 3)


def test_what_h264_cannot_have_is_skipped(clips, tmp_path, capsys):
    video = dataclasses.replace(probe(clips / "clip_0000.mp4"), height=2, width=64)
    source = handmade(tmp_path / "results", [video], [("clip_0000", 0, 0, True)])
    assert render(source, tmp_path / "out", "--height", 4000) == errors.EXIT_QUARANTINE
    assert "128000x4000 pixels, and H.264 takes 16384 on a side" in capsys.readouterr().out


def test_names_and_scores_stand_on_the_labels(results, tmp_path):
    """They are read back by what they change: a label without them is shorter."""
    rewrite(results, "masks", lambda rows: _without(rows, "score"))
    assert render(results, tmp_path / "without", "--video", "clip_0001") == 0
    only = pa.table({"member": ["oracle"], "label": pa.array([1], pa.int32()), "name": ["thing"]})
    pq.write_table(only, results / "categories" / "categories.parquet")
    assert render(results, tmp_path / "bare", "--video", "clip_0001") == 0
    named, bare = (decoded(tmp_path / name / "clip_0001.mp4") for name in ("without", "bare"))
    color = np.array(track_color("clip_0001", 0))

    def plate(frames: np.ndarray) -> int:
        return int((np.abs(frames - color).max(axis=3) < 40).sum())

    assert plate(named) > plate(bare) > 0


def _without(rows: pa.Table, name: str) -> pa.Table:
    nothing = pa.nulls(len(rows), rows.schema.field(name).type)
    return rows.set_column(rows.column_names.index(name), name, nothing)


def test_ffmpeg_itself_finds_nothing_wrong(overlays):
    program = imageio_ffmpeg.get_ffmpeg_exe()
    words = [
        program,
        "-v",
        "warning",
        "-xerror",
        "-i",
        overlays / "clip_0003.mp4",
        "-f",
        "null",
        "-",
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- which videos ---------------------------------------------------------------------------------


def test_chosen_videos_and_the_report_for_machines(labelled, tmp_path, capsys):
    some = ("--video", "clip_0004", "--video", "clip_0002", "--limit", "1", "--json")
    assert render(labelled, tmp_path / "out", *some) == 0
    assert files_in(tmp_path / "out") == {"clip_0002.mp4"}
    report = json.loads(capsys.readouterr().out)
    assert report.pop("seconds") > 0
    assert report == {
        "out": str(tmp_path / "out"),
        "num_videos": 1,
        "num_frames": 20,
        "skipped": {},
    }


HOSTILE = [
    "a/b",
    "../../evil",
    "/etc/evil",
    "..",
    ".hidden",
    "-rf",
    "a\nb",
    "x" * 300,
    "nul\0",
    "%2e",
]


def test_no_id_leaves_the_folder(clips, tmp_path):
    video = probe(clips / "clip_0000.mp4")
    videos = [dataclasses.replace(video, video_id=name) for name in HOSTILE]
    source = handmade(tmp_path / "results", videos, [(name, 0, 3, True) for name in HOSTILE])
    before = files_in(tmp_path)
    assert render(source, tmp_path / "deep" / "out") == 0
    new = files_in(tmp_path) - before
    assert len(new) == len(HOSTILE)
    assert all(name.startswith("deep/out/") and name.count("/") == 2 for name in new)
    assert "deep/out/a%2Fb.mp4" in new


def test_videos_that_cannot_be_drawn_are_skipped_with_a_line(clips, tmp_path, capsys):
    folder = tmp_path / "clips"
    shutil.copytree(clips, folder)
    (folder / "broken.mp4").write_bytes(b"no video")
    sets = ("--set", f"truth={folder}/truth.json")
    words = ["label", folder, "--out", tmp_path / "results", "--system", "oracle", *sets]
    assert cli.main([str(word) for word in words]) == errors.EXIT_QUARANTINE
    (folder / "clip_0001.mp4").unlink()
    (folder / "clip_0002.mp4").write_bytes((folder / "clip_0003.mp4").read_bytes())
    capsys.readouterr()
    assert render(tmp_path / "results", tmp_path / "out") == errors.EXIT_QUARANTINE
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("6 videos, 120 frames")
    assert len(lines) == 3
    assert lines[0].startswith("  skipped broken: it could not be labelled: ")
    assert lines[1].startswith("  skipped clip_0001: ") and "clip_0001.mp4" in lines[1]
    assert lines[2].startswith("  skipped clip_0002: ") and "the index saw" in lines[2]
    assert files_in(tmp_path / "out") == {f"clip_{i:04d}.mp4" for i in (0, 3, 4, 5, 6, 7)}


def test_a_bad_mask_costs_its_video_and_leaves_the_old_overlay(results, overlays, tmp_path, capsys):
    def spoil(rows: pa.Table) -> pa.Table:
        listed = rows.to_pylist()
        last = max(row["frame_index"] for row in listed if row["video_id"] == "clip_0001")
        for row in listed:
            if (row["video_id"], row["frame_index"]) == ("clip_0001", last):
                row["mask"] = b"\x00 no mask"
        return pa.Table.from_pylist(listed, schema=rows.schema)

    rewrite(results, "masks", spoil)
    old = (overlays / "clip_0000.mp4").read_bytes()
    (tmp_path / "clip_0001.mp4").write_bytes(old)
    before = files_in(tmp_path)
    assert render(results, tmp_path, "--limit", 3) == errors.EXIT_QUARANTINE
    assert "skipped clip_0001: " in capsys.readouterr().out
    assert (tmp_path / "clip_0001.mp4").read_bytes() == old
    assert files_in(tmp_path) - before == {"clip_0000.mp4", "clip_0002.mp4"}


# --- where the videos are -------------------------------------------------------------------------


def test_videos_that_moved(clips, labelled, overlays, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(clips, elsewhere)
    assert render(labelled, tmp_path / "out", "--videos", elsewhere, "--limit", 2) == 0
    for path in sorted((tmp_path / "out").iterdir()):
        assert path.read_bytes() == (overlays / path.name).read_bytes()
    (elsewhere / "clip_0000.mp4").unlink()
    write_clips(elsewhere / "shorter", 2, num_frames=9)
    (elsewhere / "shorter" / "clip_0001.mp4").rename(elsewhere / "clip_0001.mp4")
    code = render(labelled, tmp_path / "other", "--videos", elsewhere, "--limit", 2)
    assert code == errors.EXIT_QUARANTINE
    _, missing, other = capsys.readouterr().out.splitlines()[-3:]
    assert missing == f"  skipped clip_0000: no video of this id in {elsewhere} (--videos)"
    assert "9 frames of 64x48, but the results are of 20 frames of 64x48" in other


def test_rows_that_do_not_say_where_their_video_is(clips, tmp_path, capsys):
    video = dataclasses.replace(probe(clips / "clip_0000.mp4"), uri="", version="")
    source = handmade(tmp_path / "results", [video], [("clip_0000", 0, 3, True)])
    assert render(source, tmp_path / "out") == errors.EXIT_QUARANTINE
    assert "the results do not say where it is; --videos PATH does" in capsys.readouterr().out
    assert render(source, tmp_path / "out", "--videos", clips) == 0
    assert files_in(tmp_path / "out") == {"clip_0000.mp4"}


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{results}", "--limit", "0"], "--limit: expected 1 or more, got 0"),
        (["{results}", "--height", "10"], "--height: expected 64 to 4320 pixels, got 10"),
        (["{results}", "--video", "clip_001"], "no video 'clip_001' in"),
        (["{results}", "--video", "clip_001"], "did you mean 'clip_0001'?"),
        (["{results}", "--videos", "{tmp}/none"], "no such file or folder"),
        (["{tmp}/none"], "no results folder at"),
        (["{tmp}"], "holds no results to draw"),
        (["{results}/run.json"], "is a file; a results folder was expected"),
        (["{results}", "--out", "s3://bucket/x"], "overlays are local files"),
        (["{results}", "--out", "{results}/run.json"], "is a file; expected a folder"),
        (["{results}", "--out", " "], "expected a path or URL"),
    ],
)
def test_mistakes_are_one_line(labelled, tmp_path, capsys, words, said):
    words = [word.format(results=labelled, tmp=tmp_path) for word in words]
    out = [] if "--out" in words else ["--out", str(tmp_path / "out")]
    capsys.readouterr()
    assert cli.main(["render", *words, *out]) == errors.EXIT_USAGE
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("reelmask: ") and said in line and captured.out == ""
