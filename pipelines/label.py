"""The Ray runner: the same steps as `vis_core.local`, with actors that predict and tasks that link.

Ray Data carries the plan, in waves of one unit per block, and brings receipts back. The loop that
receives them never waits: the manifest is written by a thread, links are tasks that are polled.
"""

from __future__ import annotations

import logging
from typing import Any

import ray

from cluster.capacity import CapacityWatch
from cluster.connection import connected
from cluster.profile import Profile, choose
from pipelines.index import PROBE_CPUS, probing_on_cluster
from pipelines.linking import Linking
from pipelines.wave import Wave
from vis_core import errors
from vis_core.errors import ReelmaskError
from vis_core.job import Job
from vis_core.progress import Progress, Silence
from vis_core.stages.plan import WorkPlan
from vis_core.stages.predict import UnitFailed
from vis_core.stages.run import Run, RunReport, open_run
from vis_core.store import in_flight
from vis_core.store.segments import Receipt, Unit, receipt_from_json
from vis_core.video.reader import probing

logger = logging.getLogger(__name__)

WAVE_UNITS = 5_000  # Ray Data keeps some 60 kB per row in the driver until a wave is done


def run_ray(job: Job, progress: Progress | None = None, *, address: str | None = None) -> RunReport:
    """Labels everything the job names on a Ray cluster; the same rows as the inline runner."""
    progress = progress or Silence()
    with open_run(job, "ray") as run, connected(address):
        profile = _profile(job)  # first of all: a cluster with no room is a mistake
        _index(run, progress, on_cluster=address is not None)
        run.recover()
        linking = Linking(run, profile)
        while not run.is_complete():
            while (plan := run.plan()).num_units:
                _predict(run, plan, linking, progress)
            linking.start(everything=True)
            linking.wait()
        return run.finish()


def _predict(run: Run, plan: WorkPlan, linking: Linking, progress: Progress) -> None:
    """One pass over the plan, wave by wave."""
    progress.begin("predict", plan.num_frames, "frames")
    for first, count in plan.waves(WAVE_UNITS):
        profile = _profile(run.job)
        logger.info("profile %s: %s", profile.name, profile.reason)
        linking.resize(profile)
        units = {unit.part: unit for unit in plan.units(run.job, first, count)}
        _Prediction(run, linking, profile, progress).work(units)
    progress.end()
    linking.wait()


def _index(run: Run, progress: Progress, *, on_cluster: bool) -> None:
    """On a cluster its nodes probe, as many files at once as they have CPUs for."""
    limits = run.job.settings.limits
    if not on_cluster:
        run.index(lambda: probing(limits), progress)
        return
    room = int(ray.cluster_resources().get("CPU", 0) / PROBE_CPUS) - 1
    workers = max(1, min(room, 128))
    run.index(lambda: probing_on_cluster(limits), progress, workers=workers)


def _profile(job: Job) -> Profile:
    num_nodes = sum(node["Alive"] for node in ray.nodes())
    return choose(ray.cluster_resources(), job.settings.num_actors, num_nodes=num_nodes)


class WorkerStopped(ReelmaskError):
    """A worker met an error that ends the run; its exit code is the run's."""

    def __init__(self, message: str, exit_code: int | None) -> None:
        super().__init__(message)
        self.exit_code = errors.EXIT_FAILED if exit_code is None else exit_code


class _Prediction:
    """The driver's loop over one wave."""

    def __init__(self, run: Run, linking: Linking, profile: Profile, progress: Progress) -> None:
        self._run = run
        self._linking = linking
        self._profile = profile
        self._progress = progress
        self._deaths_in_a_row = 0

    def work(self, units: dict[str, Unit]) -> None:
        """Until all units have answered, or a lost node is not coming back."""
        run = self._run
        watch = CapacityWatch(self._profile, run.job.settings.replacement_seconds)
        with Wave(run.job, run.report.run_id, list(units.values()), self._profile) as wave:
            for rows in wave:
                for row in rows:
                    self._take(units[row["part"]], row)
                    watch.answered(row["seconds"])
                self._linking.start()
                self._linking.collect()
                run.tell(self._progress)
                if watch.is_lost():
                    logger.warning("a node is gone and was not replaced: planning again without it")
                    break
            else:
                return
        # Of the lost node's units, and of those that ended with the wave, nobody will tell.
        run.lost(in_flight.everything(run.store.folder))

    def _take(self, unit: Unit, row: dict[str, Any]) -> None:
        if row["again"]:
            self._run.lost(unit.keys)
        if row["receipt"] is not None:
            receipt: Receipt = receipt_from_json(row["receipt"])
            self._run.record(receipt, row["worker"], row["seconds"])
            self._progress.advance(sum(segment.num_rows for segment in receipt.segments))
            self._deaths_in_a_row = 0
        elif row["stage"] is not None:
            self._run.failed(UnitFailed(unit, row["stage"], row["message"]))
            self._deaths_in_a_row += bool(row["died"])
            if self._deaths_in_a_row >= self._run.job.settings.max_deaths_in_a_row:
                raise ReelmaskError(
                    f"{self._deaths_in_a_row} workers died in a row and none finished a unit; the"
                    f" last: {row['message']}. See whether the machines have enough memory and"
                    " working devices, then run the same command again"
                )
        else:
            raise WorkerStopped(row["message"], row["exit_code"])
