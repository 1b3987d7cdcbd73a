"""docs/add_a_system.md as a stranger follows it: its code, copied, is a system that runs."""

import importlib
import inspect
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import cli
from tests.contract import test_systems as contract
from tests.support.clips import write_video
from vis_core import config, systems
from vis_core.errors import UsageError

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "add_a_system.md").read_text(encoding="utf-8")
NAME = "bright"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def bright(tmp_path, monkeypatch):
    """The page's system, copied into a folder that counts as one of `vis_core/systems`."""
    for block in blocks("python"):
        path = tmp_path / "copied" / block.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block)
    more = str(tmp_path / "copied" / "vis_core" / "systems")
    monkeypatch.setattr(systems, "__path__", [*systems.__path__, more])
    module = importlib.import_module(f"vis_core.systems.{NAME}")
    monkeypatch.setitem(systems.SYSTEMS, NAME, module.BRIGHT)
    yield module.BRIGHT
    for name in [name for name in sys.modules if name.startswith(f"vis_core.systems.{NAME}")]:
        del sys.modules[name]
    del systems.bright


@pytest.fixture
def clips(tmp_path):
    """Two squares on black: one for all 20 frames, one for the last 12."""
    frames = np.zeros((20, 48, 64, 3), np.uint8)
    for t in range(20):
        frames[t, 4:16, 2 + t : 14 + t] = 220
        if t >= 8:
            frames[t, 28:40, 40 - t : 54 - t] = 180
    folder = tmp_path / "clips"
    folder.mkdir()
    write_video(folder / "a.mp4", frames, codec="libx264", gop=5)
    return folder


def table(out: Path, name: str):
    files = sorted((out / name).glob("*.parquet"))
    assert files, f"{out} has no {name}"
    return pq.read_table(files)


def test_the_page_is_about_80_lines_of_code():
    lines = [line for block in blocks("python") for line in block.splitlines()]
    code = [
        line for line in lines if line.strip() and not line.startswith(("#", '"', "from", "imp"))
    ]
    assert 60 <= len(code) <= 90


def test_the_commands_of_the_page_run(bright, clips, tmp_path, monkeypatch, capsys):
    """Both squares become tracks, in the first run and in the second."""
    monkeypatch.chdir(tmp_path)
    (commands,) = blocks("sh")
    for line in commands.splitlines():
        program, *words = shlex.split(line)
        assert program == "reelmask" and cli.main(words) == 0, line
    told = capsys.readouterr().out
    assert "What is brighter than a level" in told and "min_iou" in told
    for out in ("out", "again"):
        tracks = table(tmp_path / out, "tracks").sort_by("start_frame").to_pylist()
        assert [(t["start_frame"], t["stop_frame"]) for t in tracks] == [(0, 20), (8, 20)]
        assert [t["num_frames"] for t in tracks] == [20, 12]


def test_its_rows_do_not_depend_on_how_videos_are_cut(bright, clips, tmp_path):
    found = []
    for shard_frames in (3, 100):
        out = tmp_path / f"{shard_frames}"
        words = ["label", str(clips), "--out", str(out), "--system", NAME]
        assert cli.main([*words, "--set", f"shard_frames={shard_frames}"]) == 0
        found.append([table(out, name).to_pylist() for name in ("tracks", "masks")])
    assert found[0] == found[1]


def test_it_keeps_the_contract(bright):
    """All that is asked of a system in the list."""
    checks = [
        check
        for name, check in vars(contract).items()
        if name.startswith("test_") and list(inspect.signature(check).parameters) == ["system"]
    ]
    assert len(checks) >= 8
    for check in checks:
        check(bright)
    for kind in (bright.predict_config, bright.link_config):
        contract.test_defaults_are_legal(NAME, kind)
        for field in contract.dataclasses.fields(kind):
            contract.test_a_setting_says_what_it_does(NAME, kind, field)
            contract.test_a_value_out_of_bounds_is_refused(NAME, kind, field)
            contract.test_a_setting_round_trips_and_counts(NAME, kind, field)
    with pytest.raises(UsageError, match="level: expected 1 to 254, got 255"):
        config.build(bright.predict_config, {"level": "255"})


def test_names_on_the_page_exist():
    """Files it points to are there, and the list it changes looks as it shows."""
    for name in set(re.findall(r"`((?:vis_core|tests|docs)/[\w/.]+)`", PAGE)):
        if NAME not in name:
            assert (REPO / name).exists(), name
    listed = (REPO / "vis_core" / "systems" / "__init__.py").read_text()
    assert "_ALL = (\n    FLOW_MATCH,\n" in listed
    for link in re.findall(r"\]\(([\w.]+)\)", PAGE):
        assert (REPO / "docs" / link).is_file()
    for module, names in {
        "vis_core.models.slots": ("calls", "filled"),
        "vis_core.models.numerics": ("exact",),
        "vis_core.models.weights": ("read_weights",),
    }.items():
        assert all(hasattr(importlib.import_module(module), name) for name in names)
