"""propose_reduce: sequences proposed from key frames, reduced by their overlap (Propose-Reduce)."""

from __future__ import annotations

from vis_core.system import Predictor, System
from vis_core.systems.propose_reduce.config import (
    ProposeReduceLinkConfig,
    ProposeReducePredictConfig,
    window,
)
from vis_core.systems.propose_reduce.linker import ProposeReduceLinker
from vis_core.types import Category

__all__ = [
    "PROPOSE_REDUCE",
    "ProposeReduceLinkConfig",
    "ProposeReduceLinker",
    "ProposeReducePredictConfig",
]


def make_predictor(config: ProposeReducePredictConfig) -> Predictor:
    from vis_core.systems.propose_reduce.predictor import ProposeReducePredictor  # torch

    return ProposeReducePredictor(config)


def categories(config: ProposeReducePredictConfig) -> list[Category]:
    from vis_core.systems.propose_reduce.classes import categories_of  # safetensors, when it runs

    return categories_of(config)


PROPOSE_REDUCE = System(
    name="propose_reduce",
    predict_version=2,
    link_version=2,
    predict_config=ProposeReducePredictConfig,
    link_config=ProposeReduceLinkConfig,
    window=window,
    make_predictor=make_predictor,
    make_linker=ProposeReduceLinker,
    categories=categories,
    says="Sequences proposed from key frames, reduced by their overlap (Propose-Reduce).",
    reads=lambda config: [("proposal",), ("class_scores",)],
    writes={"proposal": "", "class_scores": ""},
)
