"""YAML of plain values, from anybody: what it may grow to is bounded while it is read.

A few lines with aliases or merge keys can stand for gigabytes: an alias counts as much as what it
stands for. A key that is there twice is an error, because the last one would silently win.
"""

from __future__ import annotations

from typing import Any

import yaml

from vis_core.errors import UsageError

MAX_BYTES = 1 << 20
MAX_NODES = 20_000  # values and keys; job files have tens, those with long lists some thousands
MAX_DEPTH = 16
MAX_VALUE_LENGTH = 16_384  # characters; numbers take time by the square of theirs


def parse(text: str, *, max_nodes: int = MAX_NODES) -> Any:
    """The one document in `text`; a mistake is a UsageError that names its line."""
    loader = _Loader(text, max_nodes)
    try:
        return loader.get_single_data()
    except RecursionError as error:
        raise UsageError("not valid YAML: nested too deeply") from error
    # Besides its own errors, PyYAML lets out what its constructors stumble over ("2024-99-99").
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UsageError(f"not valid YAML: {' '.join(str(error).split())[:400]}") from error
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """Counts as it composes; nothing is built of a document that is too large."""

    def __init__(self, text: str, max_nodes: int) -> None:
        self._max_nodes = max_nodes
        self._num_nodes = self._depth = 0
        self._sizes: dict[str, int] = {}  # by anchor, with everything below
        try:
            super().__init__(text)
        except yaml.YAMLError as error:  # the reader's: a character that YAML does not have
            raise UsageError(f"not valid YAML: {' '.join(str(error).split())}") from error

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        before = self._num_nodes
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UsageError(f"{_line(event)}: nested too deeply; {MAX_DEPTH} levels are allowed")
        alias = isinstance(event, yaml.AliasEvent)
        self._count(self._sizes.get(event.anchor, 1) if alias else 1, event)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not alias and event.anchor is not None:
            self._sizes[event.anchor] = self._num_nodes - before
        return node

    def _count(self, number: int, event: Any) -> None:
        self._num_nodes += number
        if self._num_nodes > self._max_nodes:
            raise UsageError(
                f"{_line(event)}: more than {self._max_nodes} values, aliases counted as what they"
                " stand for; a long list of inputs belongs in a file of its own, one per line"
            )

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        if len(node.value) > MAX_VALUE_LENGTH:
            raise UsageError(
                f"{_line(node)}: a value of {len(node.value)} characters; at most"
                f" {MAX_VALUE_LENGTH} are allowed"
            )
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            name, line = (key.tag, key.value), key.start_mark.line + 1
            if name in lines:
                raise UsageError(
                    f"line {line}: {key.value[:80]!r} is there twice, first in line {lines[name]};"
                    " keep one of them"
                )
            lines[name] = line
        return node


def _line(thing: Any) -> str:
    return f"line {thing.start_mark.line + 1}"
