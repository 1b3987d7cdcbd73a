"""What is wrong with a data set, named and counted: nothing is left out in silence."""

from __future__ import annotations

import collections
from collections.abc import Mapping

from vis_core.errors import UsageError
from vis_core.formats.fields import shown

# Kinds. Each is the words that follow a number in a message.
MISSING_VIDEOS = "videos without any frame"
MISSING_IMAGES = "images that are not there"
UNSAFE_NAMES = "file names that lead out of the folder"
MALFORMED_ENTRIES = "malformed entries"
REPEATED_IDS = "ids that occur twice"
UNKNOWN_VIDEOS = "annotations of unknown videos"
UNKNOWN_CATEGORIES = "annotations of unknown categories"
OTHER_IDS = "files whose id is not the one of their name"
OTHER_LENGTHS = "lists of the wrong length"
BOXES_ALONE = "boxes without masks"
EMPTY_MASKS = "empty masks"
MALFORMED_MASKS = "malformed masks"
UNREADABLE_IMAGES = "unreadable images"
OTHER_SIZES = "images of another size than their masks"
NO_IMAGE = "masks without an image"
NO_MASKS = "images or videos without masks"
UNREADABLE_TRUTH = "videos whose masks cannot be read"

_EXAMPLES = 3


class Flaw(UsageError):
    """One entry that cannot be used, and what kind of problem that is."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(what)
        self.kind = kind


class Problems:
    """Counts by kind, and the first few names of each."""

    def __init__(self, name: str) -> None:
        self.name = name  # of the data set
        self._counts: collections.Counter[str] = collections.Counter()
        self._examples: dict[str, list[str]] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        return dict(self._counts)

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, kind: str, what: str) -> None:
        self._counts[kind] += 1
        examples = self._examples.setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append(what)

    def merge(self, others: Problems) -> None:
        """Adds those found elsewhere."""
        for kind, count in others._counts.items():
            for what in others._examples[kind]:
                self.add(kind, what)
            self._counts[kind] += count - len(others._examples[kind])

    def summary(self) -> list[str]:
        """One line per kind, the most frequent first."""
        return [
            f"{count} {kind}: {self._named(kind, count)}"
            for kind, count in self._counts.most_common()
        ]

    def _named(self, kind: str, count: int) -> str:
        examples = self._examples[kind]
        more = f" and {count - len(examples)} more" if count > len(examples) else ""
        return shown(examples, _EXAMPLES) + more

    def refuse(self) -> UsageError:
        """The error that says all of it; where problems are not to be passed over."""
        return UsageError(
            f"{self.name}: expected no problems (strict), got {'; '.join(self.summary())};"
            " mend the files, or leave strict out to go on without what is wrong"
        )
