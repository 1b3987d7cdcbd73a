"""What stands for the predictor of a system whose network is not here: its linker works alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from vis_core.errors import UsageError
from vis_core.system import LinkConfig, Linker, PredictConfig, Predictor, System
from vis_core.windows import WindowSpec


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NoPredictConfig(PredictConfig):
    """Nothing can be set about a network that is not here."""


def link_only(
    name: str,
    link_config: type[LinkConfig],
    make_linker: Callable[[Any], Linker],
    reads: Callable[[Any], Sequence[tuple[str, ...]]],
    says: str,
) -> System:
    """A system that links predictions and makes none."""

    def refuse(config: NoPredictConfig) -> Predictor:
        raise UsageError(
            f"{name} cannot predict yet, only link: give predictions to `reelmask link FRAMES"
            f" --system {name} --out OUT`"
        )

    return System(
        name=name,
        predict_version=0,
        link_version=1,
        predict_config=NoPredictConfig,
        link_config=link_config,
        window=lambda config: WindowSpec(),
        make_predictor=refuse,
        make_linker=make_linker,
        categories=lambda config: [],
        reads=reads,
        says=says,
    )
