"""A Ray cluster of several raylets on this machine, whose nodes can be killed and replaced."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from ray.cluster_utils import Cluster

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


def kill_node(cluster: Cluster, number: int = 0) -> None:
    """SIGKILL of a worker node's raylet, as when a spot machine goes."""
    cluster.remove_node(
        sorted(cluster.worker_nodes, key=lambda node: node.node_id)[number], allow_graceful=False
    )


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
