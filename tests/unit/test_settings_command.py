"""`reelmask settings` and `reelmask systems`: what can be set, and what can run."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import cli
from jobs.commands.settings import table
from vis_core.job_settings import JobSettings
from vis_core.systems import SYSTEMS


def printed(capsys, *words: str) -> str:
    assert cli.main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("columns", [72, 140])
def test_every_setting_is_in_a_table_as_wide_as_the_terminal(capsys, monkeypatch, system, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = printed(capsys, "settings", system).splitlines()
    assert max(map(len, lines)) <= columns
    first = {line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "}
    kinds = [SYSTEMS[system].link_config, JobSettings]
    assert {field.name for kind in kinds for field in dataclasses.fields(kind)} <= first
    predict = {field.name for field in dataclasses.fields(SYSTEMS[system].predict_config)}
    assert predict <= first if SYSTEMS[system].predict_version else not predict & first


def test_settings_as_json(capsys):
    """The stage is what a change costs: one that changes no row is the run's."""
    found = {
        each["name"]: each for each in json.loads(printed(capsys, "settings", "oracle", "--json"))
    }
    assert found["truth"]["required"] and found["truth"]["file"]
    assert found["drop"] == {
        "name": "drop",
        "stage": "predict",
        "default": 0.0,
        "required": False,
        "allowed": "0 to 1",
        "file": False,
        "meaning": "Share of instances that are missed; 1 finds nothing.",
    }
    stages = {name: found[name]["stage"] for name in ("seed", "min_len", "batch_size", "trace")}
    assert stages == {"seed": "predict", "min_len": "link", "batch_size": "run", "trace": "run"}


def test_systems_as_json(capsys):
    found = {each["name"]: each for each in json.loads(printed(capsys, "systems", "--json"))}
    assert list(found) == list(SYSTEMS)
    assert {name for name, each in found.items() if not each["predicts"]} == {
        name for name, system in SYSTEMS.items() if not system.predict_version
    }
    assert found["idol"]["weights"] == "shipped:idol"
    assert found["idol"]["licence"] == "Apache-2.0"
    card = Path(found["idol"]["card"]).read_text()
    assert card.startswith("# idol") and "under the project's licence" in card
    assert found["flow_match"]["takes_weights"] and found["flow_match"]["weights"] is None
    assert found["minvis"]["reads"] == [["prev_query", "embedding"]]


def test_systems_for_people(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    *lines, _, hint = printed(capsys, "systems").splitlines()
    assert [line.split()[0] for line in lines] == list(SYSTEMS)
    line = next(line for line in lines if line.startswith("minvis"))
    assert "  link  " in line and line.endswith("Its linker reads prev_query or embedding.")
    assert "Weights: shipped:idol (Apache-2.0; " in next(x for x in lines if x.startswith("idol"))
    assert "reelmask settings SYSTEM" in hint


def test_neither_loads_torch():
    code = (
        "import sys\nfrom jobs import cli\n"
        "assert cli.main(['systems']) == cli.main(['settings', 'idol']) == 0\n"
        "assert not {'torch', 'ray'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["label", "x", "--out", "o", "--system", "idol", "--set"], "--set '': expected key=value"),
        (["plan", "x", "--system", "idol", "--set", "nms"], "--set 'nms': expected key=value"),
        (["plan", "x", "--system", "idol", "--set", "nmss=1"], "'nmss'; did you mean 'nms'?"),
        (["link", "x", "--out", "o", "--system", "idol", "--set"], "--set '': expected key=value"),
        (["link", "x", "--out", "o", "--system", "idol", "--set", "nms=1"], "setting 'nms'"),
    ],
)
def test_mistakes_point_to_the_list(capsys, words, says):
    assert cli.main(words) == 2
    message = capsys.readouterr().err
    assert says in message and message.endswith("; `reelmask settings idol` lists all keys\n")


def test_an_unknown_system(capsys):
    assert cli.main(["settings", "idle"]) == 2
    assert "did you mean 'idol'" in capsys.readouterr().err


def test_a_table_wraps_the_cells_between(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert list(table([("a", "one two three four five", "x " * 30)])) == [
        "a  one two three    " + ("x " * 20).strip(),
        "   four five        " + ("x " * 10).strip(),
    ]
