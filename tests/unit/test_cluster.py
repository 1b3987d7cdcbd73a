"""Profiles leave room for linking and for a lost node's workers; nobody waits for ever."""

import pytest

from cluster.capacity import CapacityWatch
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


def test_more_actors_than_fit_is_an_error():
    with pytest.raises(UsageError, match="set fewer num_actors"):
        choose({"CPU": 2}, 1000)


@pytest.mark.parametrize("num_nodes", [2, 3, 10])
def test_workers_of_a_lost_node_fit_on_the_others(num_nodes):
    """Nodes of one CPU each: whatever node goes, its worker finds a place."""
    profile = choose({"CPU": num_nodes}, num_nodes=num_nodes)
    assert profile.num_actors == num_nodes
    per_node = int(1 / profile.actor_cpus)
    assert per_node * (num_nodes - 1) >= num_nodes


class Cluster:
    """Resources and a clock in a test's hands."""

    def __init__(self, gpus):
        self.gpus = gpus
        self.now = 0.0

    def watch(self, patience=60.0):
        profile = choose({"CPU": 16, "GPU": self.gpus})
        return CapacityWatch(
            profile,
            patience,
            resources=lambda: {"CPU": 16.0, "GPU": float(self.gpus)},
            clock=lambda: self.now,
        )


def lost_after(cluster, watch, seconds, *, answers_every=None, until=1000):
    """The second at which the watch gives up, None if it does not."""
    for second in range(1, until):
        cluster.now += 1
        if answers_every and second % answers_every == 0 and second < seconds:
            watch.answered(5.0)
        if watch.is_lost():
            return second
    return None


def test_a_whole_cluster_is_never_given_up():
    cluster = Cluster(gpus=4)
    assert lost_after(cluster, cluster.watch(), 0) is None


def test_a_lost_node_is_given_up_after_the_others_have_gone_quiet():
    cluster = Cluster(gpus=4)
    watch = cluster.watch()
    cluster.gpus = 3
    given_up = lost_after(cluster, watch, seconds=300, answers_every=5)
    assert 355 <= given_up <= 365, "60 seconds after the last answer"


def test_a_replaced_node_is_not_given_up():
    cluster = Cluster(gpus=4)
    watch = cluster.watch()
    cluster.gpus = 3
    assert lost_after(cluster, watch, 0, until=50) is None
    cluster.gpus = 4
    assert lost_after(cluster, watch, 0) is None


def test_long_units_get_more_time_than_the_patience():
    cluster = Cluster(gpus=4)
    watch = cluster.watch(patience=10.0)
    watch.answered(100.0)
    cluster.gpus = 3
    assert lost_after(cluster, watch, 0) >= 300
