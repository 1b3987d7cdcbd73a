"""What can be trained, by name."""

from __future__ import annotations

from typing import Any

from vis_core.config import brief, unknown_name
from vis_core.errors import UsageError
from vis_core.systems.flow_match.training import DETECTOR
from vis_core.systems.idol.training import IDOL_PAIRS
from vis_core.systems.propose_reduce.training import PROPOSE_REDUCE
from vis_core.training.recipe import Recipe

_ALL = (DETECTOR, IDOL_PAIRS, PROPOSE_REDUCE)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}


def get_recipe(name: Any) -> Recipe:
    """The recipe of this name; an unknown one is an error that names the nearest."""
    if not isinstance(name, str):
        raise UsageError(f"recipe: expected a name, got {brief(name)}")
    if name not in RECIPES:
        raise UsageError(unknown_name("recipe", name, sorted(RECIPES)))
    return RECIPES[name]
