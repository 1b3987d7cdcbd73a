"""`systems` and `settings`: what can run, and what can be set about it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from jobs.commands.arguments import add_flags
from vis_core import config, errors, shipped
from vis_core.job_settings import JobSettings
from vis_core.system import NetworkConfig, System
from vis_core.systems import SYSTEMS, get_system
from vis_core.systems.link_only import NoPredictConfig

# What a change of a setting costs.
STAGES = {
    "predict": "a change predicts again, and links again",
    "link": "a change only links again",
    "run": "a change makes no difference to any row",
}
_NARROWEST, _GAP = 60, 2  # columns of a terminal, and between those of a table


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A setting as people and programs read of it."""

    name: str
    stage: str
    default: Any  # None also where there is none, because it is required
    required: bool
    allowed: str  # bounds, choices, or the kind of value
    file: bool
    meaning: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SystemEntry:
    """A system as people and programs read of it."""

    name: str
    meaning: str
    predicts: bool
    takes_weights: bool
    weights: str | None  # by default
    licence: str | None  # of weights that come with reelmask
    card: str | None  # the file that says what they were trained on, and what they reach
    reads: list[list[str]]  # columns of an instance its linker needs, each with what may replace it


def add(commands: Any) -> None:
    sub = commands.add_parser("systems", help="the systems, their weights and what they need")
    add_flags(sub, ("json",))
    sub.set_defaults(command=_systems)
    sub = commands.add_parser("settings", help="every setting of a system and of the run")
    sub.add_argument("system", metavar="SYSTEM", help=", ".join(SYSTEMS))
    add_flags(sub, ("json",))
    sub.set_defaults(command=_settings)


def _settings(arguments: argparse.Namespace) -> int:
    found = settings_of(get_system(arguments.system))
    if arguments.json:
        print(json.dumps([dataclasses.asdict(each) for each in found]))
    else:
        print("\n".join(_settings_table(found)))
    return errors.EXIT_OK


def _systems(arguments: argparse.Namespace) -> int:
    found = [entry_of(system) for system in SYSTEMS.values()]
    if arguments.json:
        print(json.dumps([dataclasses.asdict(each) for each in found]))
    else:
        rows = [(each.name, _does(each), _about(each)) for each in found]
        print("\n".join(table(rows)))
        print("\n`reelmask settings SYSTEM` tells what can be set about one.")
    return errors.EXIT_OK


def settings_of(system: System) -> list[Setting]:
    """Those of its stages in their order, then those of the run."""
    stages: list[tuple[str, type]] = [("link", system.link_config), ("run", JobSettings)]
    if system.predict_config is not NoPredictConfig:
        stages.insert(0, ("predict", system.predict_config))
    found = [
        _setting(stage, kind, field) for stage, kind in stages for field in dataclasses.fields(kind)
    ]
    return sorted(found, key=lambda each: list(STAGES).index(each.stage))


def _setting(stage: str, kind: type, field: dataclasses.Field[Any]) -> Setting:
    required = field.default is dataclasses.MISSING
    return Setting(
        name=field.name,
        stage="run" if field.metadata["execution_only"] else stage,
        default=None if required else field.default,
        required=required,
        allowed=config.allowed(kind, field),
        file=field.metadata["file"],
        meaning=field.metadata["says"],
    )


def entry_of(system: System) -> SystemEntry:
    weights = _default_weights(system)
    card = None if weights is None else shipped.card_of(weights)
    return SystemEntry(
        name=system.name,
        meaning=system.says,
        predicts=system.predict_config is not NoPredictConfig,
        takes_weights=issubclass(system.predict_config, NetworkConfig),
        weights=weights,
        licence=None if card is None else shipped.LICENCE,
        card=card,
        reads=[list(columns) for columns in system.reads(system.link_config())],
    )


def _default_weights(system: System) -> str | None:
    if not issubclass(system.predict_config, NetworkConfig):
        return None
    (default,) = (
        f.default for f in dataclasses.fields(system.predict_config) if f.name == "weights"
    )
    return None if default is dataclasses.MISSING else default


# --- for people -----------------------------------------------------------------------------------


def _settings_table(found: Sequence[Setting]) -> Iterator[str]:
    for stage, cost in STAGES.items():
        rows = [(s.name, _value(s), s.meaning) for s in found if s.stage == stage]
        if rows:
            yield f"{stage}: {cost}"
            yield from (f"  {line}".rstrip() for line in table(rows, indent=2))
            yield ""
    yield "Set one with --set NAME=VALUE, or under `settings:` in a job file."


def _value(setting: Setting) -> str:
    """The default, and what else is allowed."""
    default = "required" if setting.required else _shown(setting.default)
    return f"{default} ({setting.allowed})"


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _does(entry: SystemEntry) -> str:
    return "predict, link" if entry.predicts else "link"


def _about(entry: SystemEntry) -> str:
    text = entry.meaning
    if entry.weights is not None:
        text += f" Weights: {entry.weights}"
        text += f" ({entry.licence}; {entry.card})." if entry.card else "."
    elif entry.takes_weights:
        text += " Weights: none by default."
    if entry.reads:
        text += f" Its linker reads {', '.join(' or '.join(columns) for columns in entry.reads)}."
    return text


def table(rows: Sequence[Sequence[str]], indent: int = 0) -> Iterator[str]:
    """Lines of columns as wide as the terminal; the last one takes the room that is left.

    First columns are as wide as their longest cell, those between at most a quarter of the width.
    """
    width = max(_NARROWEST, shutil.get_terminal_size((100, 24)).columns) - indent
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[1:-1] = [min(each, width // 4) for each in widths[1:-1]]
    widths[-1] = width - sum(widths[:-1]) - _GAP * (len(widths) - 1)
    for row in rows:
        cells = [
            textwrap.wrap(cell, size, break_on_hyphens=False) or [""]
            for cell, size in zip(row, widths, strict=True)
        ]
        for line in range(max(map(len, cells))):
            parts = [cell[line] if line < len(cell) else "" for cell in cells]
            padded = [part.ljust(size) for part, size in zip(parts, widths, strict=True)]
            yield (" " * _GAP).join(padded).rstrip()
