"""Weights that come with the package: `shipped:NAME` stands for a file of `vis_core/weights`."""

from __future__ import annotations

from pathlib import Path

from vis_core.errors import UsageError

LICENCE = "Apache-2.0"  # of all that comes with the package, as the cards say
_SCHEME = "shipped:"
FOLDER = Path(__file__).parent / "weights"


def file_of(value: str) -> str:
    """The file that a setting's value names, which for `shipped:NAME` depends on the machine."""
    if not value.startswith(_SCHEME):
        return value
    names = sorted(path.stem for path in FOLDER.glob("*.safetensors"))
    name = value.removeprefix(_SCHEME)
    if name not in names:
        raise UsageError(f"no weights called {name!r} come with reelmask, only {', '.join(names)}")
    return str(FOLDER / f"{name}.safetensors")


def card_of(value: str) -> str | None:
    """The file that tells what shipped weights are; None for weights of others."""
    return str(Path(file_of(value)).with_suffix(".md")) if value.startswith(_SCHEME) else None
