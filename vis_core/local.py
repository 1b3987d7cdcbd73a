"""The inline runner: index → plan → predict → link → finish in one process plus its decoder child.

The Ray runner calls the same functions; this one is the oracle for it, and the way to label on a
laptop. Read `run_inline` from top to bottom: it is the whole data flow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from vis_core.errors import ReelmaskError
from vis_core.job import Job, file_metadata
from vis_core.progress import Progress, Silence
from vis_core.stages.link import link_videos
from vis_core.stages.plan import WorkPlan
from vis_core.stages.predict import MemberRuntime, UnitFailed, run_shard
from vis_core.stages.run import Run, RunReport, open_run
from vis_core.store import in_flight
from vis_core.store.damage import DamagedFile
from vis_core.store.in_flight import InFlight
from vis_core.store.segments import Unit
from vis_core.video.reader import VideoReader, probing


def run_inline(job: Job, progress: Progress | None = None) -> RunReport:
    """Labels everything the job names; killed at any point, calling it again goes on."""
    progress = progress or Silence()
    with open_run(job, "inline") as run:
        run.index(lambda: probing(job.settings.limits), progress)
        run.recover()
        runtimes: dict[str, MemberRuntime] = {}
        with VideoReader(job.settings.limits) as reader:
            while not run.is_complete():
                while (plan := run.plan()).num_units:
                    _predict(run, plan, runtimes, reader, progress)
                _link(run, everything=True)
        return run.finish()


def _predict(
    run: Run,
    plan: WorkPlan,
    runtimes: dict[str, MemberRuntime],
    reader: VideoReader,
    progress: Progress,
) -> None:
    """One pass over the plan; units that fail are planned again, on their own."""
    progress.begin("predict", plan.num_frames, "frames")
    for unit, then in _with_next(plan.units(run.job)):
        if unit.member not in runtimes:
            runtimes[unit.member] = MemberRuntime.set_up(run.job.member(unit.member))
        begun = InFlight(run_id=run.report.run_id, keys=unit.keys)
        in_flight.note(run.store.folder, "inline", begun)
        started, shown = time.monotonic(), _Shown(progress)
        try:
            receipt = run_shard(
                unit,
                runtimes[unit.member],
                run.job,
                run.store.folder,
                reader,
                metadata=run.metadata[unit.member],
                then=then if then is not None and then.member == unit.member else None,
                tell=shown.rows,
            )
        except UnitFailed as failure:
            shown.settle(0)
            run.failed(failure)
            if failure.ends_process:
                raise ReelmaskError(
                    f"{failure}; this process can use the device no more: run the same command"
                    " again to go on"
                ) from failure
        else:
            run.record(receipt, "inline", time.monotonic() - started)
            shown.settle(sum(segment.num_rows for segment in receipt.segments))
        _link(run, everything=False)
        run.tell(progress)
    progress.end()


class _Shown:
    """The rows of one unit as progress shows them: while they come, then as they are saved."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._rows = progress, 0

    def rows(self, number: int) -> None:
        self._rows += number
        self._progress.advance(number)

    def settle(self, saved: int) -> None:
        """An attempt that failed saved none; of a part that was there already none came."""
        self._progress.advance(saved - self._rows)


def _link(run: Run, *, everything: bool) -> None:
    for batch in run.ready(everything=everything):
        started = time.monotonic()
        try:
            rows = link_videos(
                run.job,
                run.store.folder,
                batch,
                metadata=file_metadata(run.job),
                run_id=run.report.run_id,
            )
        except DamagedFile as damage:
            run.set_aside(damage)
        else:
            run.linked(rows, time.monotonic() - started)


def _with_next(units: Iterator[Unit]) -> Iterator[tuple[Unit, Unit | None]]:
    """Each unit with the one after it, so that its decoding can begin."""
    current = next(units, None)
    while current is not None:
        following = next(units, None)
        yield current, following
        current = following
