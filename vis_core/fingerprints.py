"""What makes two results the same: hashes over settings, content of named files and versions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vis_core import config
from vis_core.addresses import checked, filesystem, is_remote, scrubbed
from vis_core.errors import SourceError, UsageError
from vis_core.system import System
from vis_core.video.uris import open_file, open_regular, shown

_MOST_FILES = 10_000  # of a folder: more are no weights, but somebody's home


def digest_of(value: Any) -> str:
    """SHA-256 of canonical JSON: sorted keys, no spaces, no NaN."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True
    )
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_file(path: str, chunk_bytes: int = 1 << 20) -> str:
    """SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with reading(path), open_file(path) if is_remote(path) else open_regular(path) as file:
        while chunk := file.read(chunk_bytes):
            digest.update(chunk)
    return digest.hexdigest()


def digest_of_path(path: str) -> str:
    """SHA-256 of what a path or address names: a file's content, or a local folder's tree."""
    if is_remote(path):
        return _digest_of_remote(path)
    if not os.path.isdir(path):  # noqa: PTH112 - Path's raises where a name is too long
        return digest_of_file(path)
    tree = {
        name: [status.st_size, digest_of_file(str(Path(path, name)))]
        for name, status in files_in(path).items()
    }
    return digest_of({"folder": tree})


def _digest_of_remote(address: str) -> str:
    is_folder = checked(address).endswith("/")
    try:
        if not is_folder:
            return digest_of_file(address)
    except UsageError:
        with contextlib.suppress(UsageError), reading(address):
            files, path = filesystem(address)
            is_folder = bool(files.isdir(path))
        if not is_folder:
            raise
    raise UsageError(
        f"cannot read {shown(address)!r}: expected a file at an address, got a folder; copy the"
        " folder to the same local path on every node, and name that"
    )


def files_in(folder: str) -> dict[str, os.stat_result]:
    """All files of a folder by their names below it, at any depth."""
    found: dict[str, os.stat_result] = {}
    folders, seen = [""], 0
    while folders:
        above = folders.pop()
        with reading(folder), os.scandir(Path(folder, above)) as entries:
            for entry in entries:
                name, seen = f"{above}{entry.name}", seen + 1
                if seen > _MOST_FILES:
                    raise UsageError(
                        f"cannot read {folder!r}: expected a folder of at most {_MOST_FILES} files,"
                        " got more; name the folder that holds the weights alone"
                    )
                if entry.is_symlink():
                    raise UsageError(
                        f"cannot read {folder!r}: expected a folder without links, got the link"
                        f" {name!r}; copy the folder with `cp -rL`, which follows them"
                    )
                if entry.is_dir():
                    folders.append(f"{name}/")
                else:
                    found[name] = entry.stat()
    if not found:
        raise UsageError(f"cannot read {folder!r}: expected a file or a folder of files, got none")
    return found


@contextlib.contextmanager
def reading(path: str, fails: str = "cannot read") -> Iterator[None]:
    """Whatever keeps a file that a setting names from being read is one line, without secrets."""
    try:
        yield
    except UsageError:
        raise
    except SourceError as error:
        raise UsageError(f"{fails} {error}") from error
    except OSError as error:
        raise UsageError(
            f"{fails} {shown(path)!r:.300}: {error.strerror or scrubbed(str(error))}"
        ) from error
    except Exception as error:
        if not is_remote(path):
            raise
        what = f"{type(error).__name__}: {scrubbed(str(error))}"  # every store has its own errors
        raise UsageError(f"{fails} {shown(path)!r}: {what}") from error


def file_digests(settings: Any) -> dict[str, str]:
    """Content digests of the files and folders that settings name, by field; once per job."""
    return {
        name: digest_of_path(path)
        for name, path in config.file_fields(settings).items()
        if is_remote(path) or _exists(path) or not _is_symbolic(path)
    }


def member_fingerprint(
    system: System,
    predict_config: Any,
    sampling: dict[str, Any],
    digests: Mapping[str, str] | None = None,
) -> str:
    """Key of a member's predictions: changes exactly when its rows may change.

    `digests` are those of its files, where they are known already.
    """
    digests = file_digests(predict_config) if digests is None else digests
    return digest_of(
        {
            "system": system.name,
            "predict_version": system.predict_version,
            "config": content_of(predict_config, digests),
            "view": None,
            "sampling": sampling,
        }
    )


def linker_fingerprint(system: System, link_config: Any) -> str:
    """Key of a linker's decisions on given predictions."""
    return digest_of(
        {
            "system": system.name,
            "link_version": system.link_version,
            "config": content_of(link_config, file_digests(link_config)),
        }
    )


def content_of(settings: Any, digests: Mapping[str, str]) -> dict[str, Any]:
    """Settings as values, with every named file replaced by the digest of its content."""
    values = config.as_values(settings, without_execution=True)
    return values | {name: {"sha256": digest} for name, digest in digests.items()}


def _exists(path: str) -> bool:
    try:
        return Path(path).is_file() or Path(path).is_dir()
    except OSError:  # a name that no file can have: whoever opens it says so
        return True


def _is_symbolic(value: str) -> bool:
    """`formula:…` and the like: a value that stands where a file could, but names none."""
    scheme, separator, _ = value.partition(":")
    return bool(separator) and scheme.isidentifier() and len(scheme) > 1
