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
import functools
import math
import reprlib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from vis_core.errors import UsageError
from vis_core.shipped import file_of

T = TypeVar("T")

_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_REQUIRED: Any = dataclasses.MISSING


def setting(
    default: Any = _REQUIRED,
    *,
    says: str,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Sequence[Any] = (),
    file: bool = False,
    execution_only: bool = False,
    because: str = "",
) -> Any:
    """A field of a config: what it does, and which values make sense.

    `says` is one line for people, with what goes wrong when the value is too high or too low.
    Numbers, and all numbers of a tuple, are from `low`, or more than `above`, up to `high`, or less
    than `below`; `because` tells why. `choices` are the legal values where a Literal cannot list
    them. A `file` names a file or a folder, whose content is part of the fingerprint; what is
    `execution_only` changes speed or memory and never a row, and is not.
    """
    return dataclasses.field(
        default=default,
        metadata={
            "says": says,
            "low": low,
            "high": high,
            "above": above,
            "below": below,
            "choices": tuple(choices),
            "file": file,
            "execution_only": execution_only,
            "because": because,
        },
    )


def check(config: Any) -> None:
    """Raises ValueError for the first value that its field does not allow; None always passes."""
    for field in dataclasses.fields(config):
        value, why = getattr(config, field.name), field.metadata.get("because")
        if value is None:
            continue
        legal = choices(type(config), field)
        if legal and value not in legal:
            expected = f"one of {', '.join(map(str, legal))}"
        elif not all(_fits(each, field) for each in _numbers(value)):
            expected = bounds(field) or "a finite number"
        else:
            continue
        reason = f"; {why}" if why else ""
        raise ValueError(f"{field.name}: expected {expected}, got {brief(value)}{reason}")


def _numbers(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value,)


def _fits(value: Any, field: dataclasses.Field[Any]) -> bool:
    low, high, above, below = _limits(field)
    return (
        not (isinstance(value, float) and not math.isfinite(value))
        and (low is None or value >= low)
        and (high is None or value <= high)
        and (above is None or value > above)
        and (below is None or value < below)
    )


def _limits(field: dataclasses.Field[Any]) -> tuple[float | None, ...]:
    return tuple(field.metadata.get(name) for name in ("low", "high", "above", "below"))


def bounds(field: dataclasses.Field[Any]) -> str:
    """The numbers a field allows, in words; empty where any will do."""
    low, high, above, below = _limits(field)
    if low is not None and high is not None:
        return f"{low} to {high}"
    parts = (
        (low, "{} or more"),
        (above, "more than {}"),
        (high, "at most {}"),
        (below, "less than {}"),
    )
    return ", ".join(text.format(value) for value, text in parts if value is not None)


def choices(kind: type, field: dataclasses.Field[Any]) -> tuple[Any, ...]:
    """The values a field allows, where they can be listed."""
    hint = _hints(kind)[field.name]
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    literals = [option for option in options if typing.get_origin(option) is typing.Literal]
    listed = tuple(value for literal in literals for value in typing.get_args(literal))
    return listed or tuple(field.metadata.get("choices", ()))


def allowed(kind: type, field: dataclasses.Field[Any]) -> str:
    """What a field takes, in words: its choices, its bounds, or the kind of value."""
    if listed := choices(kind, field):
        return ", ".join(map(str, listed))
    hint = _hints(kind)[field.name]
    options = [each for each in typing.get_args(hint) if each is not type(None)]
    hint = options[0] if _is_union(hint) else hint
    if field.metadata.get("file"):
        return "a file or folder"
    return bounds(field) or _KINDS.get(hint, "a list")


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


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


def parse_assignments(assignments: Sequence[str], see: str = "") -> dict[str, str]:
    """`["key=value", …]` as given to `--set`; the last one of a key wins.

    `see` is the command that lists the keys.
    """
    settings: dict[str, str] = {}
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            example = "for example --set min_score=0.5"
            raise UsageError(f"--set {text!r}: expected key=value, {example}{_seen_in(see)}")
        settings[key.strip()] = value.strip()
    return settings


def _seen_in(command: str) -> str:
    return f"; `{command}` lists all keys" if command else ""


def split_settings(
    settings: Mapping[str, Any], config_types: Sequence[type], see: str = ""
) -> list[dict[str, Any]]:
    """Deals settings out to the config types that know them; an unknown key is an error.

    `see` is the command that lists the keys.
    """
    shares: list[dict[str, Any]] = [{} for _ in config_types]
    legal = [{field.name for field in dataclasses.fields(kind)} for kind in config_types]
    for key, value in settings.items():
        owners = [share for share, names in zip(shares, legal, strict=True) if key in names]
        if not owners:
            message = unknown_name("setting", key, sorted(set().union(*legal)))
            raise UsageError(message + _seen_in(see))
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
    hints = _hints(typing.cast(Any, kind))
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
    if _is_union(hint):
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
