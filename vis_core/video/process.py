"""The parent's end of the decoder child: start it, talk to it, notice when and how it ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from vis_core.errors import ReelmaskError
from vis_core.video.arena import Arena, slot_bytes_for
from vis_core.video.limits import Limits
from vis_core.video.wire import Message, pack, unpack

_START_SECONDS = 120.0  # a busy machine with cold disks takes long to import NumPy
_STOP_SECONDS = 2.0
_ROOT = Path(__file__).resolve().parents[2]
_TAIL_BYTES = 500


class ChildGone(Exception):
    """The child ended or was ended; the message says how."""


class ChildSilent(Exception):
    """The child said nothing for as long as it may."""


class DecoderProcess:
    """One running child. Safe to use from any thread, by one at a time."""

    def __init__(self, limits: Limits) -> None:
        slot_bytes = slot_bytes_for(limits.max_frame_pixels)
        self.arena = Arena.create(slot_bytes)
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop()
        self._buffer = bytearray()
        self._process = subprocess.Popen(
            self._command(slot_bytes),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            pass_fds=(self.arena.fd,),
            env=_environment(),
            bufsize=0,
            # Ctrl-C goes to a whole group; whether decoding stops is the parent's decision.
            start_new_session=True,
        )
        self._start(limits)

    def _command(self, slot_bytes: int) -> list[str]:
        # -P: a numpy.py in the current folder must not be imported.
        program = [sys.executable, "-P", "-m", "vis_core.video.child"]
        return [*program, "--arena-fd", str(self.arena.fd), "--slot-bytes", str(slot_bytes)]

    def _start(self, limits: Limits) -> None:
        fields = {name: getattr(limits, name) for name in limits.__slots__}
        try:
            self.send({"op": "hello", "id": 0, "limits": fields})
            self.receive(_START_SECONDS)
        except (ChildGone, ChildSilent) as error:
            self.kill()
            raise ReelmaskError(f"the decoder process does not start: {error}") from error

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, message: Message) -> None:
        assert self._process.stdin is not None
        rest = memoryview(pack(message))
        try:
            while rest:
                rest = rest[os.write(self._process.stdin.fileno(), rest) :]
        except BrokenPipeError:
            raise ChildGone(self._how_it_ended()) from None

    def receive(self, timeout_seconds: float) -> Message:
        """The next message; any byte of it counts as progress."""
        message = unpack(lambda count: self._read(count, timeout_seconds))
        if message is None:
            raise ChildGone(self._how_it_ended())
        return message

    def _read(self, count: int, timeout_seconds: float) -> bytes:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        deadline = time.monotonic() + timeout_seconds
        while len(self._buffer) < count:
            if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise ChildSilent(f"no progress for {timeout_seconds:g} s")
            part = os.read(fd, 1 << 20)
            if not part:
                break
            self._buffer += part
            deadline = time.monotonic() + timeout_seconds
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        words = f"exit code {code}" if code >= 0 else f"signal {_signal_name(-code)}"
        tail = self._stderr_tail()
        return f"{words}; its last words: {tail}" if tail else words

    def _stderr_tail(self) -> str:
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _TAIL_BYTES))
        return " ".join(self._stderr.read().decode(errors="replace").split())

    def stop(self) -> None:
        """Lets the child end: the closed pipe tells it to. Kills one that does not."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        if not self._stderr.closed:
            self._stderr.close()
            self.arena.close()


def _environment() -> dict[str, str]:
    inherited = os.environ.get("PYTHONPATH")
    path = os.pathsep.join([str(_ROOT), *([inherited] if inherited else [])])
    # NumPy's thread pools would take address space and cores the child has no use for.
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
