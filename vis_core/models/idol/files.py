"""The network that a file's weights are for: ours say it, released ones are recognised."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from torch import Tensor

from vis_core.config import build
from vis_core.errors import UsageError
from vis_core.models import swin
from vis_core.models.class_names import names_by_number
from vis_core.models.idol.network import Idol, convert
from vis_core.models.idol.settings import IdolSettings
from vis_core.models.weights import Weights, buildable
from vis_core.types import Category

logger = logging.getLogger(__name__)

RECIPE = "idol"
_BACKBONE = "detr.detr.backbone.0.backbone."
_CLASSES = "detr.detr.class_embed.0.weight"
_RELEASED = {25: "ovis", 80: "coco"}  # by the number of classes
_DEPTHS = {6: 50, 23: 101}  # by the blocks at stride 16


def from_weights(weights: Weights, path: str) -> tuple[Idol, IdolSettings]:
    """The network in full precision, with every tensor of the file in it."""
    settings = settings_of(weights, path)
    tensors = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in weights.tensors.items()
    }
    config = settings.config(_num_classes(tensors, path))
    network = buildable(lambda: Idol(config), tensors, path)
    try:
        report = convert(network, tensors)
    except UsageError as error:
        raise UsageError(f"{path!r} does not fit: {error}") from error
    if report.unused:
        raise UsageError(
            f"{path!r} holds {len(report.unused)} tensors that IDOL's network has no place for:"
            f" {', '.join(report.unused[:5])}"
        )
    for line in report.lines():
        logger.info("%s: %s", path, line)
    return network.eval(), settings


def categories_of(weights: Weights, path: str) -> list[Category]:
    """Released files know how many there are, and not what they are called.

    With 40 they may be of YouTube-VIS 2019 or 2021, in another order.
    """
    names = names_by_number(_num_classes(weights.tensors, path), _RELEASED)
    return [Category(label=i, name=name, source=RECIPE) for i, name in enumerate(names, 1)]


def settings_of(weights: Weights, path: str) -> IdolSettings:
    about = weights.about
    if about is None:
        return _released(weights.tensors, path)
    if about.recipe != RECIPE:
        raise UsageError(
            f"{path!r} holds weights of the recipe {about.recipe!r}; expected {RECIPE!r}"
        )
    try:
        return build(IdolSettings, about.settings)
    except UsageError as error:
        raise UsageError(f"{path!r} describes another kind of network: {error}") from error


def _num_classes(tensors: Mapping[str, Tensor], path: str) -> int:
    if _CLASSES not in tensors or tensors[_CLASSES].dim() != 2 or not len(tensors[_CLASSES]):
        raise UsageError(f"{path!r} holds no weights of IDOL: there is no {_CLASSES} of classes")
    return len(tensors[_CLASSES])


def _released(tensors: Mapping[str, Tensor], path: str) -> IdolSettings:
    """The network of a released file, by its backbone."""
    blocks = {
        match[1] for name in tensors if (match := re.match(rf"{_BACKBONE}res4\.(\d+)\.", name))
    }
    if len(blocks) in _DEPTHS:
        return IdolSettings(depth=_DEPTHS[len(blocks)])
    size = swin.size_of(
        {
            name.removeprefix(_BACKBONE): tensor
            for name, tensor in tensors.items()
            if name.startswith(_BACKBONE)
        }
    )
    if size is None:
        raise UsageError(
            f"{path!r} holds no weights that can be recognised: expected a file that `reelmask"
            " train` wrote, or IDOL's released ResNet-50, ResNet-101 or Swin-L"
        )
    return IdolSettings(backbone=size)
