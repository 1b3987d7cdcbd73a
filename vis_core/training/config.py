"""The sections of a training job, as frozen dataclasses; recipes bring defaults for each."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal


def _check(config: Any, bounds: dict[str, tuple[float, float]]) -> None:
    for name, (lowest, highest) in bounds.items():
        value = getattr(config, name)
        if value is not None and not lowest <= value <= highest:
            raise ValueError(f"{name}: expected {lowest} to {highest}, got {value}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GroupRule:
    """Parameters whose name matches get settings of their own; the first rule that fits counts."""

    match: str  # a glob over parameter names, such as `backbone.*` or `*.bias`
    lr_factor: float = 1.0  # times the learning rate
    weight_decay: float | None = None  # None: the optimiser's

    def __post_init__(self) -> None:
        _check(self, {"lr_factor": (0, 1e6), "weight_decay": (0, 10)})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    kind: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 2e-4  # too high diverges, too low wastes the steps
    weight_decay: float = 1e-4
    momentum: float = 0.9  # of sgd
    beta2: float = 0.999  # of adam and adamw
    clip_norm: float | None = None  # longest gradient; too low slows learning, none risks jumps

    def __post_init__(self) -> None:
        _check(self, {"lr": (0, 1e3), "weight_decay": (0, 10), "momentum": (0, 1)})
        _check(self, {"beta2": (0, 1), "clip_norm": (1e-9, 1e9)})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Learning rate by step: a warm-up to 1, then `kind`."""

    steps: int  # optimiser steps in all
    kind: Literal["constant", "poly", "step", "cosine"] = "poly"
    power: float = 0.9  # of poly
    milestones: tuple[int, ...] = ()  # of step: after so many steps …
    gamma: float = 0.1  # … times this
    final: float = 0.0  # of cosine: where it ends
    warmup_steps: int = 0  # too few let a fresh network jump away
    warmup_from: float = 0.001  # factor of the first step

    def __post_init__(self) -> None:
        _check(self, {"steps": (1, 1e9), "power": (0, 100), "gamma": (0, 1), "final": (0, 1)})
        _check(self, {"warmup_steps": (0, 1e9), "warmup_from": (0, 1)})
        if self.kind == "step" and not self.milestones:
            raise ValueError("milestones: expected one or more steps with kind: step, got none")
        if (
            list(self.milestones) != sorted(set(self.milestones))
            or min(self.milestones or (1,)) < 1
        ):
            raise ValueError(f"milestones: expected ascending steps, got {self.milestones}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LoopConfig:
    """How steps are done; `workers` and what feeds them change nothing about the result."""

    batch_size: int = 8  # clips of a forward pass, all workers together
    accumulate: int = 1  # forward passes per step; each is normalised on its own
    seed: int = 0
    workers: int = 1  # processes that train; each has an accelerator where there are some
    loader_workers: int | None = None  # processes that load; 0: a thread; none: by cores
    # bf16 halves memory and time where the hardware has it; `auto` takes it there.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    ema: float | None = None  # decay of averaged weights, which are then saved; none: no average
    freeze: tuple[str, ...] = ()  # globs over parameter names: these stay as they are
    sync_batch_norm: bool = False  # statistics over all workers
    checkpoint_every: int = 500  # steps; too many lose work with the process, too few cost time
    max_failures: int = 3  # how often lost workers are replaced before the run gives up

    def __post_init__(self) -> None:
        _check(self, {"batch_size": (1, 1e5), "accumulate": (1, 1e4), "workers": (1, 1e4)})
        _check(self, {"loader_workers": (0, 256), "ema": (0, 1), "checkpoint_every": (1, 1e9)})
        _check(self, {"seed": (0, 2**31 - 1), "max_failures": (0, 1000)})
        if self.batch_size % self.workers:
            raise ValueError(
                f"batch_size: expected a multiple of workers ({self.workers}), got"
                f" {self.batch_size}: each worker takes an equal share"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StartConfig:
    """Weights to begin with, for the second stage of a recipe."""

    weights: str  # .safetensors, or a checkpoint of PyTorch with tensors alone
    reset: tuple[str, ...] = ()  # globs over names: these begin anew, whatever the file holds
    # Globs over names: all others begin anew, too; `*backbone*` for a file of a backbone alone.
    take: tuple[str, ...] = ("*",)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """Labels a held-out list now and then, with the system that the weights are for."""

    inputs: tuple[str, ...]
    truth: str
    every: int  # steps; also before the first and after the last
    metric: Literal["ytvis", "uvo", "davis"] = "ytvis"
    limit: int | None = None  # videos, in id order

    def __post_init__(self) -> None:
        _check(self, {"every": (1, 1e9), "limit": (1, 1e9)})
