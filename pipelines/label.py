"""The Ray runner: the same steps as `vis_core.local`, with actors that predict and tasks that link.

Ray Data carries the plan, in waves of one unit per block, and brings receipts back. The loop that
receives them never waits: the manifest is written by a thread, links are tasks that are polled.
"""

from __future__ import annotations

import collections
import logging
import time
from collections.abc import Iterator, Sequence
from typing import cast

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from cluster import data_context
from cluster.connection import connected
from cluster.profile import Profile, choose
from pipelines.actor import ShardActor
from pipelines.units import unit_to_row
from vis_core import errors
from vis_core.errors import ReelmaskError
from vis_core.job import Job, file_metadata
from vis_core.progress import Progress, Silence
from vis_core.stages.link import SettledVideo, link_videos
from vis_core.stages.plan import WorkPlan
from vis_core.stages.predict import UnitFailed
from vis_core.stages.run import Run, RunReport, open_run
from vis_core.store.folder import open_folder
from vis_core.store.segments import Receipt, Unit, receipt_from_json
from vis_core.video.reader import probing

logger = logging.getLogger(__name__)

WAVE_UNITS = 20_000  # a million rows in one Dataset cost half a minute and a gigabyte


def run_ray(job: Job, progress: Progress | None = None, *, address: str | None = None) -> RunReport:
    """Labels everything the job names on a Ray cluster; the same rows as the inline runner."""
    progress = progress or Silence()
    with open_run(job, "ray") as run, connected(address):
        run.index(lambda: probing(job.settings.limits), progress)
        run.recover()
        linking = Linking(run, choose(ray.cluster_resources(), job.settings.num_actors))
        while (plan := run.plan()).num_units:
            progress.begin("predict", plan.num_frames, "frames")
            for first in range(0, plan.num_units, WAVE_UNITS):
                profile = choose(ray.cluster_resources(), job.settings.num_actors)
                logger.info("profile %s: %s", profile.name, profile.reason)
                _predict_wave(run, plan, first, profile, linking, progress)
            progress.end()
            linking.wait()
        linking.start(everything=True)
        linking.wait()
        return run.finish()


def _predict_wave(
    run: Run, plan: WorkPlan, first: int, profile: Profile, linking: Linking, progress: Progress
) -> None:
    units = {unit.part: unit for unit in plan.units(run.job, first, WAVE_UNITS)}
    for row in _receipts(run, units, profile):
        unit = units[row["part"]]
        if row["receipt"] is not None:
            receipt: Receipt = receipt_from_json(row["receipt"])
            run.record(receipt)
            progress.advance(sum(segment.num_rows for segment in receipt.segments))
        elif row["stage"] is not None:
            run.failed(UnitFailed(unit, row["stage"], row["message"]))
            progress.note(failures=run.report.failed_attempts)
        else:
            raise WorkerStopped(row["message"], row["exit_code"])
        linking.start()
        linking.collect()


class WorkerStopped(ReelmaskError):
    """A worker met an error that ends the run; its exit code is the run's."""

    def __init__(self, message: str, exit_code: int | None) -> None:
        super().__init__(message)
        self.exit_code = errors.EXIT_FAILED if exit_code is None else exit_code


def _receipts(run: Run, units: dict[str, Unit], profile: Profile) -> Iterator[dict[str, str]]:
    """Streams one row per unit, as they are done."""
    data_context.configure(profile)
    plan = ray.data.from_arrow([unit_to_row(unit) for unit in units.values()])
    done = plan.map_batches(
        ShardActor,
        fn_constructor_kwargs={"job": run.job, "metadata": run.metadata},
        batch_size=1,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=min(profile.num_actors, len(units))),
        num_cpus=profile.actor_cpus,
        num_gpus=profile.actor_gpus,
    )
    # The default batch of 256 would hold every receipt back until the end.
    for batch in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield from cast(pa.Table, batch).to_pylist()


class Linking:
    """Link tasks beside the prediction: started when videos settle, polled, never waited for."""

    def __init__(self, run: Run, profile: Profile) -> None:
        self._run = run
        self._slots = profile.link_slots
        self._task = ray.remote(num_cpus=profile.link_cpus, max_retries=3)(_link_batch)
        self._batches: collections.deque[list[SettledVideo]] = collections.deque()
        self._running: dict[ray.ObjectRef[tuple[pa.Table, float]], None] = {}

    def start(self, *, everything: bool = False) -> None:
        """Hands out what is ready, as far as there are slots."""
        self._batches.extend(self._run.ready(everything=everything))
        while self._batches and len(self._running) < self._slots:
            batch = self._batches.popleft()
            self._running[self._task.remote(self._run.job, batch)] = None

    def collect(self, timeout: float | None = 0) -> None:
        """Commits the links that are done."""
        if not self._running:
            return
        done, _ = ray.wait(list(self._running), timeout=timeout)
        for reference in done:
            del self._running[reference]
            rows, seconds = ray.get(reference)
            self._run.linked(rows, seconds)

    def wait(self) -> None:
        """Until everything handed out is linked; only between waves and at the end."""
        while self._running or self._batches:
            self.start()
            self.collect(timeout=None)


def _link_batch(job: Job, batch: Sequence[SettledVideo]) -> tuple[pa.Table, float]:
    started = time.monotonic()
    rows = link_videos(job, open_folder(job.out), batch, metadata=file_metadata(job))
    return rows, time.monotonic() - started
