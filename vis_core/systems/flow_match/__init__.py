"""flow_match: instances of each frame, linked by optical flow and mask overlap (UVO 2021)."""

from __future__ import annotations

from vis_core.system import Predictor, System
from vis_core.systems.flow_match.config import (
    FlowMatchLinkConfig,
    FlowMatchPredictConfig,
    window,
)
from vis_core.systems.flow_match.linker import FlowMatchLinker
from vis_core.types import Category

__all__ = ["FLOW_MATCH", "FlowMatchLinkConfig", "FlowMatchLinker", "FlowMatchPredictConfig"]


def make_predictor(config: FlowMatchPredictConfig) -> Predictor:
    if config.detector != "motion":
        from vis_core.systems.flow_match.detector import DetectorPredictor  # torch, when it runs

        return DetectorPredictor(config)
    from vis_core.systems.flow_match.predictor import FlowMatchPredictor  # OpenCV, when it runs

    return FlowMatchPredictor(config)


def categories(config: FlowMatchPredictConfig) -> list[Category]:
    return [Category(label=1, name="object", source=config.detector)]


FLOW_MATCH = System(
    name="flow_match",
    predict_version=2,
    link_version=1,
    predict_config=FlowMatchPredictConfig,
    link_config=FlowMatchLinkConfig,
    window=window,
    make_predictor=make_predictor,
    make_linker=FlowMatchLinker,
    categories=categories,
    says="Instances of each frame, linked by optical flow and mask overlap (UVO 2021).",
)
