"""IDOL on Ray gives the inline runner's rows."""

import pytest

from tests.support.idol import write_weights
from tests.support.results import result_digest, table
from tests.support.training import write_clips
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.schema import content_digest
from vis_core.systems import get_system

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.xdist_group("ray")]


def test_a_network_gives_the_same_rows_in_shards_on_two_actors(tmp_path):
    from pipelines.label import run_ray

    clips = write_clips(tmp_path / "clips", 0, 2)
    weights = write_weights(tmp_path / "w.safetensors")
    settings = {"weights": str(weights), "init_score": 0, "add_new": 0}
    member = MemberSpec(system=get_system("idol"), settings=settings)
    runs = (("inline", run_inline, {}), ("ray", run_ray, {"shard_frames": 7, "num_actors": 2}))
    for name, run, how in runs:
        report = run(make_job([str(clips)], str(tmp_path / name), [member], settings=how))
        assert (report.exit_code, report.frames_predicted) == (0, 72)
    frames = [content_digest(table(tmp_path / name, "frames")) for name in ("inline", "ray")]
    assert frames[0] == frames[1]
    assert result_digest(tmp_path / "inline") == result_digest(tmp_path / "ray")
