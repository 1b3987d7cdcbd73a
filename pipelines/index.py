"""Probing on the cluster: each of the index's threads asks a process somewhere else."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import ray

from vis_core import addresses
from vis_core.stages.index import Probe
from vis_core.types import VideoInfo
from vis_core.video.limits import Limits
from vis_core.video.reader import VideoReader
from vis_core.video.sources import Source

PROBE_CPUS = 0.5  # demuxing waits for storage more than it computes


@contextlib.contextmanager
def probing_on_cluster(limits: Limits) -> Iterator[Probe]:
    """A probe whose decoder child lives on some node."""
    remote: Any = ray.remote(num_cpus=PROBE_CPUS, max_restarts=-1, max_task_retries=3)(_Prober)
    prober = remote.remote(limits, addresses.secrets())
    try:
        yield functools.partial(_ask, prober)
    finally:
        ray.kill(prober)


def _ask(prober: Any, source: Source) -> VideoInfo:
    answer: VideoInfo = ray.get(prober.probe.remote(source))
    return answer


class _Prober:
    def __init__(self, limits: Limits, secrets: addresses.Secrets) -> None:
        addresses.learn(secrets)
        self._reader = VideoReader(limits)

    def probe(self, source: Source) -> VideoInfo:
        return self._reader.probe(source)
