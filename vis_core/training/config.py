"""The sections of a training job, as frozen dataclasses; recipes bring defaults for each."""

from __future__ import annotations

import dataclasses
from typing import Literal

from vis_core.config import check, setting


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class GroupRule:
    """Parameters whose name matches get settings of their own; the first rule that fits counts."""

    match: str = setting(says="A glob over parameter names, such as `backbone.*` or `*.bias`.")
    lr_factor: float = setting(1.0, low=0, high=1_000_000, says="Times the learning rate.")
    weight_decay: float | None = setting(
        None, low=0, high=10, says="Weight decay; none: the optimiser's."
    )

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    kind: Literal["adamw", "adam", "sgd"] = setting("adamw", says="The optimiser.")
    lr: float = setting(
        2e-4,
        low=0,
        high=1000,
        says="Learning rate. Too high diverges, too low wastes the steps.",
    )
    weight_decay: float = setting(1e-4, low=0, high=10, says="Weight decay.")
    momentum: float = setting(0.9, low=0, high=1, says="Momentum of sgd.")
    beta2: float = setting(0.999, low=0, high=1, says="Second beta of adam and adamw.")
    clip_norm: float | None = setting(
        None,
        low=1e-9,
        high=1_000_000_000,
        says="Longest gradient. Too low slows learning, none risks jumps.",
    )

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Learning rate by step: a warm-up to 1, then `kind`."""

    steps: int = setting(low=1, high=1_000_000_000, says="Optimiser steps in all.")
    kind: Literal["constant", "poly", "step", "cosine"] = setting(
        "poly", says="How the rate falls after the warm-up."
    )
    power: float = setting(0.9, low=0, high=100, says="Exponent of poly.")
    milestones: tuple[int, ...] = setting(
        (), says="Steps after which kind: step multiplies the rate by `gamma`; ascending."
    )
    gamma: float = setting(0.1, low=0, high=1, says="Factor at each milestone.")
    final: float = setting(0.0, low=0, high=1, says="Where cosine ends, as a factor.")
    warmup_steps: int = setting(
        0,
        low=0,
        high=1_000_000_000,
        says="Steps of the warm-up. Too few let a fresh network jump away.",
    )
    warmup_from: float = setting(0.001, low=0, high=1, says="Factor of the first step.")

    def __post_init__(self) -> None:
        check(self)
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

    batch_size: int = setting(
        8, low=1, high=100_000, says="Clips of a forward pass, all workers together."
    )
    accumulate: int = setting(
        1, low=1, high=10_000, says="Forward passes per step; each is normalised on its own."
    )
    seed: int = setting(0, low=0, high=2**31 - 1, says="Another seed draws other clips.")
    workers: int = setting(
        1,
        low=1,
        high=10_000,
        says="Processes that train; each has an accelerator where there are some.",
    )
    loader_workers: int | None = setting(
        None, low=0, high=256, says="Processes that load clips; 0: a thread; none: by cores."
    )
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto",
        says="bf16 halves memory and time where the hardware has it; `auto` takes it there.",
    )
    ema: float | None = setting(
        None,
        low=0,
        high=1,
        says="Decay of averaged weights, which are then saved; none: no average.",
    )
    freeze: tuple[str, ...] = setting(
        (), says="Globs over parameter names: these stay as they are."
    )
    sync_batch_norm: bool = setting(False, says="Compute batch statistics over all workers.")
    checkpoint_every: int = setting(
        500,
        low=1,
        high=1_000_000_000,
        says="Steps between checkpoints. Too many lose work with the process, too few cost time.",
    )
    max_failures: int = setting(
        3, low=0, high=1000, says="How often lost workers are replaced before the run gives up."
    )

    def __post_init__(self) -> None:
        check(self)
        if self.batch_size % self.workers:
            raise ValueError(
                f"batch_size: expected a multiple of workers ({self.workers}), got"
                f" {self.batch_size}: each worker takes an equal share"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StartConfig:
    """Weights to begin with, for the second stage of a recipe."""

    weights: str = setting(
        says="The file: .safetensors, or a checkpoint of PyTorch with tensors alone."
    )
    reset: tuple[str, ...] = setting(
        (), says="Globs over names: these begin anew, whatever the file holds."
    )
    take: tuple[str, ...] = setting(
        ("*",),
        says="Globs over names: all others begin anew, too; `*backbone*` for a file of a backbone"
        " alone.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """Labels a held-out list now and then, with the system that the weights are for."""

    inputs: tuple[str, ...] = setting(says="Videos to label.")
    truth: str = setting(says="The file with their truth.")
    every: int = setting(
        low=1,
        high=1_000_000_000,
        says="Steps between evaluations; there is one before the first and after the last as well.",
    )
    metric: Literal["ytvis", "uvo", "davis"] = setting("ytvis", says="What is measured.")
    limit: int | None = setting(
        None, low=1, high=1_000_000_000, says="The first so many videos, in id order."
    )

    def __post_init__(self) -> None:
        check(self)
