"""oracle: predictions from the truth, with noise at will; feeds every linker, for tests."""

from __future__ import annotations

from vis_core.system import System
from vis_core.systems.oracle.config import OracleLinkConfig, OraclePredictConfig, window
from vis_core.systems.oracle.linker import OracleLinker
from vis_core.systems.oracle.predictor import OraclePredictor, open_truth
from vis_core.types import Category


def categories(config: OraclePredictConfig) -> list[Category]:
    return open_truth(config.truth).categories


ORACLE = System(
    name="oracle",
    predict_version=1,
    link_version=1,
    predict_config=OraclePredictConfig,
    link_config=OracleLinkConfig,
    window=window,
    make_predictor=OraclePredictor,
    make_linker=OracleLinker,
    categories=categories,
    says="Predictions from the truth, with noise at will; feeds every linker, for tests.",
    reads=lambda config: [("proposal",)],
    writes={
        "class_scores": "",
        "proposal": "proposals=true",
        "embedding": "embedding_dim=16",
        "center": "centers=true",
        "mean_offset": "centers=true",
        "ref_flow": "centers=true and ref_flow=3",
    },
)
