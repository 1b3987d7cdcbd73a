"""Linking begins while other units are still being predicted: seen in the trace of a run."""

import json

import pytest

from tests.support.clips import write_clips
from tests.support.nodes import waiting_run
from tests.support.results import run_record

pytestmark = pytest.mark.xdist_group("ray")

NUM_FRAMES = 40 * 24


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trace") / "clips"
    write_clips(folder, 40, num_frames=24, seed=2)
    return folder


def events(trace):
    """Spans of a trace, each with its lane's name; the format leaves the last bracket out."""
    rows = json.loads(trace.read_text().rstrip().rstrip(",") + "]")
    lanes = {row["tid"]: row["args"]["name"] for row in rows if row["ph"] == "M"}
    return [row | {"lane": lanes[row["tid"]]} for row in rows if row["ph"] == "X"]


@pytest.mark.parametrize("runner", ["ray", "inline"])
def test_tracks_are_committed_before_half_of_the_prediction_is_done(clips, tmp_path, runner):
    out, trace = tmp_path / "out", tmp_path / "trace.json"
    words = ("--runner", runner, "--set", f"trace={trace}", "--set", "ms=20")
    batches = ("--set", "link_rows=1000", "--set", "shard_frames=24")
    with waiting_run(clips, out, *words, *batches) as run:
        _, errors = run.communicate(timeout=600)
        assert run.returncode == 0, errors
    links = [event for event in events(trace) if event["lane"] == "link"]
    units = [event for event in events(trace) if event["lane"] != "link"]
    assert sum(unit["args"]["frames"] for unit in units) == NUM_FRAMES
    assert sum(link["args"]["videos"] for link in links) == 40
    first_link = min(link["ts"] + link["dur"] for link in links)
    before = sum(u["args"]["frames"] for u in units if u["ts"] + u["dur"] <= first_link)
    assert before < NUM_FRAMES / 2
    assert abs(run_record(out)["frames_before_first_link"] - before) <= 24
