"""List files: one video per line of text, or a table with a `uri` (or `path`) column."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from vis_core.addresses import is_remote, scrubbed
from vis_core.config import brief
from vis_core.errors import ReelmaskError, SourceError, UsageError
from vis_core.video.uris import local_path, local_uri, open_file, shown

_MAX_LINE = 1 << 20  # characters; rows of tables may hold more than an address
_MAX_ADDRESS = 16 << 10  # signatures take a few thousand characters
LIST_EXTENSIONS = frozenset({".txt", ".lst", ".csv", ".jsonl", ".parquet"})
_ADDRESS_COLUMNS = ("uri", "path")
_ROWS_AT_ONCE = 1024


class ListEntry(NamedTuple):
    """One line: an absolute address, and the id its owner chose, if any."""

    address: str
    video_id: str | None = None


class _Row(NamedTuple):
    """One row as it stands, and where, for messages."""

    where: str
    values: Mapping[str, Any]


def read_list(uri: str) -> Iterator[ListEntry]:
    """The entries of a list file; relative ones are relative to the folder of the list."""
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    read = readers.get("." + uri.rsplit(".", 1)[-1].lower(), _read_text)
    try:
        with open_file(uri) as file:
            for row in read(file, shown(uri)):
                yield _entry(row, uri)
    except UsageError:
        raise
    except (SourceError, FileNotFoundError) as error:
        raise UsageError(f"the list cannot be read: {error}") from error
    except (OSError, ReelmaskError):
        raise
    except Exception as error:
        if not is_remote(uri):
            raise
        what = f"{type(error).__name__}: {scrubbed(str(error))}"  # every store has its own errors
        raise UsageError(f"the list {shown(uri)} cannot be read: {what}") from error


def _entry(row: _Row, uri: str) -> ListEntry:
    values = row.values
    column = next((name for name in _ADDRESS_COLUMNS if values.get(name)), None)
    if column is None:
        raise UsageError(
            f"{row.where}: expected a column 'uri' or 'path' in every row, got"
            f" {brief(sorted(values))}"
        )
    address = str(values[column])
    if len(address) > _MAX_ADDRESS:
        raise UsageError(
            f"{row.where}: expected a path or URL, got {len(address)} characters"
            f" ({address[:40]!r}…); is this a list of videos?"
        )
    if "\0" in address:
        raise UsageError(
            f"{row.where}: expected a path or URL, got one with a NUL character"
            f" ({address[:40]!r}); is this a text file?"
        )
    _check_is_encodable(address, row.where)
    video_id = values.get("video_id")
    return ListEntry(_absolute(address, uri), str(video_id) if video_id else None)


def _check_is_encodable(address: str, where: str) -> None:
    """JSON can spell halves of characters, which no name holds."""
    try:
        os.fsencode(address)
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{where}: expected a path or URL, got one with half a character"
            f" ({address[:40]!a}): write it as UTF-8"
        ) from error


def _absolute(address: str, list_uri: str) -> str:
    """A local entry as a `file://` address, a remote one as it stands."""
    if is_remote(address):
        return address
    path = local_path(address)
    assert path is not None, "a local address has a path"
    parent = list_uri.rsplit("/", 1)[0]
    if is_remote(list_uri):
        return address if path.startswith("/") else f"{parent}/{path}"
    folder = local_path(parent + "/")
    return local_uri(os.path.join(folder or "/", path))  # noqa: PTH118 - keeps "a/../b" for abspath


def _lines(file: BinaryIO, name: str) -> Iterator[str]:
    # Names that are not UTF-8 survive; a byte order mark does not.
    text = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")
    for number in itertools.count(1):
        line = text.readline(_MAX_LINE + 1)
        if len(line) > _MAX_LINE:
            raise UsageError(
                f"{name} line {number}: longer than {_MAX_LINE} characters; expected one video per"
                " line"
            )
        if not line:
            return
        yield line


def _read_text(file: BinaryIO, name: str) -> Iterator[_Row]:
    for number, line in enumerate(_lines(file, name), 1):
        entry = line.rstrip("\r\n")
        if entry.strip() and not entry.lstrip().startswith("#"):
            yield _Row(f"{name} line {number}", {"uri": entry.strip()})


def _read_csv(file: BinaryIO, name: str) -> Iterator[_Row]:
    import csv

    rows = csv.DictReader(_lines(file, name))
    try:
        for row in rows:
            values = {str(column).strip(): value for column, value in row.items()}
            yield _Row(f"{name} line {rows.line_num}", values)
    except csv.Error as error:
        raise UsageError(
            f"{name} line {rows.reader.line_num}: not CSV: {error}; is a quote left open?"
        ) from error


def _read_jsonl(file: BinaryIO, name: str) -> Iterator[_Row]:
    import json

    for number, line in enumerate(_lines(file, name), 1):
        if not line.strip():
            continue
        where = f"{name} line {number}"
        try:
            row = json.loads(line)
        except RecursionError as error:
            raise UsageError(f"{where}: nested too deeply; expected a flat object") from error
        except ValueError as error:
            raise UsageError(f"{where}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UsageError(f"{where}: expected an object, got {line[:40]!r}")
        yield _Row(where, row)


def _read_parquet(file: BinaryIO, name: str) -> Iterator[_Row]:
    import pyarrow.parquet as pq

    from vis_core.parquet_errors import reading

    with reading(f"{name}:", "not a Parquet file"):
        table = pq.ParquetFile(file)
        columns = [n for n in table.schema_arrow.names if n in (*_ADDRESS_COLUMNS, "video_id")]
        first = 1
        for batch in table.iter_batches(columns=columns, batch_size=_ROWS_AT_ONCE):
            for number, row in enumerate(batch.to_pylist(), first):
                yield _Row(f"{name} row {number}", row)
            first += len(batch)
