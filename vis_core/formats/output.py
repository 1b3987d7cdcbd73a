"""What is exported appears whole or not at all, and never over something that is there."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from vis_core.errors import UsageError
from vis_core.store.local_folder import STAGING_PREFIX, LocalFolder, full_disk_is_clear


def check_is_new(out: str) -> Path:
    """The path to write to; one that exists is refused, since it may be somebody's only copy."""
    if "://" in out:
        raise UsageError(f"--out {out!r}: exports are local files; copy them there afterwards")
    path = Path(out)
    if path.is_symlink() or path.exists():
        raise UsageError(f"{out!r} exists already; delete it, or choose another --out")
    return path


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to; it gets its name when all went well."""
    folder = LocalFolder(path.parent)
    with folder.staging(path.name) as staged:
        yield staged
        if not folder.publish(staged, path.name):
            raise UsageError(f"{str(path)!r} was made by somebody else meanwhile; it is kept")


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to write to; it gets its name when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.parent / f"{STAGING_PREFIX}{secrets.token_hex(8)}"
    staged.mkdir()
    try:
        with full_disk_is_clear(str(path)):
            yield staged
            check_is_new(str(path))
            staged.rename(path)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def dumps(value: Any) -> str:
    """Compact JSON; NaN is no JSON and raises."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


class VideoSpool:
    """JSON values by video on disk: in as the videos come, out in order of their ids.

    Order of storage depends on how a run went; what people get must not.
    """

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - own context
        self._places: dict[str, tuple[int, int]] = {}

    def __enter__(self) -> VideoSpool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, video_id: str, value: Any) -> None:
        data = dumps(value).encode()
        self._places[video_id] = (self._file.tell(), len(data))
        self._file.write(data)

    def in_order(self) -> Iterator[tuple[str, Any]]:
        end = self._file.tell()
        for video_id in sorted(self._places):
            start, length = self._places[video_id]
            self._file.seek(start)
            yield video_id, json.loads(self._file.read(length))
        self._file.seek(end)


class JsonLists:
    """A JSON object of long lists, written side by side and joined at the end."""

    def __init__(self, path: Path, head: Mapping[str, Any], lists: Iterable[str]) -> None:
        self._path = path
        self._head = head
        self._stack = contextlib.ExitStack()
        self._files: dict[str, IO[str]] = {}
        self._counts = dict.fromkeys(lists, 0)

    def __enter__(self) -> JsonLists:
        for name in self._counts:
            file = tempfile.TemporaryFile("w+", dir=self._path.parent, encoding="ascii")
            self._files[name] = self._stack.enter_context(file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            if kind is None:
                self._join()

    def add(self, name: str, value: Any) -> int:
        """Appends to a list; returns how many it holds now, which serves as an id from 1."""
        self._files[name].write((",\n" if self._counts[name] else "\n") + dumps(value))
        self._counts[name] += 1
        return self._counts[name]

    def _join(self) -> None:
        with self._path.open("w", encoding="ascii") as out:
            separator = "{"
            for key, value in self._head.items():
                out.write(f"{separator}{dumps(key)}:{dumps(value)}")
                separator = ",\n"
            for name, file in self._files.items():
                out.write(f"{separator}{dumps(name)}:[")
                file.seek(0)
                shutil.copyfileobj(file, out, 1 << 20)
                out.write("\n]")
                separator = ",\n"
            out.write("}\n")
