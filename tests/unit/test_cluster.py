"""Profiles leave room for linking, whatever the cluster."""

import pytest

from cluster.profile import choose
from vis_core.errors import UsageError


@pytest.mark.parametrize("cpus", [1, 2, 4, 16, 64])
@pytest.mark.parametrize("gpus", [0, 1, 8])
@pytest.mark.parametrize("num_actors", [None, 1, 4])
def test_actors_and_links_fit(cpus, gpus, num_actors):
    try:
        profile = choose({"CPU": cpus, "GPU": gpus}, num_actors)
    except UsageError as error:
        assert gpus and cpus <= 4, error
        return
    used = profile.num_actors * profile.actor_cpus + profile.reserved_cpus
    assert used < cpus and profile.actor_cpus > 0 and profile.reason
    assert profile.num_actors * profile.actor_gpus <= gpus
    assert profile.num_actors == (num_actors or (gpus if gpus else cpus))


def test_no_cpu_is_an_error():
    with pytest.raises(UsageError, match="CPUs free"):
        choose({"GPU": 1})
