"""A Ray cluster of several raylets on this machine, whose nodes can be killed and replaced."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from ray.cluster_utils import Cluster

from vis_core.store.in_flight import IN_FLIGHT

REPO = Path(__file__).parents[2]


@contextlib.contextmanager
def cluster_of(num_nodes: int, *, failpoints: str = "", once: str = "", **resources: float):
    """A head without CPUs and `num_nodes` workers; processes on them see these failpoints."""
    environment = {"PYTHONPATH": str(REPO), "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    environment |= {"REELMASK_FAILPOINTS": failpoints, "REELMASK_FAILPOINTS_ONCE": once}
    resources = {"num_cpus": 1, **resources}
    with mock.patch.dict(os.environ, environment):
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "include_dashboard": False},
        )
        try:
            for _ in range(num_nodes):
                cluster.add_node(**resources)
            cluster.wait_for_nodes()
            yield cluster
        finally:
            cluster.shutdown()


def kill_busy_node(cluster: Cluster, out: Path) -> None:
    """SIGKILL of the raylet of a node that computes, as when a spot machine goes.

    Ray may have put all workers on the other nodes; killing an empty one would prove nothing.
    """
    notes = [json.loads(path.read_text()) for path in sorted(out.glob(f"{IN_FLIGHT}/*.json"))]
    busy = {note["node"] for note in notes}
    node = next(node for node in cluster.worker_nodes if node.node_id in busy)
    cluster.remove_node(node, allow_graceful=False)


@contextlib.contextmanager
def waiting_run(clips: Path, out: Path, *words: object) -> Iterator[subprocess.Popen[str]]:
    """The wait model as a process of its own; killed if it is still there at the end."""
    command = [sys.executable, "-m", "tests.support.program", str(clips), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "REELMASK_FAILPOINTS": ""}
    process = subprocess.Popen(
        [*command, *map(str, words)],
        env=environment,
        cwd=REPO,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()
