"""The learning rate's factor by step, a pure function: nothing to save, nothing to restore."""

from __future__ import annotations

import bisect
import math

from vis_core.training.config import ScheduleConfig


def lr_factor(step: int, config: ScheduleConfig) -> float:
    """Of the step with this number, from 0. The warm-up multiplies what the schedule says."""
    return _warmup(step, config) * _decay(step, config)


def _warmup(step: int, config: ScheduleConfig) -> float:
    if step >= config.warmup_steps:
        return 1.0
    return config.warmup_from + (1 - config.warmup_from) * step / config.warmup_steps


def _decay(step: int, config: ScheduleConfig) -> float:
    done = min(1.0, step / config.steps)
    if config.kind == "poly":
        return float((1 - done) ** config.power)
    if config.kind == "cosine":
        return config.final + (1 - config.final) * (1 + math.cos(math.pi * done)) / 2
    if config.kind == "step":
        return float(config.gamma ** bisect.bisect_right(config.milestones, step))
    return 1.0
