"""Where an input lives: local paths as `file://` addresses, everything else through fsspec.

Importing this costs nothing: fsspec is loaded only for an address that needs it.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import urllib.parse
from pathlib import Path
from typing import Any, AnyStr, BinaryIO, NamedTuple, cast

from vis_core.addresses import filesystem, is_remote, keep, public, scrubbed
from vis_core.errors import ReelmaskError, SourceError

_BLOCK_BYTES = 4 << 20  # smaller: one request per few frames; larger: a moov at the end costs more
_MAX_BLOCKS = 16
_TRANSIENT = frozenset(
    {
        errno.EIO,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
        errno.ECONNREFUSED,
        errno.ECONNABORTED,
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
    }
)


class FileFacts(NamedTuple):
    """What a listing tells about a file."""

    bytes: int
    mtime_ns: int
    etag: str | None = None


def is_transient(error: BaseException | None) -> bool:
    """Whether trying again may help: the storage failed, not the data."""
    return isinstance(error, OSError) and error.errno in _TRANSIENT


def local_uri(path: str) -> str:
    """The `file://` address of a path, percent-encoded byte by byte (any file name works)."""
    full = os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links, a name must not
    return "file://" + urllib.parse.quote_from_bytes(os.fsencode(full))


def local_path(uri: str) -> str | None:
    """The path behind a `file://` address or a plain path; None for a remote address.

    Names that are not UTF-8 come back the way Python's `os` takes them (surrogate escapes).
    """
    if is_remote(uri):
        return None
    if not uri.startswith("file:"):
        return uri
    text = uri.removeprefix("file:").removeprefix("//")
    return os.fsdecode(urllib.parse.unquote_to_bytes(os.fsencode(text)))


def split_extension(name: AnyStr) -> tuple[AnyStr, AnyStr]:
    """Stem and extension; a leading dot begins no extension. Also for bytes, unlike pathlib."""
    return os.path.splitext(name)  # noqa: PTH122


def shown(uri: str) -> str:
    """The address as a person knows it, safe to print."""
    path = local_path(uri)
    return public(uri) if path is None else os.fsencode(path).decode(errors="backslashreplace")


def remote_uri(system: Any, inner: str) -> str:
    """The address as the store itself writes it, so that one object has one."""
    return keep(str(system.unstrip_protocol(inner)))


def facts_of_info(info: dict[str, Any]) -> FileFacts:
    """Size, time and etag out of an fsspec listing, whatever the store calls them."""
    etag = next(
        (info[key] for key in ("ETag", "etag", "Content-MD5", "md5Hash") if info.get(key)), ""
    )
    when = next(
        (
            info[key]
            for key in ("LastModified", "last_modified", "mtime", "created")
            if info.get(key)
        ),
        0,
    )
    return FileFacts(int(info.get("size") or 0), _nanoseconds(when), str(etag).strip('"') or None)


def _nanoseconds(when: Any) -> int:
    if hasattr(when, "timestamp"):
        return int(when.timestamp() * 1e6) * 1000  # a float holds microseconds of today, not ns
    return int(when * 1e9) if isinstance(when, int | float) else 0


def file_facts(uri: str) -> FileFacts:
    """Size, modification time and etag; raises OSError where there is no such file."""
    path = local_path(uri)
    if path is None:
        system, inner = filesystem(uri)
        return facts_of_info(system.info(inner))
    status = Path(path).stat()
    return FileFacts(status.st_size, status.st_mtime_ns)


def regular_file(path: str) -> os.stat_result:
    """Stat of a readable regular file; a SourceError for anything a reader could hang on."""
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        broken = Path(path).is_symlink()
        what = "is a link to a file that does not exist" if broken else "does not exist (any more)"
        raise SourceError(f"{shown(path)}: the file {what}") from error
    except OSError as error:
        raise SourceError(f"{shown(path)}: cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device or pipe"
        raise SourceError(f"{shown(path)}: expected a regular file, got {kind}")
    if not os.access(path, os.R_OK):
        raise SourceError(f"{shown(path)}: no permission to read; check owner and mode of the file")
    return status


def open_file(uri: str) -> BinaryIO:
    """The file behind an address, for random reads; waits for no pipe, reads no device."""
    path = local_path(uri)
    if path is not None:
        regular_file(path)
        return open_regular(path)
    system, inner = filesystem(uri)
    options = {"cache_type": "blockcache", "cache_options": {"maxblocks": _MAX_BLOCKS}}
    try:
        file = system.open(inner, "rb", block_size=_BLOCK_BYTES, **options)
    except FileNotFoundError as error:
        raise SourceError(
            f"{shown(uri)}: the object does not exist (any more), or may not be read without"
            " credentials"
        ) from error
    except (OSError, ReelmaskError):
        raise
    except Exception as error:  # every store has its own errors
        what = f"{type(error).__name__}: {scrubbed(str(error))}"
        raise SourceError(f"{shown(uri)}: cannot be opened: {what}") from error
    if not file.seekable() or getattr(file, "size", 0) is None:
        raise SourceError(
            f"{shown(uri)}: the server does not answer range requests, so the file cannot be read"
            " in parts; copy it to local disk or an object store first"
        )
    return cast(BinaryIO, file)


def open_regular(path: str | Path) -> BinaryIO:
    """A local file; an OSError at once for a pipe, which would wait, or a device without end."""
    _check_regular(os.stat(path))  # noqa: PTH116 - opening alone does things to devices
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - the caller closes it
    try:
        _check_regular(os.fstat(file.fileno()))  # somebody may have put a pipe in its place
    except OSError:
        file.close()
        raise
    return file


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "expected a regular file, got a folder")
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "expected a regular file, got a device or pipe")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # no effect on regular files


def read_ends(file: BinaryIO, count: int) -> tuple[int, bytes, bytes]:
    """Size, first and last `count` bytes of an open file."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(count)
    file.seek(max(0, size - count))
    return size, head, file.read(count)
