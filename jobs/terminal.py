"""The one place where words leave the program: stdout for results, stderr for the rest.

Names of files are other people's bytes. What a terminal would obey, or show in another order, is
written as `\\u001b`; what its encoding lacks is escaped too. Both forms are JSON's own, so that
JSON stays valid. A place that takes no words any more (a closed pipe, a terminal that is gone)
never ends the work.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO

# Control characters but tab and newline, marks that turn the direction of text, line separators.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def escaped(text: str) -> str:
    """Text that no terminal takes for a command; lines stay lines."""
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(value: object) -> str:
    """Somebody else's text within a line of ours: it must not begin lines of its own."""
    return escaped(str(value)).replace("\n", "\\n").replace("\t", "\\t")


class Output:
    """A stream that takes any text and never raises; what failed first is in `error`."""

    def __init__(self, stream: TextIO | None, *, raw: bool = False) -> None:
        self._stream = stream.stream if isinstance(stream, Output) else stream
        self._raw = raw  # for bars, which move the cursor, and show nothing of others
        self.error: OSError | None = None

    @property
    def stream(self) -> TextIO | None:
        return self._stream

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        stream = self._stream
        if stream is not None and self.error is None:
            shown = text if self._raw else escaped(text)
            shown = shown.encode(self.encoding, "backslashreplace").decode(self.encoding)
            try:
                stream.write(shown)
            except (OSError, ValueError) as error:  # ValueError: it was closed
                self._give_up(error)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._stream is not None and self.error is None:
            try:
                self._stream.flush()
            except (OSError, ValueError) as error:
                self._give_up(error)

    def _give_up(self, error: OSError | ValueError) -> None:
        self.error = error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))
        # Python flushes the stream once more as it ends, and would complain of it.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if (descriptor := self.fileno()) in (1, 2):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)

    def isatty(self) -> bool:
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError(errno.EBADF, "the stream is closed")
        return self._stream.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Handler(logging.StreamHandler):
    """Log lines to what stderr is at the time."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(_Formatter("%(message)s"))

    @property
    def stream(self) -> Any:
        return sys.stderr if isinstance(sys.stderr, Output) else Output(sys.stderr)


class _Formatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """For the block, all that is printed or logged goes through here."""
    _fill_closed_descriptors()
    before = sys.stdout, sys.stderr
    out, err = Output(sys.stdout), Output(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


def failure_of_stdout() -> OSError | None:
    """What kept the result from its reader; a reader that went away wanted no more."""
    out = sys.stdout
    out.flush()
    error = out.error if isinstance(out, Output) else None
    return None if error is None or error.errno == errno.EPIPE else error


def _fill_closed_descriptors() -> None:
    """Where 0, 1 or 2 is closed, the next file opened would take its number, and our words."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
