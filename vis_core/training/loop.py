"""The training loop, as one worker runs it: alone, or beside others of a process group.

Read `Trainer.run` from top to bottom. Whatever changes speed alone (workers, loaders, when it was
interrupted) changes no weight.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vis_core.config import as_values
from vis_core.errors import ReelmaskError
from vis_core.failpoints import failpoint
from vis_core.models.about import About
from vis_core.models.place import best_device, place
from vis_core.models.weights import load_into, read_weights, to_bytes
from vis_core.progress import Progress
from vis_core.store.folder import open_folder
from vis_core.training import checkpoint as checkpoints
from vis_core.training.checkpoint import Checkpoint
from vis_core.training.data import open_data
from vis_core.training.ema import Ema
from vis_core.training.evaluation import MAIN_FIGURE, evaluate_weights
from vis_core.training.folder import RECORD, REPORT
from vis_core.training.groups import freeze, make_optimizer, parameter_groups, set_rates
from vis_core.training.job import TrainJob
from vis_core.training.loading import Share, batches, loader_workers
from vis_core.training.ranks import ranks
from vis_core.training.recipe import Batch, LossTerms
from vis_core.training.record import EVALUATIONS, METRICS, Table, draw_curves
from vis_core.training.schedule import lr_factor

logger = logging.getLogger(__name__)

LAST, BEST = "weights/last.safetensors", "weights/best.safetensors"
_FLUSH_STEPS = 20  # figures stay on the device so long: reading one waits for all before it
_FLUSH_SECONDS = 5.0
_SKIP_WAIT = 3  # the first steps wait for loaders to start, whatever they cost later


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainReport:
    """What a run did, this time."""

    steps: int  # in all
    resumed_at: int
    seconds: float
    images_per_second: float
    data_wait_share: float  # of the steps' time, the first few left out
    loss: float | None  # of the last step
    evaluation: dict[str, float]  # the last one
    best: float | None
    best_step: int | None


class Trainer:
    """State of a training run in one worker."""

    def __init__(self, job: TrainJob, progress: Progress) -> None:
        self._job, self._progress, self._ranks = job, progress, ranks()
        self._folder = open_folder(job.out)
        self._device = best_device(self._ranks.rank)
        self._autocast = _autocast(job, self._device)
        self._data = open_data(job)
        self._key = job.key()
        torch.manual_seed(job.loop.seed)  # the same start in every worker
        self._module = job.recipe.module(job.network, job.learning, self._data.categories)
        network = self._module.get_submodule("network")
        if job.start is not None:
            tensors = job.recipe.renamed(read_weights(job.start.weights).tensors)
            for line in load_into(network, tensors, job.start.reset, job.start.take).lines():
                self._log(f"start: {line}")
        freeze(network, job.loop.freeze)
        if job.loop.sync_batch_norm and self._ranks.size > 1:
            self._module = nn.SyncBatchNorm.convert_sync_batchnorm(self._module)
        place(self._module.train(), self._device)
        self._network = self._module.get_submodule("network")
        self._groups = parameter_groups(self._network, job.optimizer, job.groups)
        self._optimizer = make_optimizer(self._groups, job.optimizer)
        self._ema = Ema(self._network, job.loop.ema) if job.loop.ema is not None else None
        self._first, self._best = self._resume()
        if self._ranks.is_first:  # only now: a job that does not fit must not replace another's
            record = yaml.safe_dump(job.record(), sort_keys=False)
            self._folder.replace(RECORD, record.encode())
        self._metrics = Table(self._folder, METRICS, before=self._first + 1)
        self._evaluations = Table(self._folder, EVALUATIONS, before=self._first + 1)
        self._wrapped = self._ranks.wrapped(self._module, self._device)
        self._pending: list[tuple[int, Tensor, dict[str, float]]] = []
        self._names: list[str] = []
        self._flushed = time.monotonic()
        self._saved: int | None = None
        self._wait_seconds = self._step_seconds = 0.0

    def run(self) -> TrainReport:
        """To the last step; killed at any point, a new run goes on from the last checkpoint."""
        job, started = self._job, time.monotonic()
        steps = job.schedule.steps
        self._progress.begin("train", steps - self._first, "steps")
        self._evaluate(self._first)
        with contextlib.closing(self._batches()) as feed:
            for step in range(self._first, steps):
                self._step(step, feed)
                done = step + 1
                failpoint("after_step")
                self._progress.advance(1)
                self._evaluate(done)
                if done % job.loop.checkpoint_every == 0 or done == steps:
                    self._save(done)
        self._progress.end()
        report = self._report(time.monotonic() - started)
        if self._ranks.is_first:
            text = json.dumps(dataclasses.asdict(report), indent=2)
            self._folder.replace(REPORT, text.encode())
        return report

    # --- one step --------------------------------------------------------------------------

    def _step(self, step: int, feed: Iterator[Batch]) -> None:
        job, began = self._job, time.monotonic()
        rate = job.optimizer.lr * lr_factor(step, job.schedule)
        set_rates(self._optimizer, self._groups, rate)
        self._optimizer.zero_grad(set_to_none=True)
        figures, waited = None, 0.0
        for part in range(job.loop.accumulate):
            asked = time.monotonic()
            batch = next(feed)
            waited += time.monotonic() - asked
            last = part == job.loop.accumulate - 1
            found = self._forward_backward(step * job.loop.accumulate + part, batch, sync=last)
            figures = found if figures is None else figures + found
        assert figures is not None
        figures = figures / job.loop.accumulate
        if job.optimizer.clip_norm is not None:
            parameters = [p for group in self._groups for p in group["params"]]
            norm = nn.utils.clip_grad_norm_(parameters, job.optimizer.clip_norm)
            figures = torch.cat([figures, norm.detach().reshape(1)])
        self._optimizer.step()
        if self._ema is not None:
            self._ema.update(self._network, step)
        seconds = time.monotonic() - began
        if step >= self._first + _SKIP_WAIT:
            self._wait_seconds += waited
            self._step_seconds += seconds
        images = job.loop.batch_size * job.loop.accumulate / seconds
        known = {"lr": rate, "images_per_second": images, "data_wait": waited / seconds}
        self._pending.append((step + 1, figures, known))
        stale = time.monotonic() - self._flushed > _FLUSH_SECONDS
        if len(self._pending) >= _FLUSH_STEPS or stale:
            self._flush()

    def _forward_backward(self, forward: int, batch: Batch, *, sync: bool) -> Tensor:
        """Adds the gradients of one forward pass; returns loss and terms, of all workers."""
        torch.manual_seed(_mixed(self._job.loop.seed, forward, self._ranks.rank))
        inputs = _moved(batch.inputs, self._device)
        alone = contextlib.nullcontext() if sync else _without_sync(self._wrapped)
        with alone:
            with self._autocast:
                terms: LossTerms = self._wrapped(inputs, batch.seeds.tolist())
            loss, figures = self._combined(terms)
            (loss / self._job.loop.accumulate).backward()
        return figures

    def _combined(self, terms: LossTerms) -> tuple[Tensor, Tensor]:
        """Divides sums by the counts of all workers.

        Gradients become means over the workers, hence the factor of their number.
        """
        self._names = list(terms)
        totals = torch.stack([term.total.float() for term in terms.values()])
        counts = torch.tensor([float(term.over) for term in terms.values()], device=totals.device)
        weights = torch.tensor([term.weight for term in terms.values()], device=totals.device)
        both = self._ranks.sum(torch.stack([totals.detach(), counts]))
        every_count = both[1].clamp(min=1)
        loss = (weights * totals * self._ranks.size / every_count).sum()
        means = both[0] / every_count
        return loss, torch.cat([(weights * means).sum().reshape(1), means])

    def _flush(self) -> None:
        """Reads what the device has found; a loss that is no number ends the run."""
        clipped = self._job.optimizer.clip_norm is not None
        names = ["loss", *self._names, *(["grad_norm"] if clipped else [])]
        for step, figures, known in self._pending:
            values = dict(zip(names, figures.tolist(), strict=True))
            if not torch.isfinite(figures[0]):
                terms = ", ".join(f"{name} {value:.3g}" for name, value in values.items())
                raise ReelmaskError(
                    f"the loss of step {step} is not finite ({terms}); a lower `lr`, a"
                    " `warmup_steps` or a `clip_norm` may help. The last checkpoint is from before"
                )
            self._metrics.add(step, {**values, **known})
        self._pending.clear()
        self._flushed = time.monotonic()
        if self._metrics.rows:
            self._tell(self._metrics.rows[-1])

    def _tell(self, row: Mapping[str, float]) -> None:
        shown = {name: f"{row[name]:.4g}" for name in ("loss", *self._names) if name in row}
        self._progress.note(
            **shown,
            lr=f"{row['lr']:.3g}",
            **{
                "images/s": f"{row['images_per_second']:.1f}",
                "data wait": f"{row['data_wait']:.0%}",
            },
        )

    # --- now and then ----------------------------------------------------------------------

    def _evaluate(self, done: int) -> None:
        """Before the first step, at its cadence, and after the last; the others wait."""
        config = self._job.evaluation
        if config is None:
            return
        due = done % config.every == 0 or done == self._job.schedule.steps
        if not due or any(row["step"] == done for row in self._evaluations.rows):
            return
        if self._ranks.is_first:
            self._flush()
            self._network.eval()
            figures = evaluate_weights(
                self._job.recipe, self._averaged(), self._about(done), config
            )
            self._network.train()
            self._evaluations.add(done, figures)
            main = figures.get(MAIN_FIGURE[config.metric])
            text = ", ".join(f"{name} {value:.1f}" for name, value in figures.items())
            self._log(f"evaluation after {done} steps: {text or 'nothing to find'}")
            if main is not None and (self._best is None or main > self._best):
                self._best = main
                self._folder.replace(BEST, to_bytes(self._averaged(), self._about(done)))
        else:
            self._evaluations.add(done, {})
        self._ranks.wait()
        self._save(done)

    def _save(self, done: int) -> None:
        """Weights, tables and curves first: when the checkpoint names a step, they are there."""
        if self._saved == done:
            return
        self._saved = done
        self._flush()
        if self._ranks.is_first:
            self._folder.replace(LAST, to_bytes(self._averaged(), self._about(done)))
            self._metrics.write()
            self._evaluations.write()
            draw_curves(self._folder, self._metrics.rows, self._evaluations.rows)
            failpoint("before_checkpoint")
            checkpoints.save(
                self._folder,
                Checkpoint(
                    step=done,
                    key=self._key,
                    network=self._network.state_dict(),
                    optimizer=self._optimizer.state_dict(),
                    ema=self._ema.network.state_dict() if self._ema else None,
                    best=self._best,
                ),
            )
        self._ranks.wait()

    def _resume(self) -> tuple[int, float | None]:
        found = checkpoints.load(self._folder, self._key)
        if found is None:
            return 0, None
        self._network.load_state_dict(found.network)
        self._optimizer.load_state_dict(found.optimizer)
        if self._ema is not None and found.ema is not None:
            self._ema.network.load_state_dict(found.ema)
        self._log(f"goes on after step {found.step}")
        return found.step, found.best

    # --- helpers ---------------------------------------------------------------------------

    def _batches(self) -> Any:
        loop = self._job.loop
        number, reason = loader_workers(
            loop.loader_workers, os.cpu_count() or 1, self._device.type == "cuda"
        )
        self._log(f"{number} loader processes: {reason}")
        return batches(
            self._data.clips,
            Share(batch_size=loop.batch_size, ranks=self._ranks),
            self._first * loop.accumulate,
            self._job.schedule.steps * loop.accumulate,
            number,
            pin=self._device.type == "cuda",
        )

    def _averaged(self) -> nn.Module:
        return self._ema.network if self._ema is not None else self._network

    def _about(self, step: int) -> About:
        return About(
            recipe=self._job.recipe.name,
            settings=as_values(self._job.network),
            categories=list(self._data.categories),
            step=step,
        )

    def _log(self, text: str) -> None:
        if self._ranks.is_first:
            logger.info("%s", text)

    def _report(self, seconds: float) -> TrainReport:
        best = max(
            (row for row in self._evaluations.rows if self._main(row) is not None),
            key=lambda row: self._main(row) or 0.0,
            default=None,
        )
        done = self._job.schedule.steps - self._first
        images = done * self._job.loop.batch_size * self._job.loop.accumulate
        last = self._evaluations.rows[-1] if self._evaluations.rows else {}
        return TrainReport(
            steps=self._job.schedule.steps,
            resumed_at=self._first,
            seconds=seconds,
            images_per_second=images / seconds,
            data_wait_share=self._wait_seconds / self._step_seconds if self._step_seconds else 0.0,
            loss=self._metrics.rows[-1]["loss"] if self._metrics.rows else None,
            evaluation={name: value for name, value in last.items() if name != "step"},
            best=self._best,
            best_step=int(best["step"]) if best is not None else None,
        )

    def _main(self, row: Mapping[str, float]) -> float | None:
        assert self._job.evaluation is not None
        return row.get(MAIN_FIGURE[self._job.evaluation.metric])


def train_here(job: TrainJob, progress: Progress) -> TrainReport:
    """As one worker of the process group there is, or alone."""
    return Trainer(job, progress).run()


def _autocast(job: TrainJob, device: torch.device) -> Any:
    """The precision of forward passes, and in the log why."""
    wanted = job.loop.precision
    has = device.type == "cuda" and torch.cuda.is_bf16_supported()
    use = wanted == "bf16" or (wanted == "auto" and has)
    reason = "as set" if wanted != "auto" else "the device has it" if has else "no bf16 hardware"
    logger.info("precision: %s (%s) on %s", "bf16" if use else "fp32", reason, device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=use)


def _without_sync(module: nn.Module) -> Any:
    """Gradients of all but the last forward pass of a step are not sent."""
    if isinstance(module, DistributedDataParallel):
        return module.no_sync()
    return contextlib.nullcontext()


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(item, device) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(_moved(item, device) for item in value)
    return value


def _mixed(seed: int, forward: int, rank: int) -> int:
    """A seed for randomness inside the network: of its own for each pass and worker."""
    state = torch.Generator().manual_seed(seed * 1_000_003 + forward * 1009 + rank)
    return int(torch.randint(2**62, (1,), generator=state))
