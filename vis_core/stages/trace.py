"""When each unit and each link ran, as a file that trace viewers open (Perfetto, chrome://tracing).

Times are the driver's: workers report durations, because clocks of machines differ. They count
from the event `start`, which says when that was.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from pathlib import Path
from types import TracebackType
from typing import TextIO

from vis_core.errors import UsageError
from vis_core.store.local_folder import LocalFolder

logger = logging.getLogger(__name__)

_BEGINNING = '[\n{"name": "start", "ph": "i", "ts": 0, '


class Trace:
    """An event a line; the closing bracket is optional in this format. Empty path: off.

    The file appears when the run ends, however it does, in place of an earlier trace or of nothing.
    Like a log, it ends no run: where it cannot be written, that is said once.
    """

    def __init__(self, path: str) -> None:
        self._started = time.monotonic()
        self._lanes: dict[str, int] = {}
        self._file: TextIO | None = None
        self._target = Path(path)
        self._stack = contextlib.ExitStack()
        if path:
            _check(self._target)
            try:
                folder = LocalFolder(self._target.parent)
                self._staged = self._stack.enter_context(folder.staging(self._target.name))
                self._file = self._stack.enter_context(self._staged.open("w"))
            except OSError as error:
                raise UsageError(f"trace: cannot write {path!r}: {error.strerror}") from error
            start = {"name": "start", "ph": "i", "ts": 0, "s": "g", "pid": 0, "tid": 0}
            start["args"] = {"unix_seconds": time.time()}
            self._add(f"[\n{json.dumps(start)},\n")

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._publish()
        except (OSError, UsageError) as failure:
            self._give_up(failure)
        finally:
            self._stack.close()

    def _publish(self) -> None:
        if self._file is None:
            return
        self._file.close()
        _check(self._target)  # again: the run itself may have written a file of this name
        if self._target.exists():
            self._staged.replace(self._target)
        else:
            LocalFolder(self._target.parent).publish(self._staged, self._target.name)

    def _give_up(self, error: Exception) -> None:
        logger.warning("no trace is written: %s", error)
        self._file = None

    def _add(self, text: str) -> None:
        try:
            if self._file is not None:
                self._file.write(text)
        except OSError as error:
            self._give_up(error)

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
        self._add(json.dumps({**event, "pid": 0, "tid": self._lanes[lane]}) + ",\n")


def _check(path: Path) -> None:
    """Nothing is overwritten but an earlier trace."""
    if not path.parent.is_dir():
        raise UsageError(f"trace: cannot write {str(path)!r}: there is no such folder")
    if not path.exists() and not path.is_symlink():
        return
    try:
        if path.is_file():
            with path.open("rb") as file:
                if file.read(len(_BEGINNING)) == _BEGINNING.encode():
                    return
    except OSError as error:
        raise UsageError(f"trace: cannot read {str(path)!r}: {error.strerror}") from error
    raise UsageError(
        f"trace: {str(path)!r} is there already and is no trace; delete it, or choose another name"
    )
