"""idol: instances with contrastive embeddings, linked through a memory bank (IDOL)."""

from __future__ import annotations

from vis_core.shipped import file_of
from vis_core.system import Predictor, System
from vis_core.systems.idol.config import IdolLinkConfig, IdolPredictConfig
from vis_core.systems.idol.linker import IdolLinker
from vis_core.types import Category
from vis_core.windows import WindowSpec

__all__ = ["IDOL", "IdolLinkConfig", "IdolLinker", "IdolPredictConfig"]


def make_predictor(config: IdolPredictConfig) -> Predictor:
    from vis_core.systems.idol.predictor import IdolPredictor  # torch, when it runs

    return IdolPredictor(config)


def categories(config: IdolPredictConfig) -> list[Category]:
    """Of weights that are a file on this machine."""
    from vis_core.models.about import read_about  # safetensors, when it runs

    path = file_of(config.weights)
    if (about := read_about(path)) is not None:
        return about.categories
    from vis_core.models.idol.files import categories_of  # torch, for released files
    from vis_core.models.weights import read_weights

    return categories_of(read_weights(path), path)


IDOL = System(
    name="idol",
    predict_version=2,
    link_version=1,
    predict_config=IdolPredictConfig,
    link_config=IdolLinkConfig,
    window=lambda config: WindowSpec(),
    make_predictor=make_predictor,
    make_linker=IdolLinker,
    categories=categories,
    says="Instances with contrastive embeddings, linked through a memory bank (IDOL).",
    reads=lambda config: [("embedding",), ("class_scores",)],
    writes={"embedding": "", "class_scores": ""},
)
