"""One run per results folder: the lease saves money, correctness does not rest on it.

On a local folder it is a file lock, free the moment its process dies. On object storage it is a
row of epochs, each created by at most one run, with a heartbeat that counts: a waiter that sees
the count stand still, by its own clock, opens the next epoch.

How long the count may stand still is said by the holder, in its epoch: 30 seconds, or
REELMASK_LEASE_STALE_SECONDS. Shorter, and a store that stalls makes runs take over from living
ones; longer, and a killed run keeps its folder for longer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import io
import json
import logging
import math
import os
import re
import secrets
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol

from vis_core.errors import BusyError, ReelmaskError, UsageError
from vis_core.store.folder import Folder, LocalFolder, full_disk_is_clear, open_folder

logger = logging.getLogger(__name__)

STALE_SECONDS = 30.0
STALE_VARIABLE = "REELMASK_LEASE_STALE_SECONDS"
_BEATS_UNTIL_STALE = 6
_SETTLE_SECONDS = 0.5
LEASE = "manifest/lease"
_RELEASED = b"released"
_LONGEST_STALE_SECONDS = 86_400.0  # more would be a damaged record, or a folder nobody can free
_NAME = re.compile(r"(epoch|beat|fence)-(?P<number>[0-9]{8,12})(~[0-9a-f]*)?")


class Lease(Protocol):
    """Held while a run works on the folder."""

    @property
    def witness(self) -> Witness | None:
        """What tells other processes whether this lease still holds; None: it always does."""
        ...

    def check(self) -> None:
        """Raises if another run has taken over."""
        ...

    def release(self) -> None: ...

    def __enter__(self) -> Lease: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def acquire(folder: Folder, run_id: str) -> Lease:
    """The lease of the folder, or BusyError naming who holds it."""
    if isinstance(folder, LocalFolder):
        return LocalLease(folder, run_id)
    return ObjectLease(folder, run_id)


@dataclasses.dataclass(frozen=True)
class Witness:
    """A lease on object storage as other processes see it: light, and fit to be sent."""

    root: str
    claim: str  # the epoch's name

    @property
    def suffix(self) -> str:
        """Names what belongs to this epoch; sorts like the epochs."""
        return self.claim.removeprefix("epoch-")

    def check(self) -> None:
        """Raises if another run has taken over."""
        _refuse_superseded(open_folder(self.root, create=False), self.claim)


class _Context:
    def __enter__(self) -> Lease:
        return self  # type: ignore[return-value]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        raise AssertionError("every lease releases in its own way")


class LocalLease(_Context):
    """`flock` on `manifest/lease`."""

    witness = None  # the kernel keeps it for as long as the process lives

    def __init__(self, folder: LocalFolder, run_id: str) -> None:
        self._root = folder.root
        self._run_id = run_id
        self._path = folder.path / "manifest" / "lease"
        self._file = _opened(self._path)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read(4096).decode(errors="replace")
            self._file.close()
            raise _busy(folder, holder) from None
        except OSError as error:
            # Some network mounts have no locks; without one the run is still correct.
            logger.warning(
                "%s cannot be locked (%s): see to it yourself that no other run works there",
                folder.root,
                error,
            )
        with full_disk_is_clear(folder.root):
            self._file.truncate(0)
            self._file.write(json.dumps(_holder_record(run_id)).encode())

    def check(self) -> None:
        """A lock cannot be taken from a living process, but its file can be replaced by another."""
        with contextlib.suppress(FileNotFoundError):
            there, mine = self._path.lstat(), os.fstat(self._file.fileno())
            if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                return
            # Some network mounts number a file anew at every look: what it says decides.
            record = self._path.read_text(errors="replace")
            if record and f'"{self._run_id}"' not in record:
                raise _superseded(self._root, _described(record))

    def release(self) -> None:
        if not self._file.closed:
            self._file.truncate(0)
            self._file.close()


def _opened(path: Path) -> io.FileIO:
    """The lease file, made if need be; anything else in its place is named, and left alone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = io.FileIO(os.open(path, flags, 0o666), "a+")
    except (IsADirectoryError, FileExistsError, NotADirectoryError) as error:
        raise _wrong_kind(path) from error
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EOPNOTSUPP):
            raise _wrong_kind(path) from error
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise _wrong_kind(path)
    return file


def _wrong_kind(path: Path | str) -> UsageError:
    return UsageError(
        f"{path}: expected the lease of a results folder as this storage keeps it (a file on a"
        " file system, a folder of small objects on object storage), found something else, maybe"
        " of a copied folder; see that no run is at work there, delete it and run again"
    )


class ObjectLease(_Context):
    """Epoch objects under `manifest/lease/`, each with a heartbeat object beside it.

    Where the store cannot create exclusively, each claim of an epoch has a name of its own and the
    smallest holds; one that came late with a smaller name has taken over, like any later epoch.
    """

    def __init__(
        self,
        folder: Folder,
        run_id: str,
        *,
        stale_seconds: float | None = None,
        settle_seconds: float = _SETTLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._sleep = sleep
        stale = stale_from_environment() if stale_seconds is None else stale_seconds
        names = folder.names(LEASE)
        # Above everything there: an epoch may be gone, and what it left must not look newer. As
        # seen before the wait, so that of two who waited both claim the same number.
        numbers = [number for name in names if (number := _number_of(name)) is not None]
        self._number = max(numbers, default=-1) + 1
        holder = newest(name for name in names if name.startswith("epoch-"))
        if holder is not None:
            self._wait_until_free(holder)
        record = {**_holder_record(run_id), "stale_seconds": stale}
        self._name = self._claim(json.dumps(record).encode(), settle_seconds)
        self._remove_older()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._beat, args=(stale / _BEATS_UNTIL_STALE,), name="lease-beat", daemon=True
        )
        self._thread.start()

    @property
    def witness(self) -> Witness:
        return Witness(self._folder.root, self._name)

    def check(self) -> None:
        _refuse_superseded(self._folder, self._name)

    def release(self) -> None:
        """Frees the folder at once; failing to do so only costs the next run its wait."""
        self._stop.set()
        self._thread.join(timeout=10)
        with _failures_are_only_logged("releasing the lease"):
            self._folder.replace(_beat_name(self._name), _RELEASED)

    def _claim(self, record: bytes, settle_seconds: float) -> str:
        """Creates the epoch; of several that try at once one wins."""
        exclusive = self._folder.creates_exclusively
        nonce = "" if exclusive else f"~{secrets.token_hex(6)}"
        name = f"epoch-{self._number:08d}{nonce}"
        try:
            with self._folder.staging(f"{LEASE}/{name}") as staged:
                staged.write_bytes(record)
                won = self._folder.publish(staged, f"{LEASE}/{name}")
            if exclusive:
                # Refused, yet ours: the first try came through and only its answer was lost.
                won = won or self._folder.read(f"{LEASE}/{name}") == record
        except (FileNotFoundError, NotADirectoryError, FileExistsError) as error:
            raise _wrong_kind(f"{self._folder.root}/{LEASE}") from error
        if not exclusive:
            self._sleep(settle_seconds)  # let those that looked when we did become visible
            won = _holder(self._folder) == name
        if not won:
            winner = _holder(self._folder)
            if not exclusive:
                self._folder.delete(f"{LEASE}/{name}")
            raise _busy(self._folder, _record(self._folder, winner))
        return name

    def _wait_until_free(self, holder: str) -> None:
        """Returns when the holder has released, or shown no sign of life for as long as it said."""
        record = _record(self._folder, holder)
        patience = _stale_seconds_of(record)
        first = self._count(holder)
        if first != _RELEASED:
            logger.warning(
                "%s was not released by its last run (%s); waiting up to %.0f s to see whether that"
                " is alive",
                self._folder.root,
                _described(record),
                patience,
            )
        if not self._stands_still(holder, first, patience) or _holder(self._folder) != holder:
            raise _busy(self._folder, _record(self._folder, _holder(self._folder)))

    def _stands_still(self, epoch: str, first: bytes, seconds: float) -> bool:
        """Whether the count stays what it is for so long, or ends with a release."""
        count, began = first, self._clock()
        while count != _RELEASED and self._clock() - began < seconds:
            self._sleep(min(1.0, seconds / 2 / _BEATS_UNTIL_STALE))
            count = self._count(epoch)
            if count not in (first, _RELEASED):
                return False  # alive, or gone because somebody else has opened the next epoch
        return True

    def _count(self, epoch: str) -> bytes:
        try:
            return self._folder.read(_beat_name(epoch))
        except FileNotFoundError:
            return b""

    def _remove_older(self) -> None:
        """Two objects a run would pile up; the newest epoch is all that anybody reads."""
        with _failures_are_only_logged("removing old leases"):
            for name in self._folder.names(LEASE):
                number = _number_of(name)
                # Fences go when the next one is there: see `Manifest.fence`.
                if number is not None and number < self._number and not name.startswith("fence-"):
                    self._folder.delete(f"{LEASE}/{name}")

    def _beat(self, seconds: float) -> None:
        count = 0
        while True:
            count += 1
            # A missed beat is made good by the next one; too many, and `check` tells.
            with _failures_are_only_logged("the heartbeat of the lease"):
                self._folder.replace(_beat_name(self._name), str(count).encode())
            if self._stop.wait(seconds):
                return


def stale_from_environment() -> float:
    """How long this run's heartbeat may stand still before others may take over."""
    text = os.environ.get(STALE_VARIABLE, "")
    if not text:
        return STALE_SECONDS
    with contextlib.suppress(ValueError):
        seconds = float(text)
        if math.isfinite(seconds) and seconds > 0:
            return seconds
    raise UsageError(f"{STALE_VARIABLE}: expected a number of seconds above 0, got {text!r}")


@contextlib.contextmanager
def _failures_are_only_logged(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - storage fails in many ways, none worth the run
        logger.warning("%s failed: %s", what, error)


def _number_of(name: str) -> int | None:
    """The epoch in `epoch-00000007`, `epoch-00000007~nonce`, `beat-00000007`; None: not ours."""
    match = _NAME.fullmatch(name)
    return None if match is None else int(match["number"])


def newest(names: Iterable[str]) -> str | None:
    """Of claims, or of fences: those of the newest epoch, and of these the smallest name."""
    numbers = {name: number for name in names if (number := _number_of(name)) is not None}
    last = max(numbers.values(), default=None)
    return min((name for name, number in numbers.items() if number == last), default=None)


def _holder(folder: Folder) -> str | None:
    """The claim that holds now."""
    return newest(folder.names(LEASE, "epoch-"))


def _record(folder: Folder, epoch: str | None) -> str:
    try:
        return folder.read(f"{LEASE}/{epoch}").decode(errors="replace")
    except FileNotFoundError:
        return ""


def _refuse_superseded(folder: Folder, claim: str) -> None:
    holder = _holder(folder)
    if holder not in (None, claim):
        raise _superseded(folder.root, _described(_record(folder, holder)))


def _superseded(root: str, by: str) -> ReelmaskError:
    return ReelmaskError(
        f"another run took over {root} ({by}); this one stops. Nothing is lost: what it committed"
        " counts"
    )


def _beat_name(epoch: str) -> str:
    return f"{LEASE}/beat-{epoch.removeprefix('epoch-')}"


def _holder_record(run_id: str) -> dict[str, str | int | float]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "run_id": run_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot_id": boot.read_text().strip() if boot.exists() else "",
    }


def _busy(folder: Folder, record: str) -> BusyError:
    return BusyError(
        f"another run holds {folder.root} ({_described(record)}); wait for it to end, or use"
        " another --out"
    )


def _described(record: str) -> str:
    try:
        values = json.loads(record)
        return f"run {values['run_id']}, process {values['pid']} on {values['host']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return _printable(record) or "unknown"


def _printable(text: str) -> str:
    """Some of a record that is not ours."""
    return "".join(letter if letter.isprintable() else "�" for letter in text.strip())[:80]


def _stale_seconds_of(record: str) -> float:
    try:
        seconds = float(json.loads(record)["stale_seconds"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return STALE_SECONDS
    return seconds if 0 < seconds <= _LONGEST_STALE_SECONDS else STALE_SECONDS
