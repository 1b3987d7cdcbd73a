"""What to train: a job file's sections over the recipe's defaults, checked before anything runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from vis_core.config import as_values, brief, build, unknown_name
from vis_core.data.datasets import DataSetConfig
from vis_core.data.mosaic import MosaicConfig
from vis_core.data.sampling import SamplingConfig
from vis_core.data.synth.config import use_of_seed
from vis_core.data.transforms import TransformConfig
from vis_core.errors import UsageError
from vis_core.fingerprints import digest_of_file
from vis_core.formats.json_index import JsonIndex
from vis_core.job import checked_path
from vis_core.training.config import (
    EvaluationConfig,
    GroupRule,
    LoopConfig,
    OptimizerConfig,
    ScheduleConfig,
    StartConfig,
)
from vis_core.training.recipe import Recipe
from vis_core.training.recipes import get_recipe

_SECTIONS = {
    "sampling": SamplingConfig,
    "transforms": TransformConfig,
    "optimizer": OptimizerConfig,
    "schedule": ScheduleConfig,
    "loop": LoopConfig,
}
_KEYS = (
    "recipe",
    "out",
    "network",
    "learning",
    "data",
    *_SECTIONS,
    "mosaic",
    "groups",
    "start",
    "evaluation",
)
# Of the loop: what changes where and how fast it runs, and not the weights.
_PLACE = ("workers", "loader_workers", "checkpoint_every", "max_failures")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainJob:
    recipe: Recipe
    out: str
    network: Any
    learning: Any
    data: tuple[DataSetConfig, ...]
    sampling: SamplingConfig
    transforms: TransformConfig
    optimizer: OptimizerConfig
    groups: tuple[GroupRule, ...]
    schedule: ScheduleConfig
    loop: LoopConfig
    mosaic: MosaicConfig | None = None
    start: StartConfig | None = None
    evaluation: EvaluationConfig | None = None

    def record(self) -> dict[str, Any]:
        """As a job file says it, with nothing left out."""
        parts = {
            name: as_values(getattr(self, name)) for name in ("network", "learning", *_SECTIONS)
        }
        more = {
            name: as_values(getattr(self, name))
            for name in ("mosaic", "start", "evaluation")
            if getattr(self, name) is not None
        }
        return {
            "recipe": self.recipe.name,
            "out": self.out,
            "data": [as_values(entry) for entry in self.data],
            **parts,
            "groups": [as_values(rule) for rule in self.groups],
            **more,
        }

    def key(self) -> str:
        """Of everything that decides the weights: only what has the same key goes on."""
        record = self.record()
        for name in ("out", "evaluation"):
            record.pop(name, None)
        for name in _PLACE:
            del record["loop"][name]
        if self.start is not None:
            record["start"]["weights"] = digest_of_file(self.start.weights)
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def make_train_job(values: Mapping[str, Any]) -> TrainJob:
    """From the sections of a job file; every mistake is named with its section."""
    for key in values:
        if key not in _KEYS:
            raise UsageError(unknown_name("key", key, _KEYS))
    for key in ("recipe", "out", "data", "schedule"):
        if key not in values:
            raise UsageError(f"{key!r} is missing")
    recipe = get_recipe(values["recipe"])
    sections = {
        name: _section(name, kind, values, recipe.defaults) for name, kind in _SECTIONS.items()
    }
    rules = values.get("groups", recipe.defaults.get("groups", []))
    return TrainJob(
        recipe=recipe,
        out=checked_path("out", values["out"]),
        network=_section("network", recipe.settings, values, recipe.defaults),
        learning=_section("learning", recipe.learning, values, recipe.defaults),
        data=tuple(
            _built("data", DataSetConfig, entry) for entry in _entries("data", values["data"])
        ),
        groups=tuple(_built("groups", GroupRule, entry) for entry in rules),
        mosaic=_optional("mosaic", MosaicConfig, values),
        start=_optional("start", StartConfig, values),
        evaluation=_optional("evaluation", EvaluationConfig, values),
        **sections,
    )


def _section(name: str, kind: type, values: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
    given = values.get(name)
    return _built(name, kind, {**defaults.get(name, {}), **_mapping(name, given or {})})


def _optional(name: str, kind: type, values: Mapping[str, Any]) -> Any:
    return _built(name, kind, _mapping(name, values[name])) if values.get(name) else None


def _built(name: str, kind: type, values: Any) -> Any:
    try:
        return build(kind, _mapping(name, values))
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{name}: expected `key: value` lines, got {brief(value)}")
    return value


def _entries(name: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list) or not value:
        raise UsageError(f"{name}: expected a list of one or more, got {brief(value)}")
    return value


def refuse_seeds(what: str, seeds: Sequence[int], uses: Sequence[str]) -> None:
    """Clips of a seed serve one purpose: a test says nothing about what was trained on it."""
    wrong = [seed for seed in seeds if use_of_seed(seed) not in uses]
    if wrong:
        raise UsageError(
            f"{what}: {len(wrong)} of its clips are not for this (seeds {wrong[:3]}); expected"
            f" seeds for {' or '.join(uses)}: training below 1,000,000, validation below 2,000,000,"
            " the others for tests alone"
        )


def refuse_test_truth(truth: str) -> None:
    """A held-out list may be looked at often; test clips may not."""
    rows = [value for key, _, value in JsonIndex(truth).elements() if key == "videos"]
    seeds = [
        row["seed"] for row in rows if isinstance(row, dict) and isinstance(row.get("seed"), int)
    ]
    refuse_seeds(truth, seeds, ("training", "validation"))
