"""propose_reduce on Ray gives the inline runner's rows: whole windows go to one worker each."""

import pytest

from tests.support.results import result_digest, table
from vis_core.data.synth import SynthConfig, write_data_set
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.schema import content_digest
from vis_core.systems import get_system

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.xdist_group("ray")]

SETTINGS = {"window_frames": 5, "window_overlap": 2, "num_key_frames": 2}


def test_windows_give_the_same_rows_on_any_worker(tmp_path):
    from pipelines.label import run_ray

    clips = tmp_path / "clips"
    config = SynthConfig(preset="plain", height=180, width=320)
    write_data_set(config, clips, seed=2_000_200, num_videos=2)

    def job(out, **settings):
        member = MemberSpec(system=get_system("propose_reduce"), settings=SETTINGS)
        return make_job([str(clips)], str(out), [member], settings=settings, every=4)

    assert run_inline(job(tmp_path / "inline")).exit_code == 0
    assert run_ray(job(tmp_path / "ray", num_actors=2, shard_frames=5)).exit_code == 0
    digests = [
        (content_digest(table(tmp_path / name, "frames")), result_digest(tmp_path / name))
        for name in ("inline", "ray")
    ]
    assert digests[0] == digests[1]
    assert table(tmp_path / "inline", "frames")["window"].to_pylist().count(1) > 0
