"""What the labels of a file of weights are called."""

from __future__ import annotations

from collections.abc import Sequence

from vis_core.errors import UsageError
from vis_core.models.about import read_about
from vis_core.models.class_names import CLASS_NAMES, names_by_number
from vis_core.systems.propose_reduce.config import ProposeReducePredictConfig
from vis_core.types import Category

_RELEASED = {40: "ytvis19", 1: "davis"}  # by the number of classes


def categories_of(config: ProposeReducePredictConfig) -> list[Category]:
    """Of weights that are a file on this machine."""
    path = config.weights
    about = read_about(path)
    if about is not None:
        if config.classes is not None:
            raise UsageError(f"{path!r} names its classes itself: leave classes out")
        if config.network is not None:
            raise UsageError(f"{path!r} says itself which network it is for: leave network out")
        return about.categories
    from vis_core.models.seq_mask_rcnn.files import number_of_classes  # torch, for these alone
    from vis_core.models.weights import read_weights

    names = _names(number_of_classes(read_weights(path).tensors, path) - 1, config.classes)
    return [
        Category(label=label, name=name, source=config.network or "")
        for label, name in enumerate(names, 1)
    ]


def _names(number: int, chosen: str | None) -> Sequence[str]:
    if chosen is None:
        return names_by_number(number, _RELEASED)
    if len(CLASS_NAMES[chosen]) != number:
        raise UsageError(
            f"classes: {chosen} has {len(CLASS_NAMES[chosen])} classes, the weights have {number}"
        )
    return CLASS_NAMES[chosen]
