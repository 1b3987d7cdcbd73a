"""When each unit and each link ran, as a file that trace viewers open (Perfetto, chrome://tracing).

Times are the driver's: workers report durations, because clocks of machines differ. They count
from the event `start`, which says when that was.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

from vis_core.errors import UsageError


class Trace:
    """Appends one event a line; the closing bracket is optional in this format. Empty path: off."""

    def __init__(self, path: str) -> None:
        self._started = time.monotonic()
        self._lanes: dict[str, int] = {}
        self._file: TextIO | None = None
        if path:
            try:  # closed by __exit__
                self._file = Path(path).open("w")  # noqa: SIM115
            except OSError as error:
                raise UsageError(f"trace: cannot write {path!r}: {error.strerror}") from error
            start = {"name": "start", "ph": "i", "ts": 0, "s": "g", "pid": 0, "tid": 0}
            start["args"] = {"unix_seconds": time.time()}
            self._file.write(f"[\n{json.dumps(start)},\n")

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def span(self, lane: str, name: str, seconds: float, **facts: object) -> None:
        """Something that took `seconds` and has ended now."""
        if self._file is None:
            return
        if lane not in self._lanes:
            self._lanes[lane] = len(self._lanes)
            self._write({"name": "thread_name", "ph": "M", "args": {"name": lane}}, lane)
        ended = time.monotonic() - self._started
        event = {"name": name, "ph": "X", "ts": round(1e6 * max(0.0, ended - seconds))}
        self._write({**event, "dur": round(1e6 * seconds), "args": facts}, lane)

    def _write(self, event: dict[str, object], lane: str) -> None:
        assert self._file is not None
        self._file.write(json.dumps({**event, "pid": 0, "tid": self._lanes[lane]}) + ",\n")
