"""The command line is a promise: its commands, flags and exit codes change only on purpose."""

import argparse

import pytest

from jobs import cli
from vis_core import errors

JOB = {"--system", "--set", "--runner", "--address", "--every", "--fps", "--limit"}
FLAGS = {
    "label": {*JOB, "--out", "--replace", "--retry-quarantined", "--json"},
    "plan": {*JOB, "--out", "--json"},
    "link": {"--system", "--out", "--member", "--set", "--runner", "--address", "--json"},
    "fuse": {"--out", "--weight", "--set", "--json"},
    "eval": {"--truth", "--metric", "--per-category", "--set", "--json"},
    "export": {"--format", "--out", "--set", "--json"},
    "render": {"--out", "--video", "--videos", "--limit", "--height", "--json"},
    "synth": {
        *("--out", "--videos", "--seed", "--preset", "--frames", "--height", "--width", "--fps"),
        *("--flow", "--workers", "--json"),
    },
    "train": {"--runner", "--address", "--dry-run", "--strict", "--replace", "--json"},
    "systems": {"--json"},
    "settings": {"--json"},
    "verify": {"--deep", "--json"},
    "gc": {"--json"},
    "explain": {"--json"},
    "job": {"--replace", "--retry-quarantined", "--address", "--json"},
}
POSITIONALS = {
    "label": ["inputs"],
    "plan": ["inputs"],
    "link": ["frames"],
    "fuse": ["results"],
    "eval": ["results"],
    "export": ["results"],
    "render": ["results"],
    "synth": [],
    "train": ["file"],
    "systems": [],
    "settings": ["system"],
    "verify": ["results"],
    "gc": ["results"],
    "explain": ["results", "video"],
    "job": ["action", "file"],
}


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(found.choices)


def test_commands():
    """A new setting is a field that `--set` reaches, not a flag."""
    assert set(commands()) == set(FLAGS)


@pytest.mark.parametrize("name", FLAGS)
def test_flags(name):
    actions = [a for a in commands()[name]._actions if a.dest != "help"]
    assert {flag for action in actions for flag in action.option_strings} == FLAGS[name]
    assert [a.dest for a in actions if not a.option_strings] == POSITIONALS[name]


def test_runner_choices():
    (runner,) = (a for a in commands()["label"]._actions if a.dest == "runner")
    assert (runner.choices, runner.default) == (["inline", "ray"], "inline")


def test_exit_codes():
    codes = {name: getattr(errors, name) for name in dir(errors) if name.startswith("EXIT_")}
    assert codes == {
        "EXIT_OK": 0,
        "EXIT_FAILED": 1,
        "EXIT_USAGE": 2,
        "EXIT_QUARANTINE": 3,
        "EXIT_BUSY": 4,
        "EXIT_INTERRUPTED": 130,
    }
    assert errors.UsageError.exit_code == errors.EXIT_USAGE
    assert errors.BusyError.exit_code == errors.EXIT_BUSY
    assert errors.StorageFullError.exit_code == errors.EXIT_FAILED
    assert errors.ReelmaskError.exit_code == errors.EXIT_FAILED


@pytest.mark.parametrize("words", [[], ["labl"], ["label", "clips"], ["label", "--nonsense"]])
def test_misuse_is_code_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == errors.EXIT_USAGE
    assert capsys.readouterr().out == ""
