"""Workers, nodes and drivers that die under the Ray runner: the same rows, and nobody hangs."""

import time

import pytest

from tests.support.clips import write_clips
from tests.support.nodes import cluster_of, kill_busy_node, waiting_run
from tests.support.results import open_failures, reelmask, result_digest, run_record, table

pytestmark = pytest.mark.xdist_group("ray")

UNIT = 24
FRAMES = 16 * 48
SETTINGS = ("--set", f"shard_frames={UNIT}", "--set", "ms=15")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Sixteen clips, and what the inline runner makes of them."""
    folder = tmp_path_factory.mktemp("nodes")
    write_clips(folder / "clips", 16, num_frames=48, seed=1)
    words = ("--runner", "inline", "--set", "ms=0")
    with waiting_run(folder / "clips", folder / "clean", *words) as run:
        assert run.wait(600) == 0, run.stderr.read()
    return folder


def saved_parts(out):
    return len(list(out.glob("frames/part-*.parquet")))


def wait_for_parts(run, out, number):
    """Until so many units are done: the middle of the prediction."""
    while saved_parts(out) < number:
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.05)


def check(corpus, out, *, lost_units):
    assert result_digest(out) == result_digest(corpus / "clean")
    assert open_failures(out) == []
    record = run_record(out)
    assert record["frames_recomputed"] <= lost_units * UNIT
    assert all(account["holds"] for account in record["conservation"])
    keys = table(out, "frames").select(["video_id", "frame_index"]).to_pylist()
    assert len({(row["video_id"], row["frame_index"]) for row in keys}) == len(keys) == FRAMES
    return record


@pytest.mark.parametrize(
    "replaced",
    [False, pytest.param(True, marks=pytest.mark.chaos)],
    ids=["without_replacement", "with_replacement"],
)
def test_a_node_dies(corpus, tmp_path, replaced):
    """Its worker goes to another node; nobody blames the video it was at."""
    out, hold = tmp_path / "out", tmp_path / "hold"
    words = ("--set", f"hold={hold}", *SETTINGS)
    with (
        cluster_of(3) as cluster,
        waiting_run(corpus / "clips", out, "--address", cluster.address, *words) as run,
    ):
        wait_for_parts(run, out, 6)
        kill_busy_node(cluster, run, hold)
        if replaced:
            cluster.add_node(num_cpus=1)
        _, errors = run.communicate(timeout=600)
        assert run.returncode == 0, errors
    record = check(corpus, out, lost_units=3)
    assert record["failed_attempts"] == 0 and record["frames_recomputed"] > 0


@pytest.mark.chaos
def test_a_node_with_an_accelerator_dies_and_is_not_replaced(corpus, tmp_path):
    """Its worker fits nowhere else: what it held goes to the others, after some patience."""
    out, hold = tmp_path / "out", tmp_path / "hold"
    words = ("--set", "replacement_seconds=5", "--set", f"hold={hold}", *SETTINGS)
    with (
        cluster_of(3, num_gpus=1, num_cpus=2) as cluster,
        waiting_run(corpus / "clips", out, "--address", cluster.address, *words) as run,
    ):
        wait_for_parts(run, out, 6)
        kill_busy_node(cluster, run, hold)
        _, errors = run.communicate(timeout=600)
        assert run.returncode == 0, errors
    assert "planned" not in errors
    record = check(corpus, out, lost_units=2)
    assert record["frames_recomputed"] > 0


PLACES = ["set_up", "before_write@2", "after_frame@30", "write_rows@3", "after_segment@2"]
PLACES += ["after_write@2", "before_publish@3", "after_publish@2", "after_commit@2", "replace@2"]
QUICK = ("after_frame@30", "after_commit@2")


@pytest.mark.parametrize(
    "place",
    [place if place in QUICK else pytest.param(place, marks=pytest.mark.chaos) for place in PLACES],
)
def test_a_worker_dies_at_a_failpoint(corpus, tmp_path, place):
    """One worker, once. Where its unit was not saved it counts as an attempt on it, and no more."""
    name, _, hit = place.partition("@")
    once, out = tmp_path / "once", tmp_path / "out"
    entry = f"{name}=kill@{hit or 1}"
    with (
        cluster_of(1, failpoints=entry, once=str(once), num_cpus=2) as cluster,
        waiting_run(corpus / "clips", out, "--address", cluster.address, *SETTINGS) as run,
    ):
        _, errors = run.communicate(timeout=600)
        assert run.returncode == 0, errors
    assert once.exists(), f"{place} was never reached"
    record = check(corpus, out, lost_units=1)
    assert record["failed_attempts"] <= 1
    if name in ("after_frame", "after_write"):
        assert record["frames_recomputed"] > 0


@pytest.mark.parametrize(
    "parts",
    [3, pytest.param(14, marks=pytest.mark.chaos), pytest.param(25, marks=pytest.mark.chaos)],
)
def test_the_driver_dies(corpus, tmp_path, parts):
    """Run again: what its workers saved is adopted, what they were at is lost, two units."""
    out = tmp_path / "out"
    with waiting_run(corpus / "clips", out, *SETTINGS) as run:
        wait_for_parts(run, out, parts)
        run.kill()
        run.wait()
    saved = saved_parts(out)
    with waiting_run(corpus / "clips", out, *SETTINGS) as run:
        _, errors = run.communicate(timeout=600)
        assert run.returncode == 0, errors
    record = check(corpus, out, lost_units=2)
    assert record["frames_predicted"] <= FRAMES - saved * UNIT


def test_a_fatal_device_error_is_blamed_on_its_video(corpus, tmp_path):
    """The worker ends itself, three times; the video is given up, the others are done."""
    out = tmp_path / "out"
    words = ("--set", "ms=0", "--set", "fault=clip_0003", "--set", "shard_frames=48")
    with waiting_run(corpus / "clips", out, *words) as run:
        _, errors = run.communicate(timeout=600)
    assert run.returncode == 3, errors
    (failure,) = open_failures(out)
    assert (failure["video_id"], failure["attempts"]) == ("clip_0003", 3)
    assert "device-side assert" in failure["message"] and failure["stage"] == "predict"
    assert run_record(out)["frames_predicted"] == FRAMES - 48


def test_workers_that_only_die_end_the_run(corpus, tmp_path):
    """A machine that kills every worker must not blame the whole corpus."""
    out = tmp_path / "out"
    words = ("label", corpus / "clips", "--out", out, "--system", "oracle", "--runner", "ray")
    sets = ("--set", "truth=formula:2", "--set", "max_deaths_in_a_row=3", "--set", "shard_frames=8")
    done = reelmask(*words, *sets, failpoints="after_frame=kill@1", timeout=600)
    assert done.returncode == 1 and "3 workers died in a row" in done.stderr
    assert done.stdout == ""
