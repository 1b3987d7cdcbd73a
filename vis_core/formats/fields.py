"""Fields of untrusted JSON objects, checked one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from vis_core.config import brief
from vis_core.errors import UsageError

_MAX_WHOLE = 2**31 - 1


def record(value: Any, where: str) -> Mapping[str, Any]:
    """The value, which must be an object."""
    if not isinstance(value, dict):
        raise UsageError(f"{where}: expected an object, got {brief(value)}")
    return value


def whole(row: Mapping[str, Any], name: str, where: str, *, lowest: int = 0) -> int:
    """A whole number that fits 32 bits; one written as 3.0 counts."""
    value = row.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= _MAX_WHOLE:
        raise UsageError(
            f"{where}: expected a whole number of {lowest} or more under {name!r},"
            f" got {brief(row.get(name))}"
        )
    return value


def number(row: Mapping[str, Any], name: str, where: str) -> float:
    """A finite number."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
        raise UsageError(f"{where}: expected a number under {name!r}, got {brief(value)}")
    return float(value)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def a_list(row: Mapping[str, Any], name: str, where: str) -> list[Any]:
    value = row.get(name)
    if not isinstance(value, list):
        raise UsageError(f"{where}: expected a list under {name!r}, got {brief(value)}")
    return value


def text(row: Mapping[str, Any], name: str, where: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise UsageError(f"{where}: expected text under {name!r}, got {brief(value)}")
    return value


def shown(names: list[str], most: int = 5) -> str:
    """The first of many names, for a message that says which."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
