"""Folders of a data set: what is in them, listed once each, and names from files kept inside."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from vis_core.columns import offsets_of
from vis_core.errors import UsageError
from vis_core.formats.fields import shown
from vis_core.formats.names import relative_path


class Names:
    """Many short texts in one piece of memory: a million are cheap to keep and to pickle."""

    def __init__(self, texts: Iterable[str]) -> None:
        # Names on disk need not be UTF-8, names in JSON may be half a character.
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        self._bytes = b"".join(encoded)
        self._offsets = offsets_of(np.fromiter(map(len, encoded), np.int64, len(encoded)))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, index: int) -> str:
        piece = self._bytes[self._offsets[index] : self._offsets[index + 1]]
        return piece.decode("utf-8", "surrogatepass")


class Listings:
    """Which files there are below a folder, with one look at each folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._names: dict[str, frozenset[str]] = {}

    def names(self, folder: str = "") -> frozenset[str]:
        """What a folder holds; nothing where there is none."""
        if folder not in self._names:
            try:
                found = frozenset(os.listdir(self.root / folder))  # noqa: PTH208 - names only
            except OSError:
                found = frozenset()
            self._names[folder] = found
        return self._names[folder]

    def has(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        return name in self.names(folder)


def is_inside(name: str) -> bool:
    """Whether a name from a file stays below the folder it is meant for."""
    try:
        return bool(name) and relative_path(name) == name
    except UnicodeEncodeError:  # half a character
        return False


def folder_of(path: str, layout: str) -> Path:
    """The root of a data set, which must be there."""
    root = Path(path)
    if not root.is_dir():
        raise UsageError(
            f"{path!r}: expected the folder of a data set in layout {layout}, got"
            f" {'a file' if root.exists() else 'nothing there'}; docs/datasets.md shows its tree"
        )
    return root


def first_folder(root: Path, candidates: Sequence[str], what: str) -> Path:
    """The first of some folders that is there."""
    for name in candidates:
        if (root / name).is_dir():
            return root / name
    raise UsageError(
        f"{str(root)!r}: expected {what} in {' or '.join(candidates)}, got no such folder;"
        " docs/datasets.md shows the tree"
    )


def annotation_file(root: Path, given: str | None, folders: Sequence[str], prefix: str) -> Path:
    """The JSON file with the truth: the one that is named, or the only one there is."""
    if given is not None:
        if not (root / given).is_file():
            raise UsageError(f"annotations: expected a file below {str(root)!r}, got {given!r}")
        return root / given
    found = sorted(_json_files(root, folders, prefix))
    if len(found) != 1:
        names = [path.relative_to(root).as_posix() for path in found]
        raise UsageError(
            f"{str(root)!r}: expected one file {prefix}*.json with annotations, got"
            f" {shown(names) if names else 'none'}; say which with `annotations`"
        )
    return found[0]


def _json_files(root: Path, folders: Sequence[str], prefix: str) -> Iterator[Path]:
    for folder in folders:
        for path in (root / folder).glob(f"{prefix}*.json"):
            if path.is_file() and not path.name.startswith("."):
                yield path
