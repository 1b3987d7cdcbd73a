"""Linking predictions that are there, on Ray: tasks over an index, and groups of a shuffle."""

import pytest

from tests.e2e.test_relink import shuffled
from tests.support.results import reelmask, result_digest
from vis_core.schema import FileMetadata
from vis_core.stages import relink
from vis_core.systems import SYSTEMS

pytestmark = [pytest.mark.usefixtures("ray_session"), pytest.mark.xdist_group("ray")]


@pytest.fixture(scope="module")
def labelled(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("labelled") / "out"
    sets = ("--set", f"truth={clips}/truth.json", "--set", "shard_frames=7")
    assert reelmask("label", clips, "--out", out, "--system", "oracle", *sets).returncode == 0
    return out


def job(frames, out):
    system = SYSTEMS["oracle"]
    return relink.Relink(
        predictions=relink.open_predictions(str(frames), SYSTEMS),
        system=system,
        link_config=system.link_config(),
        out=str(out),
        metadata=FileMetadata(system="oracle"),
        row_group_bytes=1 << 20,
    )


def test_tasks_and_groups_give_the_tracks_of_label(labelled, tmp_path):
    from pipelines.relink import relink_by_groups, relink_on_ray

    frames = shuffled(labelled, tmp_path / "rows")
    linked = relink_on_ray(job(frames, tmp_path / "tasks"), link_rows=300)
    assert len(linked) == 8 and len({row["file"] for row in linked}) > 1
    assert result_digest(tmp_path / "tasks") == result_digest(labelled)
    linked = relink_by_groups(str(frames), job(frames, tmp_path / "groups"))
    assert len(linked) == 8
    assert result_digest(tmp_path / "groups") == result_digest(labelled)
