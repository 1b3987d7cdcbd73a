"""`make demo`: what it writes and says, run again, with a video of one's own, and cut short."""

import json
import os
import shlex
import signal
import subprocess
import sys

import av
import numpy as np
import pytest
from PIL import Image

from jobs import demo
from tests.support.clips import write_clips
from tests.support.results import REPO, table
from vis_core import errors
from vis_core.data.synth.config import SynthConfig

# One process runs them all: what they look at takes a minute to make.
pytestmark = pytest.mark.xdist_group("demo")

SMALL = """
from jobs import demo
demo.CLIPS = tuple(
    clip._replace(config=type(clip.config)(preset=clip.config.preset, height=96, width=160))
    for clip in demo.CLIPS
)
"""


@pytest.fixture
def small(monkeypatch):
    """The demo's clips, a sixth of their size and none longer than 36 frames."""
    clips = [
        clip._replace(config=SynthConfig(preset=clip.config.preset, height=96, width=160))
        for clip in demo.CLIPS
    ]
    monkeypatch.setattr(demo, "CLIPS", tuple(clips))


def program(folder, *more) -> list[str]:
    """The demo on small clips, as a process."""
    words = [str(folder), *map(str, more)]
    return [sys.executable, "-c", f"{SMALL}raise SystemExit(demo.main({words!r}))"]


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The folder of one demo on Ray, and what it said."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    done = subprocess.run(program(folder), cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, done.stderr


def rows_of_table(said: str) -> dict[str, list[str]]:
    """Numbers by clip and system."""
    lines = said.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:2] == ["clip", "system"])
    end = lines.index("", start)
    rows = [line.split() for line in lines[start + 1 : end]]
    return {f"{row[0]} {row[1]}": row[2:] for row in rows}


SHOWN = {
    "results": ("flow_match", ["plain", "occluded", "scene"]),
    "results-propose_reduce": ("propose_reduce", ["plain", "occluded"]),
    "results-idol": ("idol", ["plain", "occluded"]),
}


def test_three_clips_are_labelled_and_drawn(shown):
    folder, said, _ = shown
    assert {path.stem for path in (folder / "clips").glob("*.mp4")} == {
        "plain",
        "occluded",
        "scene",
    }
    numbers = rows_of_table(said)
    for results, (system, clips) in SHOWN.items():
        rows = table(folder / results, "masks").to_pylist()
        overlays = folder / results.replace("results", "overlays")
        for name in clips:
            mine = [row for row in rows if row["video_id"] == name]
            frames, tracks, num_masks, seconds = numbers.pop(f"{name} {system}")
            assert (int(frames), int(num_masks)) == (36, len(mine))
            assert int(tracks) == len({row["track_id"] for row in mine})
            assert float(seconds) >= 0
            with av.open(str(overlays / f"{name}.mp4")) as container:
                assert sum(1 for _ in container.decode(video=0)) == 36
        assert rows and {row["video_id"] for row in rows} <= set(clips)
    assert not numbers


def test_it_shows_what_it_does_and_where_it_put_things(shown):
    folder, said, log = shown
    assert f"$ reelmask label {folder}/clips/plain.mp4" in said
    assert f"$ reelmask render {folder}/results --out {folder}/overlays" in said
    assert "predict: 108/108 frames" in log
    assert f"{folder}/contact.png" in said
    for name in ("overlays", "contact.png", "results/tracks", "results/masks", "clips/truth.json"):
        assert (folder / name).exists()


def test_the_query_it_offers_runs(shown):
    folder, said, _ = shown
    (offer,) = (line for line in said.splitlines() if line.startswith("Try: "))
    words = shlex.split(offer.removeprefix("Try: "))
    done = subprocess.run(words, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    tracks = table(folder / "results", "tracks")
    assert done.stdout.count("plain") == tracks["video_id"].to_pylist().count("plain")


def test_the_contact_sheet_is_small_and_shows_tracks(shown):
    folder, _, _ = shown
    path = folder / "contact.png"
    assert path.stat().st_size <= 400_000
    picture = np.asarray(Image.open(path).convert("HSV"))
    assert picture.shape == (1484, 1310, 3)
    vivid = (picture[..., 1] > 150) & (picture[..., 2] > 150)
    assert vivid.mean() > 0.003  # labels and outlines; the footage is duller


def test_the_truth_scores_the_results(shown):
    folder, _, _ = shown
    truth = json.loads((folder / "clips" / "truth.json").read_text())
    assert [video["video_id"] for video in truth["videos"]] == ["plain", "occluded", "scene"]
    assert {row["category_id"] for row in truth["annotations"]} == {1}
    assert [row["id"] for row in truth["annotations"]] == [*range(1, len(truth["annotations"]) + 1)]


def test_again_it_finds_the_clips_labelled(shown, small, capsys):
    folder, said, _ = shown
    before = {path: path.stat().st_mtime_ns for path in (folder / "clips").iterdir()}
    sheet = (folder / "contact.png").read_bytes()
    assert demo.main([str(folder), "--runner", "inline"]) == 0
    again = capsys.readouterr().out
    assert "0 frames predicted" in again and "--replace" not in again
    assert rows_of_table(again) == rows_of_table(said)
    assert {path: path.stat().st_mtime_ns for path in (folder / "clips").iterdir()} == before
    assert (folder / "contact.png").read_bytes() == sheet


def test_a_video_of_ones_own_takes_the_third_place(small, tmp_path, capsys):
    (own,) = write_clips(tmp_path / "my clips", 1, num_frames=20, size=(96, 128), seed=2)
    folder = tmp_path / "demo"
    words = [str(folder), "--runner", "inline", "--system", "flow_match"]
    assert demo.main([*words, "--video", str(own)]) == 0
    said = capsys.readouterr().out
    assert f"VIDEO={own}: 20 frames of 128x96" in said
    assert [row.split()[0] for row in rows_of_table(said)] == ["plain", "occluded", "clip_0000"]
    assert (folder / "overlays" / "clip_0000.mp4").is_file()
    other = own.with_name("other.mp4")
    own.rename(other)
    assert demo.main([*words, "--video", str(other)]) == 0
    said = capsys.readouterr().out
    assert "--replace" in said and [row.split()[0] for row in rows_of_table(said)] == [
        "plain",
        "occluded",
        "other",
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.mp4", "none.mp4: no such file or folder"),
        ("text.mp4", "expected a video, got a text file"),
        ("", "no such file or folder"),
        ("two", "2 videos are there; name one of them"),
    ],
)
def test_a_wrong_video_is_one_line_and_nothing_is_begun(tmp_path, capsys, name, said):
    (tmp_path / "text.mp4").write_text("no video at all\n")
    write_clips(tmp_path / "two", 2, num_frames=2)
    (tmp_path / "two" / "truth.json").unlink()
    video = tmp_path / name if name else tmp_path / "nothing" / "here"
    assert demo.main([str(tmp_path / "demo"), "--video", str(video)]) == errors.EXIT_USAGE
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith("demo: ") and said in line and captured.out == ""
    assert not (tmp_path / "demo").exists()


def test_ctrl_c_ends_with_one_line(tmp_path):
    """While Ray starts: the command it runs is the last thing it said."""
    process = subprocess.Popen(
        program(tmp_path / "demo"),
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("$ reelmask label"):
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: to everyone
    _, log = process.communicate()
    assert process.returncode == errors.EXIT_INTERRUPTED
    last = [line for line in log.splitlines() if "interrupted" in line]
    assert last == ["demo: interrupted; `make demo` goes on from here"]
    assert "Traceback" not in log


def test_the_makefile_passes_the_video_on():
    """Whatever its name: with spaces, quotes and dollars."""
    name = "it's my 'clip' $HOME.mp4"
    words = ["make", "-s", "-o", ".venv/.ready-all", "demo", "PY=printf '%s|'"]
    done = subprocess.run(
        words,
        cwd=REPO,
        env={**os.environ, "VIDEO": name},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"-m|jobs.demo|demo-out|--video|{name}|"
    without = {key: value for key, value in os.environ.items() if key != "VIDEO"}
    done = subprocess.run(words, cwd=REPO, env=without, capture_output=True, text=True, check=True)
    assert done.stdout == "-m|jobs.demo|demo-out|"
