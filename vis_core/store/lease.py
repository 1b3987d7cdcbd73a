"""One run per results folder: the lease saves money, correctness does not rest on it.

On a local folder it is a file lock, free the moment its process dies. On object storage it is a
row of epochs, each created by at most one run, with a heartbeat that counts: a waiter that sees
the count stand still, by its own clock, opens the next epoch.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol

from vis_core.errors import BusyError, ReelmaskError
from vis_core.store.folder import Folder, LocalFolder

BEAT_SECONDS = 5.0
STALE_SECONDS = 30.0


class Lease(Protocol):
    """Held while a run works on the folder."""

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

    def __init__(self, folder: LocalFolder, run_id: str) -> None:
        path = folder.path / "manifest" / "lease"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise BusyError(
                f"another run holds {folder.root} ({holder}); wait for it to end, or use another"
                " --out"
            ) from None
        self._file.truncate(0)
        self._file.write(json.dumps(_holder(run_id)))
        self._file.flush()

    def check(self) -> None:
        """A file lock cannot be taken from a living process."""

    def release(self) -> None:
        if not self._file.closed:
            self._file.truncate(0)
            self._file.close()


class ObjectLease(_Context):
    """Epoch objects under `manifest/lease/`, each with a heartbeat object beside it."""

    def __init__(
        self,
        folder: Folder,
        run_id: str,
        *,
        beat_seconds: float = BEAT_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self._folder = folder
        self._stop = threading.Event()
        self._nonce = run_id
        latest = self._latest()
        if latest is not None:
            self._wait_until_stale(latest, stale_seconds)
        self._epoch = 0 if latest is None else _epoch_of(latest) + 1
        self._name = f"epoch-{self._epoch:08d}"
        self._claim(run_id)
        self._thread = threading.Thread(
            target=self._beat, args=(beat_seconds,), name="lease-heartbeat", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        latest = self._latest()
        if latest is not None and _epoch_of(latest) > self._epoch:
            raise ReelmaskError(
                f"another run took over {self._folder.root}; this one stops. Nothing is lost: what"
                " it committed counts"
            )

    def release(self) -> None:
        self._stop.set()
        self._thread.join()
        self._folder.replace(f"manifest/lease/beat-{self._epoch:08d}", b"released")

    def _latest(self) -> str | None:
        epochs = [n for n in self._folder.names("manifest/lease") if n.startswith("epoch-")]
        return max(epochs, default=None)

    def _claim(self, run_id: str) -> None:
        """Creates the epoch; of two that try at once the store lets one win, or a re-read does."""
        name = f"manifest/lease/{self._name}"
        mine = json.dumps(_holder(run_id)).encode()
        with self._folder.staging(name) as staged:
            staged.write_bytes(mine)
            won = self._folder.publish(staged, name)
        if not self._folder.creates_exclusively:
            time.sleep(0.5)
            won = self._folder.read(name) == mine
        if not won:
            raise BusyError(f"another run has just taken {self._folder.root}")

    def _count(self, epoch: str) -> bytes:
        try:
            return self._folder.read(f"manifest/lease/beat-{_epoch_of(epoch):08d}")
        except FileNotFoundError:
            return b""

    def _wait_until_stale(self, epoch: str, stale_seconds: float) -> None:
        first = self._count(epoch)
        started = time.monotonic()
        while first != b"released" and time.monotonic() - started < stale_seconds:
            time.sleep(min(1.0, stale_seconds / 4))
            if self._count(epoch) != first:
                holder = self._folder.read(f"manifest/lease/{epoch}").decode(errors="replace")
                raise BusyError(
                    f"another run holds {self._folder.root} ({holder}); wait for it to end, or use"
                    " another --out"
                )

    def _beat(self, seconds: float) -> None:
        count = 0
        while True:
            count += 1
            self._folder.replace(f"manifest/lease/beat-{self._epoch:08d}", str(count).encode())
            if self._stop.wait(seconds):
                return


def _epoch_of(name: str) -> int:
    return int(name.removeprefix("epoch-"))


def _holder(run_id: str) -> dict[str, str | int]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "run_id": run_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot_id": boot.read_text().strip() if boot.exists() else "",
    }
