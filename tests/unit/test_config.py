"""Settings from text: typed, checked, with a remedy in every message."""

import dataclasses
from typing import Literal

import pytest

from vis_core import config
from vis_core.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    path: str = dataclasses.field(metadata={"file": True})
    count: int = 1
    ratio: float = 0.5
    on: bool = False
    name: str | None = None
    sizes: tuple[int, ...] = (1, 2)
    mode: Literal["hard", "soft"] = "hard"
    workers: int = dataclasses.field(default=2, metadata={"execution_only": True})

    def __post_init__(self):
        if self.count < 0:
            raise ValueError(f"count: expected 0 or more, got {self.count}")


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("count", "7", 7),
        ("ratio", "1e-3", 1e-3),
        ("on", "yes", True),
        ("on", "0", False),
        ("name", "none", None),
        ("name", "x=y", "x=y"),
        ("sizes", "3,4,5", (3, 4, 5)),
        ("mode", "soft", "soft"),
    ],
)
def test_text_becomes_typed_values(key, text, value):
    built = config.build(Example, {"path": "p", key: text})
    assert getattr(built, key) == value
    assert config.build(Example, config.as_values(built)) == built


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "'path' is missing"),
        ({"path": "p", "cuont": "1"}, "did you mean 'count'"),
        ({"path": "p", "count": "1.5"}, "count: expected int, got '1.5'"),
        ({"path": "p", "count": "-1"}, "0 or more"),
        ({"path": "p", "on": "maybe"}, "on: expected bool"),
        ({"path": "p", "mode": "loud"}, "one of hard, soft"),
        ({"path": 3}, "path: expected str"),
        ({"path": "p", "count": True}, "count: expected int"),
        ({"path": "p", "count": 1.5}, "count: expected int, got 1.5"),
        ({"path": "p", "count": float("inf")}, "count: expected int, got inf"),
        ({"path": "p", "ratio": "nan"}, "ratio: expected a finite float, got 'nan'"),
        ({"path": "p", "ratio": float("inf")}, "ratio: expected a finite float, got inf"),
        ({"path": "p", "ratio": 10**400}, "ratio: expected a finite float"),
        ({"path": "p", "sizes": 5}, "sizes: expected a list, got 5"),
        ({"path": "a\0b"}, "path: expected text without NUL"),
    ],
)
def test_mistakes_say_what_was_expected(values, says):
    with pytest.raises(UsageError) as caught:
        config.build(Example, values)
    assert says in str(caught.value)


def test_execution_settings_are_no_part_of_the_content():
    values = config.as_values(Example(path="p"), without_execution=True)
    assert "workers" not in values and values["sizes"] == [1, 2]
    assert config.file_fields(Example(path="p")) == {"path": "p"}


def test_assignments():
    assert config.parse_assignments(["a=1", "b=x=y", "a=2"]) == {"a": "2", "b": "x=y"}
    with pytest.raises(UsageError, match="expected key=value"):
        config.parse_assignments(["novalue"])
