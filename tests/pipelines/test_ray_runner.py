"""The Ray runner gives the inline runner's rows, whatever the shards, actors and kills."""

import itertools

import pytest

from tests.support.results import open_failures, reelmask, result_digest, table
from tests.support.tiny_net import TINY_NET
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.schema import content_digest
from vis_core.systems import get_system

# One group, one process: the tests share its Ray session.
pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.xdist_group("ray")]


def job(clips, out, system, **settings):
    return make_job([str(clips)], str(out), [MemberSpec(system=system)], settings=settings)


def oracle_settings(clips):
    truth = str(clips / "truth.json")
    return {"truth": truth, "jitter_px": 1.0, "centers": True, "ref_flow": 3, "flow": True}


def frames_digest(out):
    return content_digest(table(out, "frames"))


@pytest.fixture(scope="module")
def inline(clips, tmp_path_factory):
    """What the inline runner makes of the clips, with both systems."""
    root = tmp_path_factory.mktemp("inline")
    oracle = job(clips, root / "oracle", get_system("oracle"), **oracle_settings(clips))
    assert run_inline(oracle).exit_code == 0
    assert run_inline(job(clips, root / "tiny_net", TINY_NET)).exit_code == 0
    return root


QUICK = ((7, 2), (32, 4), (100_000, 1))
LONG = [pair for pair in itertools.product((7, 32, 100_000), (1, 2, 4)) if pair not in QUICK]
MATRIX = pytest.mark.parametrize(
    ("shard", "actors"), [*QUICK, *(pytest.param(*pair, marks=pytest.mark.chaos) for pair in LONG)]
)


@MATRIX
def test_the_oracle_gives_the_same_rows(clips, inline, tmp_path, shard, actors):
    from pipelines.label import run_ray

    settings = {**oracle_settings(clips), "shard_frames": shard, "num_actors": actors}
    report = run_ray(job(clips, tmp_path / "out", get_system("oracle"), **settings))
    assert (report.exit_code, report.frames_predicted) == (0, 160)
    assert frames_digest(tmp_path / "out") == frames_digest(inline / "oracle")
    assert result_digest(tmp_path / "out") == result_digest(inline / "oracle")


@MATRIX
def test_a_real_network_gives_the_same_rows(clips, inline, tmp_path, shard, actors):
    from pipelines.label import run_ray

    settings = {"shard_frames": shard, "num_actors": actors}
    assert run_ray(job(clips, tmp_path / "out", TINY_NET, **settings)).exit_code == 0
    assert frames_digest(tmp_path / "out") == frames_digest(inline / "tiny_net")
    assert result_digest(tmp_path / "out") == result_digest(inline / "tiny_net")


def test_a_folder_may_change_runners(clips, inline, tmp_path):
    """What one runner began the other finishes."""
    from pipelines.label import run_ray

    settings = {**oracle_settings(clips), "shard_frames": 7}
    words = ("label", clips, "--out", tmp_path / "out", "--system", "oracle")
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    assert reelmask(*words, *sets, failpoints="after_commit=kill@9").returncode == -9
    report = run_ray(job(clips, tmp_path / "out", get_system("oracle"), **settings))
    assert report.exit_code == 0 and 0 < report.frames_predicted < 160
    assert result_digest(tmp_path / "out") == result_digest(inline / "oracle")


def test_a_decoder_that_dies_is_quarantined_on_ray_too(clips, tmp_path):
    truth = f"truth={clips}/truth.json"
    words = ("label", clips, "--out", tmp_path / "out", "--system", "oracle", "--set", truth)
    done = reelmask(*words, "--runner", "ray", failpoints="decode_frame[clip_0003]=segv")
    assert done.returncode == 3, done.stderr
    (failure,) = open_failures(tmp_path / "out")
    assert (failure["video_id"], failure["attempts"]) == ("clip_0003", 3)
