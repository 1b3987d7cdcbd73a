"""Settings as frozen dataclasses: built from `key=value` text, written back as plain values.

    @dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
    class Config:
        min_score: float = setting(0.1, low=0, high=1, says="Too low keeps noise.")

        def __post_init__(self) -> None:
            check(self)
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from vis_core.errors import UsageError
from vis_core.shipped import file_of

T = TypeVar("T")

_REQUIRED: Any = dataclasses.MISSING


def setting(
    default: Any = _REQUIRED,
    *,
    says: str,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    file: bool = False,
    execution_only: bool = False,
    because: str = "",
) -> Any:
    """A field of a config: what it does, and which values make sense.

    `says` is one line for people, with what goes wrong when the value is too high or too low.
    Numbers are from `low`, or more than `above`, up to `high`; `because` tells why. A `file` names
    a file, whose content is part of the fingerprint; what is `execution_only` changes speed or
    memory and never a row, and is not.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "says": says,
            "low": low,
            "high": high,
            "above": above,
            "file": file,
            "execution_only": execution_only,
            "because": because,
        },
    )


def check(config: Any) -> None:
    """Raises ValueError for the first number out of its field's bounds; None is always allowed."""
    for field in dataclasses.fields(config):
        value, range_ = getattr(config, field.name), bounds(field)
        if value is None or not range_:
            continue
        low, high, above = (field.metadata[name] for name in ("low", "high", "above"))
        fits = (
            (low is None or value >= low)
            and (high is None or value <= high)
            and (above is None or value > above)
        )
        if not fits:  # also for a value that is no number
            because = field.metadata["because"]
            why = f"; {because}" if because else ""
            raise ValueError(f"{field.name}: expected {range_}, got {value}{why}")


def bounds(field: dataclasses.Field[Any]) -> str:
    """The values of a field in words; empty where any will do."""
    low, high, above = (field.metadata.get(name) for name in ("low", "high", "above"))
    if above is not None:
        return f"more than {above}" + ("" if high is None else f", at most {high}")
    if low is None:
        return "" if high is None else f"{high} or less"
    return f"{low} or more" if high is None else f"{low} to {high}"


# A few lines of YAML with aliases can stand for gigabytes of text: messages show the beginning.
_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = _BRIEF.maxlong = 80


def brief(value: Any) -> str:
    """A value as a message shows it: on one line, and never long."""
    return _BRIEF.repr(value)


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """`["key=value", …]` as given to `--set`; the last one of a key wins."""
    settings: dict[str, str] = {}
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise UsageError(f"--set {text!r}: expected key=value, for example --set min_score=0.5")
        settings[key.strip()] = value.strip()
    return settings


def split_settings(
    settings: Mapping[str, Any], config_types: Sequence[type]
) -> list[dict[str, Any]]:
    """Deals settings out to the config types that know them; an unknown key is an error."""
    shares: list[dict[str, Any]] = [{} for _ in config_types]
    legal = [{field.name for field in dataclasses.fields(kind)} for kind in config_types]
    for key, value in settings.items():
        owners = [share for share, names in zip(shares, legal, strict=True) if key in names]
        if not owners:
            raise UsageError(unknown_name("setting", key, sorted(set().union(*legal))))
        for share in owners:
            share[key] = value
    return shares


def unknown_name(what: str, name: str, legal: Sequence[str]) -> str:
    """One sentence that names the nearest legal one."""
    near = difflib.get_close_matches(name, legal, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {what} {name!r}{hint} Known: {', '.join(legal)}"


def build(kind: type[T], values: Mapping[str, Any]) -> T:
    """A config object from text or YAML values, each checked against the field's type."""
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(typing.cast(Any, kind))}
    for key in values:
        if key not in known:
            raise UsageError(unknown_name("setting", key, sorted(known)))
    missing = [
        field.name for field in dataclasses.fields(typing.cast(Any, kind)) if _required(field)
    ]
    if missing := [name for name in missing if name not in values]:
        raise UsageError(f"setting {missing[0]!r} is missing; give it with --set {missing[0]}=…")
    converted = {key: _convert(key, value, hints[key]) for key, value in values.items()}
    try:
        return kind(**converted)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except TypeError as error:
        raise UsageError(f"{kind.__name__}: {error}") from error


def _required(field: dataclasses.Field[Any]) -> bool:
    nothing = dataclasses.MISSING
    return field.default is nothing and field.default_factory is nothing


def _convert(key: str, value: Any, hint: Any) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(hint)
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null")):
            if type(None) in options:
                return None
        else:
            hint = next(option for option in options if option is not type(None))
            return _convert(key, value, hint)
    elif origin is typing.Literal:
        choices = typing.get_args(hint)
        if value in choices:
            return value
        raise UsageError(
            f"{key}: expected one of {', '.join(map(str, choices))}, got {brief(value)}"
        )
    elif origin is tuple:
        if isinstance(value, str | list | tuple):
            items = value.split(",") if isinstance(value, str) else value
            inner = typing.get_args(hint)[0]
            return tuple(_convert(key, item, inner) for item in items)
        raise UsageError(f"{key}: expected a list, got {brief(value)}")
    elif hint is bool:
        text = str(value).lower() if isinstance(value, bool | int | str) else ""
        if text in ("true", "yes", "on", "1", "false", "no", "off", "0"):
            return text in ("true", "yes", "on", "1")
    elif hint in (int, float):
        if (number := _number(value, hint)) is not None:
            return number
    elif hint is str and isinstance(value, str):
        if "\0" in value:  # no file has such a name, and opening one is a ValueError
            raise UsageError(f"{key}: expected text without NUL characters, got {brief(value)}")
        return value
    name = {int: "int", float: "a finite float"}.get(hint, getattr(hint, "__name__", str(hint)))
    raise UsageError(f"{key}: expected {name}, got {brief(value)}")


def _number(value: Any, kind: type) -> int | float | None:
    """The value as that kind of number; None where it is none, or is not finite."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number: int | float = kind(value)
    except (ValueError, OverflowError):
        return None
    if kind is int and not isinstance(value, str) and number != value:
        return None  # 1.5 is a mistake, not 1
    return number if math.isfinite(number) else None


def as_values(config: Any, *, without_execution: bool = False) -> dict[str, Any]:
    """The config as plain values, ready for YAML or JSON."""
    return {
        field.name: _plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if not (without_execution and field.metadata.get("execution_only"))
    }


def file_fields(config: Any) -> dict[str, str]:
    """The files that settings name, by field."""
    return {
        field.name: file_of(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.metadata.get("file") and getattr(config, field.name) is not None
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
