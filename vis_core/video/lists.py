"""List files: one video per line of text, or a table with a `uri` (or `path`) column."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

from vis_core.errors import SourceError, UsageError
from vis_core.video.uris import is_remote, local_path, local_uri, open_file, shown

LIST_EXTENSIONS = frozenset({".txt", ".lst", ".csv", ".jsonl", ".parquet"})
_ADDRESS_COLUMNS = ("uri", "path")


class ListEntry(NamedTuple):
    """One line: an absolute address, and the id its owner chose, if any."""

    address: str
    video_id: str | None = None


def read_list(uri: str) -> Iterator[ListEntry]:
    """The entries of a list file; relative ones are relative to the folder of the list."""
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    read = readers.get("." + uri.rsplit(".", 1)[-1].lower(), _read_text)
    try:
        with open_file(uri) as file:
            for row in read(file, uri):
                yield _entry(row, uri)
    except (SourceError, FileNotFoundError) as error:
        raise UsageError(f"the list cannot be read: {error}") from error


def _entry(row: Mapping[str, Any], uri: str) -> ListEntry:
    column = next((name for name in _ADDRESS_COLUMNS if row.get(name)), None)
    if column is None:
        raise UsageError(
            f"{shown(uri)}: expected a column 'uri' or 'path' in every row, got {sorted(row)}"
        )
    video_id = row.get("video_id")
    return ListEntry(_absolute(str(row[column]), uri), str(video_id) if video_id else None)


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


def _text(file: BinaryIO) -> io.TextIOWrapper:
    # Names that are not UTF-8 survive; a byte order mark does not.
    return io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")


def _read_text(file: BinaryIO, uri: str) -> Iterator[Mapping[str, Any]]:
    for line in _text(file):
        entry = line.rstrip("\r\n")
        if entry.strip() and not entry.lstrip().startswith("#"):
            yield {"uri": entry.strip()}


def _read_csv(file: BinaryIO, uri: str) -> Iterator[Mapping[str, Any]]:
    import csv

    for row in csv.DictReader(_text(file)):
        yield {str(name).strip(): value for name, value in row.items()}


def _read_jsonl(file: BinaryIO, uri: str) -> Iterator[Mapping[str, Any]]:
    import json

    for number, line in enumerate(_text(file), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{shown(uri)} line {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise UsageError(f"{shown(uri)} line {number}: expected an object, got {line[:40]!r}")
        yield row


def _read_parquet(file: BinaryIO, uri: str) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise UsageError(f"{shown(uri)}: not a Parquet file: {error}") from error
    columns = [n for n in table.schema_arrow.names if n in (*_ADDRESS_COLUMNS, "video_id")]
    for batch in table.iter_batches(columns=columns):
        yield from batch.to_pylist()
