"""What the labels of a file of weights are called."""

from __future__ import annotations

from collections.abc import Sequence

from vis_core.errors import UsageError
from vis_core.models.about import read_about
from vis_core.systems.propose_reduce.config import ProposeReducePredictConfig
from vis_core.types import Category

# In the order of released files.
_YTVIS19 = (
    "person giant_panda lizard parrot skateboard sedan ape dog snake monkey hand rabbit duck cat"
    " cow fish train horse turtle bear motorbike giraffe leopard fox deer owl surfboard airplane"
    " truck zebra tiger elephant snowboard boat shark mouse frog eagle earless_seal tennis_racket"
)
_YTVIS21 = (
    "airplane bear bird boat car cat cow deer dog duck earless_seal elephant fish flying_disc fox"
    " frog giant_panda giraffe horse leopard lizard monkey motorbike mouse parrot person rabbit"
    " shark skateboard snake snowboard squirrel surfboard tennis_racket tiger train truck turtle"
    " whale zebra"
)
NAMES: dict[str, tuple[str, ...]] = {
    "ytvis19": tuple(_YTVIS19.split()),
    "ytvis21": tuple(_YTVIS21.split()),
    "davis": ("instance",),
}


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
        chosen = {40: "ytvis19", 1: "davis"}.get(number)
    if chosen is None:
        return [f"class_{label}" for label in range(1, number + 1)]
    if len(NAMES[chosen]) != number:
        raise UsageError(
            f"classes: {chosen} has {len(NAMES[chosen])} classes, the weights have {number}"
        )
    return NAMES[chosen]
