"""What a system brings to be trained: a network with its losses, and defaults for the job."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from torch import Tensor, nn

from vis_core.data.sample import Sample
from vis_core.types import Category


class LossTerm(NamedTuple):
    """A sum and over how many it is: the loop divides by the number of all workers.

    A system that normalises locally, as its paper does, gives its mean and 1.
    """

    total: Tensor
    over: int
    weight: float = 1.0


LossTerms: TypeAlias = dict[str, LossTerm]


class Batch(NamedTuple):
    """What a loader hands over. The inputs are made of tensors, so that they can move."""

    inputs: Any  # of a recipe's own making: tensors in tuples, lists, dictionaries
    seeds: Tensor  # (B,) int64, of each clip: randomness inside the network that is to be its own
    # Which draws these are; for messages.
    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NoLearning:
    """A recipe whose losses have no settings."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """`module(inputs, seeds)` returns the loss terms; its `network` is what is saved."""

    name: str
    settings: type  # a frozen dataclass: the network's settings, in the job's section `network`
    defaults: Mapping[str, Any]  # of the job's other sections
    # Of network, learning and categories; and of network, learning and samples.
    module: Callable[[Any, Any, Sequence[Category]], nn.Module]
    collate: Callable[[Any, Any, Sequence[Sample]], Any]
    # The system that uses the weights, and its settings for a file of them.
    system: Callable[[str], tuple[str, dict[str, Any]]]
    # What only the training knows of: a frozen dataclass, in the section `learning`.
    learning: type = NoLearning
    # Files by others that a training may start from, by the names of the network.
    renamed: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]] = dict
    class_agnostic: bool = False  # all instances are of one category, `object`
