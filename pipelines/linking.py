"""Link tasks beside the prediction: started when videos settle, polled, never waited for."""

from __future__ import annotations

import collections
import logging
import time
from collections.abc import Sequence

import pyarrow as pa
import ray

from cluster.profile import Profile
from vis_core.job import Job, file_metadata
from vis_core.stages.link import SettledVideo, failed_links, link_videos
from vis_core.stages.run import Run
from vis_core.store.damage import DamagedFile
from vis_core.store.folder import open_folder
from vis_core.store.lease import Witness

logger = logging.getLogger(__name__)

_TASK_RETRIES = 3  # of a task whose worker or node died; an exception of a linker is a row


class Linking:
    """Owns the link tasks of a run."""

    def __init__(self, run: Run, profile: Profile) -> None:
        self._run = run
        self._task = ray.remote(max_retries=_TASK_RETRIES)(_link_batch)
        self._batches: collections.deque[list[SettledVideo]] = collections.deque()
        self._running: dict[ray.ObjectRef[tuple[pa.Table, float]], list[SettledVideo]] = {}
        self.resize(profile)

    def resize(self, profile: Profile) -> None:
        """As many tasks at once as the cluster has room for now."""
        self._slots, self._cpus = profile.link_slots, profile.link_cpus

    def start(self, *, everything: bool = False) -> None:
        """Hands out what is ready, as far as there are slots."""
        self._batches.extend(self._run.ready(everything=everything))
        while self._batches and len(self._running) < self._slots:
            batch = self._batches.popleft()
            task = self._task.options(num_cpus=self._cpus)
            about = (self._run.report.run_id, self._run.witness)
            self._running[task.remote(self._run.job, batch, *about)] = batch

    def collect(self, timeout: float | None = 0) -> None:
        """Commits the links that are done."""
        if not self._running:
            return
        done, _ = ray.wait(list(self._running), timeout=timeout)
        for reference in done:
            batch = self._running.pop(reference)
            try:
                rows, seconds = ray.get(reference)
            except DamagedFile as damage:
                self._run.set_aside(damage)
            except ray.exceptions.RayTaskError:
                raise  # an error of storage or of ours: it ends the run
            except ray.exceptions.RayError as error:
                self._died(batch, error)
            else:
                self._run.linked(rows, seconds)

    def wait(self) -> None:
        """Until everything handed out is linked; only between waves and at the end."""
        while self._running or self._batches:
            self.start()
            self.collect(timeout=None)

    def _died(self, batch: list[SettledVideo], error: Exception) -> None:
        """Videos whose linking kills its process, each time: told apart, then given up."""
        logger.warning("a link task over %d videos died %d times", len(batch), _TASK_RETRIES + 1)
        if len(batch) > 1:
            self._batches.extend([settled] for settled in batch)
        else:
            message = f"the linker's process died: {type(error).__name__}"
            self._run.linked(failed_links(self._run.job, batch, message), 0.0)


def _link_batch(
    job: Job, batch: Sequence[SettledVideo], run_id: str, witness: Witness | None
) -> tuple[pa.Table, float]:
    started = time.monotonic()
    folder = open_folder(job.out)
    if witness is not None:
        folder = folder.guarded(witness.check)
    rows = link_videos(job, folder, batch, metadata=file_metadata(job), run_id=run_id)
    return rows, time.monotonic() - started
