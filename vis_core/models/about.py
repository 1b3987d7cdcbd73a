"""What a file of weights says of itself: enough to build the network again. Needs no torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors

from vis_core.config import brief
from vis_core.errors import UsageError
from vis_core.types import Category
from vis_core.video.uris import open_regular

_ABOUT = "reelmask"  # the key in a file's metadata


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class About:
    recipe: str
    settings: dict[str, Any]
    categories: list[Category]
    step: int = 0


def read_about(path: str) -> About | None:
    """None: the file is not ours."""
    if Path(path).suffix != ".safetensors":
        return None
    try:
        open_regular(path).close()  # the library would wait for a pipe
        with safetensors.safe_open(path, framework="np") as file:
            return about_of(file.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise UsageError(f"cannot read the weights {path!r}: {first_line(error)}") from error


def about_of(metadata: Mapping[str, str]) -> About | None:
    if _ABOUT not in metadata:
        return None
    try:
        record = json.loads(metadata[_ABOUT])
        record["categories"] = [_category(entry) for entry in record["categories"]]
        about = About(**record)
        if not (isinstance(about.recipe, str) and isinstance(about.settings, dict)):
            raise TypeError("recipe and settings are not what they should be")
        return about
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(
            f"the description in the weights is damaged: {first_line(error)[:200]}"
        ) from error


def _category(entry: Mapping[str, Any]) -> Category:
    category = Category(**entry)
    texts = isinstance(category.name, str) and isinstance(category.source, str)
    if not texts or type(category.label) is not int or not 0 < category.label < 1 << 31:
        raise TypeError(f"a category is {brief(entry)}")
    return category


def metadata_of(about: About) -> dict[str, str]:
    return {_ABOUT: json.dumps(dataclasses.asdict(about))}


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
