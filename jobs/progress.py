"""Progress on stderr: a bar on a terminal, a line now and then in a log. It never raises."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import Any, TextIO

from tqdm import tqdm

from jobs.terminal import Output

LINE_SECONDS = 10.0


class Bar:
    """A bar that redraws itself; for people who watch."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None

    def begin(self, stage: str, total: float, unit: str) -> None:
        self._bar = tqdm(
            desc=stage,
            total=round(total) or None,
            unit=f" {unit}",
            file=Output(sys.stderr, raw=True),
            dynamic_ncols=True,
            leave=True,
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
    """A line every ten seconds, also while nothing is done, and one at the end of a stage."""

    def __init__(self, stream: TextIO | None, seconds: float = LINE_SECONDS) -> None:
        self._stream = Output(stream)
        self._seconds = seconds
        self._notes: dict[str, object] = {}
        self._stage, self._unit, self._total, self._done = "", "", 0.0, 0.0
        self._started = 0.0
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def begin(self, stage: str, total: float, unit: str) -> None:
        self.end()
        with self._lock:
            self._stage, self._unit, self._total, self._done = stage, unit, total, 0.0
            self._started = time.monotonic()
            self._ended = threading.Event()
        with contextlib.suppress(RuntimeError):  # no thread to be had: one line at the end
            threading.Thread(target=self._tick, args=(self._ended,), daemon=True).start()

    def advance(self, amount: float) -> None:
        with self._lock:
            self._done += amount

    def note(self, **values: object) -> None:
        with self._lock:
            self._notes.update(values)

    def end(self) -> None:
        if self._stage and not self._ended.is_set():
            self._ended.set()
            if self._done:
                self._print()

    def _tick(self, ended: threading.Event) -> None:
        while not ended.wait(self._seconds):
            self._print()

    def _print(self) -> None:
        with self._lock:
            seconds = max(time.monotonic() - self._started, 1e-9)
            rate = self._done / seconds
            of = f"/{self._total:.0f}" if self._total else ""
            left = max(0.0, self._total - self._done) / rate if rate and self._total else 0.0
            eta = f", {left:.0f} s left" if left else ""
            notes = "".join(f", {value} {name}" for name, value in self._notes.items())
            text = f"{self._stage}: {self._done:.0f}{of} {self._unit}, {rate:.1f}/s{eta}{notes}"
        self._stream.write(f"{text}\n")
        self._stream.flush()


def for_stderr() -> Bar | Lines:
    """What suits the place stderr goes to."""
    return Bar() if Output(sys.stderr).isatty() else Lines(sys.stderr)
