"""Large JSON files, one element at a time: where each element of the top lists lies, then by place.

A truth file or a results file is an object, or a list, of long lists whose elements are small.
`JsonIndex` walks through such a file once in bounded memory and tells of every element; what is
wanted again is read by its place. Files are untrusted: elements, names and nesting have limits.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

from vis_core.config import brief
from vis_core.errors import UsageError
from vis_core.video.uris import open_regular

MAX_ELEMENT_BYTES = 256 << 20
_CHUNK = 1 << 20
_SPACE = " \t\n\r"
_AFTER = tuple(_SPACE + ",:]}")


class Place(NamedTuple):
    """Where an element lies in the file, in bytes."""

    start: int
    stop: int


class Element(NamedTuple):
    """One element of the list under a top-level key (`""` for a file that is a list)."""

    key: str
    place: Place
    value: Any


class JsonIndex:
    """A JSON file, read twice: once as a whole to know where things are, once what is wanted."""

    def __init__(self, path: str) -> None:
        self.path = path

    def elements(self) -> Iterator[Element]:
        """Every element of every top-level list; other top-level values are passed over."""
        try:
            with open_regular(self.path) as file:
                yield from _Walk(file, self.path).elements()
        except RecursionError as error:
            raise UsageError(f"{self.path}: nested too deeply for such a file") from error
        except OSError as error:
            raise UsageError(f"cannot read {self.path!r}: {error.strerror or error}") from error

    def read(self, places: Sequence[Place]) -> list[Any]:
        """The elements at places that `elements` told of."""
        found = []
        try:
            with open_regular(self.path) as file:
                for place in places:
                    file.seek(place.start)
                    found.append(json.loads(file.read(place.stop - place.start)))
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"{self.path}: changed while it was read: {error}") from error
        return found


class _Walk:
    """A buffer of the file as Latin-1 text, so that positions are bytes, and a position in it.

    Only bytes of ASCII have a meaning in JSON, so the ends of elements are found right; strings
    with other characters are decoded anew.
    """

    def __init__(self, file: IO[bytes], path: str) -> None:
        self._file = file
        self._path = path
        self._decoder = json.JSONDecoder()
        self._start = 0  # of the buffer, in the file
        self._text = ""
        self._at = 0
        self._ended = False

    def elements(self) -> Iterator[Element]:
        if self._peek() == "\xef":  # a byte order mark
            self._at += len(codecs.BOM_UTF8)
        opened = self._next("{[")
        if opened == "[":
            yield from self._list("")
        elif self._peek() == "}":
            self._next("}")
        else:
            yield from self._members()
        if self._peek():
            raise self._error("expected the end of the file")

    def _members(self) -> Iterator[Element]:
        while True:
            key = self._value()[1]
            if not isinstance(key, str):
                raise self._error(f"expected a name in quotes, got {brief(key)}")
            self._next(":")
            if self._peek() == "[":
                self._next("[")
                yield from self._list(key)
            else:
                self._value()
            if self._next(",}") == "}":
                return

    def _list(self, key: str) -> Iterator[Element]:
        if self._peek() == "]":
            self._next("]")
            return
        while True:
            place, value = self._value()
            yield Element(key, place, value)
            if self._next(",]") == "]":
                return

    def _value(self) -> tuple[Place, Any]:
        """Decodes the value at the position and steps behind it."""
        self._peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except ValueError as error:
                if self._ended:
                    raise self._error(str(error)) from error
            else:
                # A number at the very end of the buffer may go on ("0" of "0.5").
                if self._ended or self._text[end : end + 1] in _AFTER:
                    break
            if len(self._text) - self._at > MAX_ELEMENT_BYTES:
                raise self._error(f"an element of more than {MAX_ELEMENT_BYTES >> 20} MiB")
            self._grow()
        text, start = self._text[self._at : end], self._start + self._at
        self._at = end
        if not text.isascii():
            try:
                value = json.loads(text.encode("latin-1"))
            except ValueError as error:
                raise self._error("it is not UTF-8") from error
        return Place(start, start + len(text)), value

    def _peek(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._grow()

    def _next(self, expected: str) -> str:
        found = self._peek()
        if not found or found not in expected:
            raise self._error(f"expected {' or '.join(expected)}, got {found or 'the end'}")
        self._at += 1
        return found

    def _grow(self) -> None:
        """Drops what is behind the position and reads on; twice as much where one was too long."""
        rest = self._text[self._at :]
        self._start += self._at
        self._at = 0
        wanted = max(_CHUNK, len(rest))
        pieces = [rest]
        while wanted > 0:
            data = self._file.read(_CHUNK)
            if not data:
                self._ended = True
                break
            pieces.append(data.decode("latin-1"))
            wanted -= len(data)
        self._text = "".join(pieces)

    def _error(self, message: str) -> UsageError:
        at = self._start + self._at
        return UsageError(f"{self._path}: not JSON as expected, at byte {at}: {message}")
