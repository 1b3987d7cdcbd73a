"""A results folder on object storage, through fsspec.

Addresses, endpoints and keys are the client's own business: `s3://bucket/run` reads AWS_* variables
(AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE, AWS_DEFAULT_REGION), the
files under ~/.aws, and roles of the machine; FSSPEC_S3_<OPTION> and ~/.config/fsspec set any option
of the file system (`FSSPEC_S3_ENDPOINT_URL=…`). The store must list an object as soon as it is
written: S3, GCS, Azure, MinIO and Ceph do; Swift does while its container updates keep up.

Files are written in a temporary folder first (TMPDIR), and come into being by one PUT, or by the
last request of a multipart upload.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.asyn import AsyncFileSystem

from vis_core import addresses
from vis_core.errors import UsageError
from vis_core.failpoints import failpoint
from vis_core.store.local_folder import full_disk_is_clear
from vis_core.store.names import needs_lease, set_aside_name
from vis_core.store.object_file import ObjectFile
from vis_core.store.patience import Patience, already_exists, http_status

WHOLE_BYTES = 1 << 20  # objects up to this size are read by one request
ONE_PUT_BYTES = 32 << 20
_UPLOAD: dict[str, Any] = {"chunksize": 16 << 20, "max_concurrency": 4}  # 64 MB in memory at most
_PROBE = "manifest/.probe"


class ObjectFolder:
    """Objects under a prefix.

    Where the store can create-if-absent, so do we; where it cannot, `publish` overwrites, and
    callers put a nonce into names (the manifest picks one of two equal files).
    """

    def __init__(self, root: str, *, patience: Patience | None = None) -> None:
        scheme, _, rest = root.partition("://")
        root = f"{scheme}://{rest.rstrip('/')}" if rest else root
        self.root = addresses.public(root)
        self._check: Callable[[], None] | None = None
        if root != self.root:
            raise UsageError(
                f"{self.root}: the address of a results folder holds no user name, password or"
                " token; the store's client takes them from the environment"
            )
        self._patiently = patience or Patience(self.root)
        # Listings must be true now: another process may have written since the last one.
        self._fs, path = addresses.filesystem(root, use_listings_cache=False)
        self._path = path.rstrip("/")
        if not self._path:
            raise UsageError(
                f"{self.root!r} names no bucket; expected something like s3://bucket/run"
            )

    def guarded(self, check: Callable[[], None]) -> ObjectFolder:
        guarded = copy.copy(self)
        guarded._check = check
        return guarded

    def check(self) -> None:
        if self._check is not None:
            self._check()

    def _change(self, name: str, operation: Callable[..., Any], *args: Any, **more: Any) -> None:
        """A request that changes something; whether this run may is asked before every try.

        Between two tries minutes may pass, and another run may take over.
        """

        def checked() -> None:
            if needs_lease(name):
                self.check()
            operation(*args, **more)

        self._patiently(checked)

    def _full(self, name: str) -> str:
        return f"{self._path}/{name}"

    @functools.cached_property
    def creates_exclusively(self) -> bool:
        """Whether the store honours create-if-absent; tried, because some take it and ignore it.

        The probe object stays: from the second time on one request answers.
        """
        inherited = type(self._fs).pipe_file is fsspec.AbstractFileSystem.pipe_file
        if inherited and not isinstance(self._fs, AsyncFileSystem):
            return False  # fsspec's own looks, then writes: two writers at once both succeed
        return any(self._patiently(self._refuses_to_overwrite) for _ in range(2))

    def _refuses_to_overwrite(self) -> bool:
        try:
            self._fs.pipe_file(self._full(_PROBE), b"probe", mode="create")
        except (NotImplementedError, TypeError, ValueError):
            return False  # the client has no such mode
        except OSError as error:
            if already_exists(error):
                return True
            # Swift: 501, "Conditional object PUTs are not supported"; others: 400, 405.
            if error.errno == errno.ENOSYS or http_status(error) in (400, 405, 501):
                return False
            raise
        return False

    def names(self, under: str, prefix: str = "") -> list[str]:
        return sorted(self._found(under, prefix))

    def sizes(self, under: str) -> dict[str, int]:
        return {name: int(entry["size"]) for name, entry in self._found(under).items()}

    def _found(self, under: str, prefix: str = "") -> dict[str, dict[str, Any]]:
        full = self._full(under)
        try:
            found = self._patiently(self._listing, full, prefix)
        except FileNotFoundError:
            return {}
        # Consoles put an empty object in the place of a folder: it has the folder's own name.
        start = f"{full}/{prefix}"
        files = [e for e in found if e["type"] == "file" and str(e["name"]).startswith(start)]
        named = {str(entry["name"])[len(full) + 1 :]: entry for entry in files}
        hidden = prefix.startswith(".")
        return {n: e for n, e in named.items() if n and (hidden or not n.startswith("."))}

    def _listing(self, full: str, prefix: str) -> list[dict[str, Any]]:
        if prefix and isinstance(self._fs, AsyncFileSystem):
            found = self._fs.find(full, maxdepth=1, prefix=prefix, detail=True)
            return list(found.values())
        return list(self._fs.ls(full, detail=True))

    def exists(self, name: str) -> bool:
        try:
            return str(self._info(name)["type"]) == "file"
        except FileNotFoundError:
            return False

    def size(self, name: str) -> int:
        return int(self._info(name)["size"])

    def _info(self, name: str) -> dict[str, Any]:
        return dict(self._patiently(self._fs.info, self._full(name)))

    def read(self, name: str) -> bytes:
        return bytes(self._patiently(self._fs.cat_file, self._full(name)))

    def open(self, name: str) -> Any:
        size = self.size(name)
        if size <= WHOLE_BYTES:
            return pa.BufferReader(self._range(name, 0, size) if size else b"")
        return ObjectFile(functools.partial(self._range, name), size)

    def _range(self, name: str, start: int, stop: int) -> bytes:
        def fetch() -> bytes:
            data = bytes(self._fs.cat_file(self._full(name), start=start, end=stop))
            if len(data) != stop - start:
                raise OSError(errno.EIO, f"{name}: {len(data)} bytes came for [{start}, {stop})")
            return data

        return self._patiently(fetch)

    @contextlib.contextmanager
    def staging(self, name: str) -> Iterator[Path]:
        scratch = Path(tempfile.mkdtemp(prefix="reelmask-"))
        try:
            with full_disk_is_clear(str(scratch)):
                yield scratch / "staged"
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def publish(self, staged: Path, name: str) -> bool:
        failpoint("before_publish")
        mode = "create" if self.creates_exclusively else "overwrite"
        try:
            self._change(name, self._upload, staged, self._full(name), mode)
        except OSError as error:
            # Also when our own first try came through and only its answer was lost: callers
            # compare what is there with what they have.
            if mode == "create" and already_exists(error):
                return False
            raise
        failpoint("after_publish")
        return True

    def _upload(self, staged: Path, full: str, mode: str) -> None:
        if staged.stat().st_size <= ONE_PUT_BYTES or not isinstance(self._fs, AsyncFileSystem):
            self._fs.pipe_file(full, staged.read_bytes(), mode=mode)
        else:
            options = _UPLOAD if "s3" in self._fs.protocol else {}
            self._fs.put_file(str(staged), full, mode=mode, **options)

    def replace(self, name: str, data: bytes) -> None:
        failpoint("replace")
        self._change(name, self._fs.pipe_file, self._full(name), data)

    def delete(self, name: str) -> None:
        failpoint("delete")

        def checked() -> None:
            self.check()
            self._fs.rm_file(self._full(name))

        with contextlib.suppress(FileNotFoundError):
            self._patiently(checked)

    def retract(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._patiently(self._fs.rm_file, self._full(name))

    def set_aside(self, name: str) -> None:
        self.check()
        with contextlib.suppress(FileNotFoundError):
            hidden = self._full(set_aside_name(name))
            self._patiently(self._fs.cp_file, self._full(name), hidden)
            self.delete(name)

    def remove_stale_staging(self) -> int:
        return 0  # half-written objects never become visible
