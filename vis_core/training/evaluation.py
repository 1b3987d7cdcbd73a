"""Evaluation while training: the weights label held-out videos as they would for anybody."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

from torch import nn

from vis_core.eval.evaluate import EvalConfig, evaluate
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.models.about import About
from vis_core.models.weights import to_bytes
from vis_core.systems import get_system
from vis_core.training.config import EvaluationConfig
from vis_core.training.recipe import Recipe

MAIN_FIGURE = {"ytvis": "AP", "uvo": "AP", "davis": "J&F"}


def evaluate_weights(
    recipe: Recipe, network: nn.Module, about: About, config: EvaluationConfig
) -> dict[str, float]:
    """The metric's figures, through our own predictor, linker and evaluator; nothing stays."""
    with tempfile.TemporaryDirectory() as scratch, _quiet():
        weights = Path(scratch) / "weights.safetensors"
        weights.write_bytes(to_bytes(network, about))
        name, settings = recipe.system(str(weights))
        out = str(Path(scratch) / "results")
        member = MemberSpec(system=get_system(name), settings=settings)
        run_inline(make_job(config.inputs, out, [member], limit=config.limit))
        chosen = EvalConfig(videos="same" if config.limit is None else "common")
        found = evaluate(out, config.truth, config.metric, chosen)
    return {name: value for name, value in found.figures.items() if value is not None}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What a run has to say of its frames belongs to no training log."""
    log = logging.getLogger("vis_core")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)
