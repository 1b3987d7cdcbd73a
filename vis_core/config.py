"""Settings as frozen dataclasses: built from `key=value` text, written back as plain values.

A field may carry metadata: `file` (its value names a file whose content is part of the
fingerprint) and `execution_only` (it changes speed or memory, never the rows).
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

_BRIEF_LENGTH = 200


class _Brief(reprlib.Repr):
    """The beginning of a value: it may stand for gigabytes of text, and be nested at will."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = self.maxlong = 80

    def repr_int(self, x: int, level: int) -> str:
        """Python itself refuses to write out very long numbers."""
        if x.bit_length() > 1024:
            return f"<a number of {x.bit_length()} bits>"
        return super().repr_int(x, level)


def brief(value: Any) -> str:
    """A value as a message shows it: on one line, and never long."""
    text = _Brief().repr(value)
    return text if len(text) <= _BRIEF_LENGTH else f"{text[: _BRIEF_LENGTH - 3]}..."


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
    near = difflib.get_close_matches(str(name)[:80], legal, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {what} {brief(name)}{hint} Known: {', '.join(legal)}"


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
