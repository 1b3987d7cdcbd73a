"""Progress on stderr: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

LINE_SECONDS = 10.0


class Bar:
    """A bar that redraws itself; for people who watch."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def begin(self, stage: str, total: float, unit: str) -> None:
        self._bar = tqdm(
            desc=stage, total=round(total) or None, unit=f" {unit}", file=sys.stderr, leave=True
        )

    def advance(self, amount: float) -> None:
        if self._bar is not None:
            self._bar.update(round(amount))

    def note(self, **values: object) -> None:
        if self._bar is not None:
            self._bar.set_postfix(values)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Lines:
    """A line every ten seconds and one at the end of a stage; for logs."""

    def __init__(self, stream: TextIO, seconds: float = LINE_SECONDS) -> None:
        self._stream = stream
        self._seconds = seconds
        self._notes: dict[str, object] = {}
        self._stage, self._unit, self._total, self._done = "", "", 0.0, 0.0
        self._started = self._last = 0.0

    def begin(self, stage: str, total: float, unit: str) -> None:
        self._stage, self._unit, self._total, self._done = stage, unit, total, 0.0
        self._started = self._last = time.monotonic()

    def advance(self, amount: float) -> None:
        self._done += amount
        if time.monotonic() - self._last >= self._seconds:
            self._print()

    def note(self, **values: object) -> None:
        self._notes.update(values)

    def end(self) -> None:
        if self._done:
            self._print()

    def _print(self) -> None:
        self._last = time.monotonic()
        rate = self._done / max(self._last - self._started, 1e-9)
        of = f"/{self._total:.0f}" if self._total else ""
        left = max(0.0, self._total - self._done) / rate if rate and self._total else 0.0
        eta = f", {left:.0f} s left" if left else ""
        notes = "".join(f", {name} {value}" for name, value in self._notes.items())
        text = f"{self._stage}: {self._done:.0f}{of} {self._unit}, {rate:.1f}/s{eta}{notes}"
        print(text, file=self._stream, flush=True)


def for_stderr() -> Bar | Lines:
    """What suits the place stderr goes to."""
    return Bar() if sys.stderr.isatty() else Lines(sys.stderr)
