"""`reelmask synth`: flags, output, exit codes."""

from __future__ import annotations

import argparse
import json

import pytest

from jobs.commands import synth
from vis_core.errors import UsageError


def run(*words):
    parser = argparse.ArgumentParser()
    synth.add(parser.add_subparsers())
    arguments = parser.parse_args(["synth", *map(str, words)])
    return arguments.command(arguments)


def small(folder):
    return ("--out", folder, "--videos", 1, "--seed", 7, "--height", 96, "--width", 160)


def test_json_tells_what_was_written(tmp_path, capsys):
    out = tmp_path / "set"
    assert run(*small(out), "--workers", 1, "--preset", "occluded", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    stored = json.loads((out / "difficulty.json").read_bytes())
    assert told["difficulty"] == stored
    assert (told["num_videos"], told["num_frames"], told["out"]) == (1, 36, str(out))
    names = sorted(path.name for path in out.iterdir())
    assert names == ["clip_0000.mp4", "difficulty.json", "synth.json", "truth.json"]
    truth = json.loads((out / "truth.json").read_bytes())
    assert (truth["info"]["preset"], truth["info"]["use"]) == ("occluded", "training")
    assert len(truth["annotations"]) == told["num_objects"] == stored["num_objects"]


def test_people_get_a_few_lines(tmp_path, capsys):
    out = tmp_path / "set"
    assert run(*small(out), "--workers", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("1 videos, 36 frames, ")
    assert f"{out}/truth.json" in lines[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "s3://bucket/set"), "local folders only"),
        (("--height", 181), "height: expected an even number"),
        (("--seed", 999_999, "--videos", 2), "training seeds end at 999999"),
        (("--workers", 0), "workers: expected 1 or more, got 0"),
        (("--fps", "inf"), "fps: expected a rate from 1 to 240"),
    ],
)
def test_mistakes_are_one_line(words, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        run(*small(tmp_path / "set"), *words)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("words", [("--frames", 40), ("--preset", "hard"), ("--videos", "many")])
def test_misuse_ends_with_code_2(words, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        run(*small(tmp_path / "set"), *words)
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""
