"""Training on Ray: `vis_core.training.loop` in workers that Ray Train starts and replaces.

Ray Train gives processes, a process group and another try when one is lost. Checkpoints are the
loop's own, in the job's folder, which all workers must see.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import ray
import ray.train
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue

from cluster.connection import connected
from vis_core.errors import ReelmaskError, UsageError
from vis_core.progress import Progress
from vis_core.training.job import TrainJob
from vis_core.training.loop import TrainReport, train_here

logger = logging.getLogger(__name__)

_TICK_SECONDS = 0.5
_PATIENCE_SECONDS = 6 * 3600  # workers wait so long for the first one, which evaluates


def train_on_ray(job: TrainJob, progress: Progress, *, address: str | None = None) -> TrainReport:
    """Trains with `job.loop.workers` processes; a lost one is replaced, all go on together."""
    with connected(address), tempfile.TemporaryDirectory() as scratch:
        scaling = _scaling(job)
        messages = Queue(actor_options={"num_cpus": 0})
        trainer = TorchTrainer(
            _worker,
            train_loop_config={"job": job, "messages": messages},
            scaling_config=scaling,
            torch_config=TorchConfig(timeout_s=_PATIENCE_SECONDS),
            run_config=ray.train.RunConfig(
                name="reelmask",
                storage_path=scratch,  # Ray's own notes; our checkpoints are elsewhere
                failure_config=ray.train.FailureConfig(max_failures=job.loop.max_failures),
            ),
        )
        return _watched(trainer, messages, progress)


def _scaling(job: TrainJob) -> ray.train.ScalingConfig:
    """An accelerator for each worker where there are enough; or an error that counts."""
    has = ray.cluster_resources()
    workers, cpus, gpus = job.loop.workers, has.get("CPU", 0.0), int(has.get("GPU", 0))
    if 0 < gpus < workers:
        raise UsageError(f"loop: {workers} workers want a GPU each, the cluster has {gpus}")
    share = max(0.1, int(100 * (cpus - 0.2) / workers) / 100)
    if cpus < 1 or share < 0.5:
        raise UsageError(f"loop: {workers} workers do not fit in {cpus:g} CPUs; use fewer")
    logger.info(
        "training with %d workers, %g CPUs and %d GPU each: %s",
        workers,
        share,
        int(gpus > 0),
        f"the cluster has {cpus:g} CPUs and {gpus} GPUs",
    )
    return ray.train.ScalingConfig(
        num_workers=workers,
        use_gpu=gpus > 0,
        resources_per_worker={"CPU": share, **({"GPU": 1} if gpus else {})},
    )


def _worker(config: dict[str, Any]) -> None:
    """Runs in every worker, and again in all of them after one was lost."""
    job, messages = config["job"], config["messages"]
    told = _Told(messages) if ray.train.get_context().get_world_rank() == 0 else _Told(None)
    with _logs_sent(told):
        try:
            report = train_here(job, told)
        except ReelmaskError as error:  # another try would end the same way
            told.send("error", str(error), error.exit_code)
            return
        told.send("report", dataclasses.asdict(report))


class _Told:
    """Progress of the first worker, sent to who started the run; the others are silent."""

    def __init__(self, messages: Queue | None) -> None:
        self._messages = messages
        self._steps = 0.0

    def send(self, kind: str, *values: Any) -> None:
        if self._messages is not None:
            self._messages.put((kind, *values))

    def begin(self, stage: str, total: float, unit: str) -> None:
        self.send("begin", stage, total, unit)

    def advance(self, amount: float) -> None:
        self._steps += amount

    def note(self, **values: object) -> None:
        self.send("note", self._steps, values)
        self._steps = 0.0

    def end(self) -> None:
        self.send("note", self._steps, {})
        self.send("end")


@contextlib.contextmanager
def _logs_sent(told: _Told) -> Iterator[None]:
    """What the loop has to say goes to the log of who started the run."""

    class Sender(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            told.send("log", record.levelno, record.getMessage())

    log, handler = logging.getLogger("vis_core"), Sender()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _watched(trainer: TorchTrainer, messages: Queue, progress: Progress) -> TrainReport:
    """Waits for the end; shows what the first worker tells."""
    failed: queue.Queue[BaseException] = queue.Queue()
    fit = threading.Thread(target=_fit, args=(trainer, failed), name="fit", daemon=True)
    fit.start()
    report: TrainReport | None = None
    while True:
        running = fit.is_alive()  # asked first: what comes before the end is still read
        for kind, *values in _waiting(messages):
            if kind == "report":
                report = TrainReport(**values[0])
            elif kind == "error":
                error = UsageError(values[0]) if values[1] == 2 else ReelmaskError(values[0])
                raise error
            else:
                _show(progress, kind, values)
        if not running:
            break
    if report is None:
        raise ReelmaskError(
            f"the training ended early: {_reason(failed)}; the same command goes on from the last"
            " checkpoint"
        )
    return report


def _fit(trainer: TorchTrainer, failed: queue.Queue[BaseException]) -> None:
    try:
        trainer.fit()
    except BaseException as error:  # noqa: BLE001 - told where the run was started
        failed.put(error)


def _waiting(messages: Queue) -> Iterator[tuple[Any, ...]]:
    """What has come within a moment."""
    try:
        yield messages.get(timeout=_TICK_SECONDS)
        yield from messages.get_nowait_batch(messages.qsize())
    except Empty:
        return


def _show(progress: Progress, kind: str, values: list[Any]) -> None:
    if kind == "begin":
        progress.begin(*values)
    elif kind == "note":
        progress.advance(values[0])
        progress.note(**values[1])
    elif kind == "end":
        progress.end()
    elif kind == "log":
        logger.log(values[0], "%s", values[1])


def _reason(failed: queue.Queue[BaseException]) -> str:
    if failed.empty():
        return "its workers have said nothing"
    lines = str(failed.get()).strip().splitlines()
    return lines[-1] if lines else "its workers were lost"
