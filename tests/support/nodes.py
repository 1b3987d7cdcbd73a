"""A Ray cluster of several raylets on this machine, whose nodes can be killed and replaced."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import psutil
from ray._private.node import Node
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


def raylet_pid(node: Node) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def kill_busy_node(cluster: Cluster, run: subprocess.Popen[str], hold: Path) -> None:
    """SIGKILL of the raylet of a node in the middle of a unit, as when a spot machine goes.

    The wait model stands still meanwhile: a worker between two units, or one that ends its unit
    before it dies, would lose nothing, and prove nothing.
    """
    hold.mkdir()
    while not (standing := [int(path.name) for path in hold.iterdir()]):
        assert run.poll() is None, "it ended before its node was killed"
        time.sleep(0.05)
    worker = psutil.Process(standing[0])
    raylets = {parent.pid for parent in worker.parents()}
    node = next(node for node in cluster.worker_nodes if raylet_pid(node) in raylets)
    cluster.remove_node(node, allow_graceful=False)
    worker.wait(600)
    shutil.rmtree(hold.rename(hold.with_name("let go")))  # at once: workers write into it


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
