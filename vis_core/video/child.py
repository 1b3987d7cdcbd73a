"""The decoder child: `python -m vis_core.video.child`, the one process that parses video files.

It serves one parent, over two pipes and shared memory. A crash, a hang or a broken limit in here
is an observation for the parent, not its end; when the parent is gone, so is the child.
"""

from __future__ import annotations

import argparse
import collections
import logging
import os
import queue
import resource
import sys
import threading
import time
from collections.abc import Sequence

import av
import av.logging
import numpy as np

from vis_core.addresses import scrubbed
from vis_core.errors import SourceChangedError, SourceError
from vis_core.failpoints import failpoint
from vis_core.video import images, probe
from vis_core.video.arena import CHUNK_BYTES, NUM_SLOTS, Arena
from vis_core.video.decode import RangeDecoder, RgbFrame
from vis_core.video.limits import Limits
from vis_core.video.memory import limit_memory
from vis_core.video.sources import Source
from vis_core.video.wire import (
    Message,
    ReadRequest,
    limits_from_message,
    pack,
    request_from_message,
    source_from_message,
    unpack,
    video_to_message,
)

_ALIVE_SECONDS = 1.0  # a sign of life this often; far below any deadline
_MAX_CHUNK_SECONDS = 0.5  # slow decoding: hand over what is there
_MAX_CHUNK_FRAMES = 64
_MAX_LOG_BYTES = 1 << 20
_LOG_LINES = 5


class Cancelled(Exception):
    """The parent no longer wants the frames of this request."""


class Pipes:
    """Commands in, replies out. A thread reads commands at all times: it sees the parent die."""

    def __init__(self, commands_fd: int, replies_fd: int) -> None:
        self.jobs: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self.slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.cancelled: set[int] = set()
        self._commands_fd = commands_fd
        self._replies_fd = replies_fd
        for slot in range(NUM_SLOTS):
            self.slots.put(slot)

    def start(self) -> None:
        threading.Thread(target=self._listen, name="commands", daemon=True).start()

    def _listen(self) -> None:
        try:
            while (message := unpack(self._read)) is not None:
                self._take(message)
        finally:
            os._exit(0)  # end of file: the parent closed the pipe or died

    def _take(self, message: Message) -> None:
        if message["op"] == "credit":
            self.slots.put(message["slot"])
        elif message["op"] == "cancel":
            self.cancelled.add(message["id"])
        else:
            self.jobs.put(message)

    def _read(self, count: int) -> bytes:
        parts: list[bytes] = []
        while count:
            part = os.read(self._commands_fd, min(count, 1 << 20))
            if not part:
                break
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def reply(self, message: Message) -> None:
        rest = memoryview(pack(message))
        while rest:
            rest = rest[os.write(self._replies_fd, rest) :]


class _LastWords(logging.Handler):
    """Keeps FFmpeg's last complaints for error messages, off the user's screen."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: collections.deque[str] = collections.deque(maxlen=_LOG_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage()[:200])


class Worker:
    """Does one job after another."""

    def __init__(self, pipes: Pipes, arena: Arena, limits: Limits, words: _LastWords) -> None:
        self._pipes = pipes
        self._arena = arena
        self._limits = limits
        self._words = words
        self._job = 0
        self._alive_at = 0.0

    def run(self) -> None:
        while True:
            message = self._pipes.jobs.get()
            self._job = message["id"]
            self._words.lines.clear()
            try:
                self._do(message)
            except Cancelled:
                self._reply("done", cancelled=True)
            except MemoryError:
                self._reply("error", kind="limit", message=self._memory_words())
                os._exit(3)  # little works with no memory left
            except av.error.ExitError:
                seconds = self._limits.timeout_seconds
                text = f"one read took over {seconds:g} s (decode_timeout_seconds)"
                self._reply("error", kind="limit", message=text)
            except SourceChangedError as error:
                self._reply("error", kind="changed", message=str(error))
            except SourceError as error:
                self._reply("error", kind="source", message=str(error))
            except Exception as error:  # noqa: BLE001 - a bad video must not stop the others
                text = scrubbed(f"{type(error).__name__}: {error}")
                self._reply("error", kind="source", message=text)

    def _do(self, message: Message) -> None:
        if message["op"] == "probe":
            self._probe(source_from_message(message["source"]))
        else:
            self._read(request_from_message(message["request"]))

    def _reply(self, op: str, **fields: object) -> None:
        if op == "error":
            fields["log"] = list(self._words.lines)
        self._pipes.reply({"op": op, "id": self._job, **fields})

    def _memory_words(self) -> str:
        return (
            f"decoding it takes more than {self._limits.max_memory_bytes} bytes of memory "
            "(decode_memory_bytes)"
        )

    def _tick(self) -> None:
        if self._job in self._pipes.cancelled:
            raise Cancelled
        now = time.monotonic()
        if now - self._alive_at > _ALIVE_SECONDS:
            self._alive_at = now
            self._reply("alive")

    def _probe(self, source: Source) -> None:
        seconds = probe.probe_budget_seconds(source.bytes, self._limits)
        self._reply("begin", seconds=seconds)
        failpoint("probe", source.video_id)
        if source.kind == "images":
            video = images.probe_images(source, self._limits)
        else:
            video = probe.probe_source(source, self._limits)
        self._reply("probed", video=video_to_message(video))

    def _read(self, request: ReadRequest) -> None:
        self._tick()  # may have been cancelled while it waited
        self._reply("begin")
        decoder = RangeDecoder(request, self._limits, self._tick)
        seconds = _ChunkWriter(self, request, decoder).write_all()
        self._reply(
            "done",
            holes=[[hole.start, hole.stop, hole.reason] for hole in decoder.holes],
            cuts=decoder.cuts,
            delivered=decoder.delivered,
            num_frames_found=decoder.num_frames_found,
            decode_seconds=seconds,
        )


class _ChunkWriter:
    """Copies frames into slots of the arena and tells the parent."""

    def __init__(self, worker: Worker, request: ReadRequest, decoder: RangeDecoder) -> None:
        self._worker = worker
        self._decoder = decoder
        self._num_cuts = 0
        self._pipes = worker._pipes
        self._arena = worker._arena
        self._shape = (request.video.height, request.video.width)
        frame_bytes = 3 * self._shape[0] * self._shape[1]
        self._capacity = max(1, min(CHUNK_BYTES // max(1, frame_bytes), _MAX_CHUNK_FRAMES))

    def write_all(self) -> float:
        """Returns the seconds spent, those spent waiting for the parent left out."""
        slot, waited, started = -1, 0.0, time.perf_counter()
        indices: list[int] = []
        seconds: list[float] = []
        opened = 0.0
        for frame in self._decoder:
            if slot < 0:
                opened = time.perf_counter()
                slot = self._pipes.slots.get()
                waited += time.perf_counter() - opened
                opened = time.perf_counter()
            self._worker._tick()
            self._put(slot, len(indices), frame)
            indices.append(frame.frame_index)
            seconds.append(frame.pts_seconds)
            is_late = time.perf_counter() - opened > _MAX_CHUNK_SECONDS
            if len(indices) == self._capacity or is_late:
                self._send(slot, indices, seconds)
                slot, indices, seconds = -1, [], []
        if indices:
            self._send(slot, indices, seconds)
        return time.perf_counter() - started - waited

    def _put(self, slot: int, position: int, frame: RgbFrame) -> None:
        np.copyto(self._arena.frames(slot, self._capacity, *self._shape)[position], frame.pixels)

    def _send(self, slot: int, indices: list[int], seconds: list[float]) -> None:
        cuts, known_until = self._decoder.cuts_from(self._num_cuts)
        self._num_cuts += len(cuts)
        self._worker._reply(
            "chunk",
            slot=slot,
            frame_index=indices,
            pts_seconds=seconds,
            cuts=cuts,
            cuts_known_until=known_until,
        )


def _limit(limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_MAX_LOG_BYTES, _MAX_LOG_BYTES))
    limit_memory(limits.max_memory_bytes)


def _catch_logs() -> _LastWords:
    words = _LastWords()
    logger = logging.getLogger("libav")
    logger.addHandler(words)
    logger.propagate = False
    av.logging.set_level(av.logging.ERROR)
    return words


def _private_stdout() -> int:
    """Replies go where no library can print into them."""
    fd = os.dup(1)
    os.dup2(2, 1)
    return fd


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m vis_core.video.child")
    parser.add_argument("--arena-fd", type=int, required=True)
    parser.add_argument("--slot-bytes", type=int, required=True)
    args = parser.parse_args(argv)
    pipes = Pipes(0, _private_stdout())
    arena = Arena(args.arena_fd, args.slot_bytes)
    words = _catch_logs()
    pipes.start()
    limits = limits_from_message(pipes.jobs.get()["limits"])
    _limit(limits)
    pipes.reply({"op": "ready", "id": 0})
    Worker(pipes, arena, limits, words).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
