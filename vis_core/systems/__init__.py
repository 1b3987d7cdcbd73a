"""The systems that can run, by name."""

from __future__ import annotations

from vis_core.config import unknown_name
from vis_core.errors import UsageError
from vis_core.system import System
from vis_core.systems.oracle import ORACLE

SYSTEMS: dict[str, System] = {
    "oracle": ORACLE,
}


def get_system(name: str) -> System:
    """The system of this name; an unknown one is an error that names the nearest."""
    if name not in SYSTEMS:
        raise UsageError(unknown_name("system", name, sorted(SYSTEMS)))
    return SYSTEMS[name]
