"""Kills at every failpoint and at random times: nothing is lost, nothing is there twice."""

import random
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.clips import write_clips
from tests.support.results import (
    open_failures,
    reelmask,
    result_digest,
    run_record,
    start,
)

UNIT = 8  # frames
NUM_FRAMES = 6 * 12
LOSES_A_UNIT = ("before_write", "write_rows", "after_frame", "after_segment", "after_write")
PLACES = [
    "after_index",
    "after_plan",
    "set_up",
    "before_write",
    "write_rows@4",
    "after_frame@13",
    "after_segment@3",
    "after_write@2",
    "before_publish@5",
    "after_publish@3",
    "after_commit@6",
    "before_flush@2",
    "after_flush",
    "replace@5",
    "before_link",
    "before_results",
    "after_results",
    "after_link",
    "after_links",
    "before_tables",
    "after_tables",
    "before_sweep",
    "before_compact",
    "after_compact",
    "after_sweep",
]
# The others are for `make chaos`.
QUICK = {"after_frame@13", "after_write@2", "after_publish@3", "after_commit@6", "after_flush"}
QUICK |= {"before_link", "after_links", "before_tables", "before_sweep", "after_compact"}


def words(clips, out):
    truth = clips / "truth.json"
    job = ("label", clips, "--out", out, "--system", "oracle", "--set", f"truth={truth}")
    return (*job, "--set", "proposals=true", "--set", f"shard_frames={UNIT}")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_clips(folder / "clips", 6, num_frames=12, seed=3)
    assert reelmask(*words(folder / "clips", folder / "clean")).returncode == 0
    assert reelmask("verify", folder / "clean", "--deep").returncode == 0
    return folder


def saved_frames(out):
    """Rows of whole parts: what the killed run got done, whether or not it could say so."""
    parts = Path(out).glob("frames/part-*.parquet")
    return sum(pq.ParquetFile(part).metadata.num_rows for part in parts)


def check(corpus, out, kills):
    """After any number of kills one more run gives the clean result, at the price of the kills."""
    saved = saved_frames(out)
    done = reelmask(*words(corpus / "clips", out))
    assert done.returncode == 0, done.stderr
    assert result_digest(out) == result_digest(corpus / "clean")
    assert open_failures(out) == []
    record = run_record(out)
    assert record["frames_recomputed"] <= kills * UNIT
    # Seen from outside, not from the run's own count: nothing that was saved is done again.
    assert record["frames_predicted"] == NUM_FRAMES - saved
    assert all(account["holds"] for account in record["conservation"])
    checked = reelmask("verify", out, "--deep")
    assert checked.returncode == 0, checked.stdout
    return record


@pytest.mark.parametrize(
    "place",
    [place if place in QUICK else pytest.param(place, marks=pytest.mark.chaos) for place in PLACES],
)
def test_killed_at_a_failpoint(corpus, tmp_path, place):
    """SIGKILL there, then the same command: same rows, nothing quarantined."""
    name, _, hit = place.partition("@")
    out = tmp_path / "out"
    armed = f"{name}=kill@{hit or 1}"
    killed = reelmask(*words(corpus / "clips", out), failpoints=armed)
    assert killed.returncode == -9, f"{place} was never reached: {killed.stderr}"
    record = check(corpus, out, kills=1)
    if name in LOSES_A_UNIT:
        assert record["frames_recomputed"] > 0, "the count of lost work says nothing was lost"


def test_killed_many_times_in_a_row(corpus, tmp_path):
    """Each run dies a little later than the last; all of them together do the work once."""
    out = tmp_path / "out"
    kills = 0
    for hit in range(1, 9):
        kills += (
            reelmask(*words(corpus / "clips", out), failpoints="after_commit=kill@2").returncode
            == -9
        )
        kills += (
            reelmask(*words(corpus / "clips", out), failpoints=f"after_frame=kill@{hit}").returncode
            == -9
        )
    assert kills >= 8
    check(corpus, out, kills)


@pytest.mark.chaos
def test_killed_at_random_times(corpus, tmp_path):
    """Twenty kills at random times, each on a folder of its own, each followed by a whole run."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    started = time.monotonic()
    assert reelmask(*words(corpus / "clips", tmp_path / "timed")).returncode == 0
    longest = time.monotonic() - started
    recomputed, landed = 0, 0
    for number in range(20):
        out = tmp_path / f"out-{number}"
        running = start(*words(corpus / "clips", out))
        time.sleep(rng.uniform(0.3, 1.0) * longest)
        running.kill()
        landed += running.wait() == -9
        recomputed += check(corpus, out, kills=1)["frames_recomputed"]
    print(f"{landed} of 20 kills landed, {recomputed} frames recomputed")
    assert landed >= 10
