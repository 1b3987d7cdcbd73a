"""How long work tells where it is: a protocol, and the silent one for libraries and tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Told by a run; shows it to a person or not at all."""

    def begin(self, stage: str, total: float, unit: str) -> None:
        """A stage starts; `total` may be 0 where it is not known."""
        ...

    def advance(self, amount: float) -> None: ...

    def note(self, **values: object) -> None:
        """Figures to show beside the bar, such as failures."""
        ...

    def end(self) -> None: ...


class Silence:
    """Shows nothing."""

    def begin(self, stage: str, total: float, unit: str) -> None:
        pass

    def advance(self, amount: float) -> None:
        pass

    def note(self, **values: object) -> None:
        pass

    def end(self) -> None:
        pass


def telling(progress: Progress) -> Callable[[int, int], None]:
    """A callback for the index, which learns how many videos there are to probe as it starts."""

    def tell(done: int, total: int) -> None:
        if done == 1:
            progress.begin("index", total, "videos")
        progress.advance(1)

    return tell
