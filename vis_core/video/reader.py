"""Frames of videos, decoded in a child process that may crash, hang or run out of memory.

with VideoReader(Limits()) as reader:
    info = reader.probe(source)
    stream = reader.read(ReadRequest(video=info, start=0, stop=info.num_frames))
    for batch in stream:
        ...
    stream.holes, stream.cuts
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from vis_core.errors import DecoderDied, ReelmaskError, SourceChangedError, SourceError
from vis_core.types import FrameBatch, Hole, IntArray, VideoInfo
from vis_core.video.limits import Limits
from vis_core.video.process import ChildGone, ChildSilent, DecoderProcess
from vis_core.video.sampling import Sampling, sampled_frames
from vis_core.video.sources import Source, failed_video
from vis_core.video.wire import (
    Message,
    ReadRequest,
    request_to_message,
    source_to_message,
    video_from_message,
)

__all__ = ["FrameStream", "Limits", "ReadRequest", "Sampling", "VideoReader"]

_MAX_STARTS = 3  # of children that end before they begin with a request


@dataclasses.dataclass(slots=True)
class _Job:
    """A request the child knows under `number`."""

    message: Message
    what: str  # the video, in error messages
    request: ReadRequest | None = None
    number: int = 0
    timeout_seconds: float = 0.0
    begun: bool = False
    child: DecoderProcess | None = None  # who was asked


class FrameStream:
    """Iterator over batches of one request; the other fields are final once it is exhausted."""

    def __init__(self, reader: VideoReader, request: ReadRequest, job: _Job) -> None:
        self.request = request
        self.holes: list[Hole] = []
        self.cuts: set[int] = set()  # frames after which a shot ends, as far as decided
        self.cuts_known_until = 0  # decided for every frame below
        self.delivered: IntArray = np.zeros(0, np.int32)
        self.num_frames_found: int | None = None
        self.decode_seconds = 0.0
        self.wait_seconds = 0.0
        self._reader = reader
        self._job = job
        self._is_open = True
        self._filled = 0
        self._pixels: npt.NDArray[np.uint8] | None = None
        self._frame_index = np.zeros(request.batch_size, np.int32)
        self._pts_seconds = np.zeros(request.batch_size, np.float64)
        self._batches = self._iterate()

    def __iter__(self) -> Iterator[FrameBatch]:
        return self

    def __next__(self) -> FrameBatch:
        return next(self._batches)

    @functools.cached_property
    def sampled(self) -> IntArray:
        """Every frame of the video the run looks at."""
        return sampled_frames(self.request.video, self.request.sampling)

    def close(self) -> None:
        """Stops decoding; what was asked for is not wanted any more."""
        if self._is_open:
            self._is_open = False
            self._reader._abandon(self._job)

    def _iterate(self) -> Iterator[FrameBatch]:
        while self._is_open:
            message = self._receive()
            if message["op"] == "chunk":
                yield from self._take(message)
            elif message["op"] == "done":
                self._finish(message)
        if self._filled:
            yield self._batch()

    def _receive(self) -> Message:
        started = time.perf_counter()
        try:
            return self._reader._next_message(self._job)
        except BaseException:
            self._is_open = False
            raise
        finally:
            self.wait_seconds += time.perf_counter() - started

    def _take(self, message: Message) -> Iterator[FrameBatch]:
        """Copies a chunk into batches; its slot is free again before the last one is given."""
        indices, seconds = message["frame_index"], message["pts_seconds"]
        video = self.request.video
        frames = self._reader._frames(message["slot"], len(indices), video)
        taken, full = 0, []
        while taken < len(indices):
            count = min(len(indices) - taken, self.request.batch_size - self._filled)
            self._copy(
                frames[taken : taken + count], indices[taken : taken + count], seconds[taken:]
            )
            taken += count
            if self._filled == self.request.batch_size:
                full.append(self._batch())
        del frames
        self._reader._give_back(message["slot"])
        self.cuts.update(message["cuts"])
        self.cuts_known_until = message["cuts_known_until"]
        yield from full

    def _copy(
        self, frames: npt.NDArray[np.uint8], indices: list[int], seconds: list[float]
    ) -> None:
        if self._pixels is None:
            self._pixels = np.empty((self.request.batch_size, *frames.shape[1:]), np.uint8)
        into = slice(self._filled, self._filled + len(indices))
        self._pixels[into] = frames
        self._frame_index[into] = indices
        self._pts_seconds[into] = seconds[: len(indices)]
        self._filled += len(indices)

    def _batch(self) -> FrameBatch:
        assert self._pixels is not None
        count, pixels = self._filled, self._pixels
        self._filled, self._pixels = 0, None
        frame_index = self._frame_index[:count].copy()
        return FrameBatch(
            video_id=self.request.video.video_id,
            frame_index=frame_index,
            pts_seconds=self._pts_seconds[:count].copy(),
            frames=pixels[:count],
            rank=np.searchsorted(self.sampled, frame_index),
        )

    def _finish(self, message: Message) -> None:
        self.holes = [Hole(start=a, stop=b, reason=reason) for a, b, reason in message["holes"]]
        self.cuts = set(message["cuts"].tolist())
        self.cuts_known_until = sys.maxsize
        self.delivered = message["delivered"]
        self.num_frames_found = message["num_frames_found"]
        self.decode_seconds = message["decode_seconds"]
        self._is_open = False


class VideoReader:
    """Owns at most one decoder child, started when needed and again when it died.

    Use it from any thread, but from one at a time; one stream is open at a time.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._child: DecoderProcess | None = None
        self._numbers = 0
        self._stream: FrameStream | None = None
        self._queued: _Job | None = None

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stream = self._queued = None
        if self._child is not None:
            self._child.stop()
        self._child = None

    @property
    def child_pid(self) -> int | None:
        return self._child.pid if self._child is not None else None

    def probe(self, source: Source) -> VideoInfo:
        """One row of `videos`. Whatever is wrong with the source becomes its status and error."""
        self._drop_others(None)
        job = _Job({"op": "probe", "source": source_to_message(source)}, source.video_id)
        try:
            self._submit(job)
            message = self._next_message(job)
            while message["op"] != "probed":
                message = self._next_message(job)
            return video_from_message(message["video"])
        except SourceError as error:
            return failed_video(source, str(error))

    def read(self, request: ReadRequest, *, then: ReadRequest | None = None) -> FrameStream:
        """Starts decoding `request`, and `then` right after it, before anyone asks for that."""
        queued = self._queued
        if queued is not None and request.is_same(queued.request):
            self._drop_others(queued)
            job = queued
            if job.child is None or job.child is not self._child:
                # The child that was asked has died; what follows must not overtake this.
                self._submit(job)
        else:
            self._drop_others(None)
            job = self._read_job(request)
            self._submit(job)
        self._queued = None
        if then is not None:
            self._queued = self._read_job(then)
            self._send_ahead(self._queued)
        self._stream = FrameStream(self, request, job)
        return self._stream

    def _read_job(self, request: ReadRequest) -> _Job:
        message = {"op": "read", "request": request_to_message(request)}
        return _Job(message, request.video.video_id, request)

    def _drop_others(self, wanted: _Job | None) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._queued is not None and self._queued is not wanted:
            self._abandon(self._queued)
            self._queued = None

    def _abandon(self, job: _Job) -> None:
        """Its messages that are still on their way are skipped when others are awaited."""
        if self._child is not None:
            try:
                self._child.send({"op": "cancel", "id": job.number})
            except ChildGone:
                self._lose_child()

    def _submit(self, job: _Job) -> None:
        """Gives a job to the child, a new one if need be."""
        self._numbers += 1
        job.number, job.begun = self._numbers, False
        job.timeout_seconds = self.limits.timeout_seconds
        for _ in range(_MAX_STARTS):
            if self._child is None:
                self._child = DecoderProcess(self.limits)
            try:
                self._child.send({**job.message, "id": job.number})
                job.child = self._child
                return
            except ChildGone:
                self._lose_child()
        raise ReelmaskError("the decoder process ends as soon as it starts")

    def _send_ahead(self, job: _Job) -> None:
        self._numbers += 1
        job.number, job.timeout_seconds = self._numbers, self.limits.timeout_seconds
        if self._child is not None:
            # A child that is gone is no loss yet: what it did for others is still in the pipe,
            # and this is sent again when it is asked for.
            with contextlib.suppress(ChildGone):
                self._child.send({**job.message, "id": job.number})
                job.child = self._child

    def _next_message(self, job: _Job) -> Message:
        """The next reply to `job` that is news; raises what went wrong with it."""
        for _ in range(_MAX_STARTS):
            if self._child is None or job.child is not self._child:
                self._submit(job)  # the child that was asked has died of another request
            try:
                return self._await_reply(job)
            except (ChildGone, ChildSilent) as error:
                self._lose_child()
                if job.begun:
                    raise DecoderDied(_epitaph(job, error)) from error
                # It died of something else, between two requests: ask another one.
        raise ReelmaskError(f"the decoder process ended {_MAX_STARTS} times before {job.what}")

    def _await_reply(self, job: _Job) -> Message:
        child = self._child
        assert child is not None
        while True:
            message = child.receive(job.timeout_seconds)
            if message["id"] != job.number:
                if message["op"] == "chunk":
                    self._give_back(message["slot"])
            elif message["op"] == "begin":
                job.begun = True
                job.timeout_seconds = message.get("seconds", job.timeout_seconds)
            elif message["op"] == "error":
                self._raise(job, message)
            elif message["op"] != "alive":
                return message

    def _raise(self, job: _Job, message: Message) -> NoReturn:
        text = message["message"]
        if message["kind"] == "limit":
            self._lose_child()
            raise DecoderDied(f"{job.what}: {text}")
        if message["log"]:
            text += f" (FFmpeg: {message['log'][-1]})"
        raise (SourceChangedError if message["kind"] == "changed" else SourceError)(text)

    def _frames(self, slot: int, num_frames: int, video: VideoInfo) -> npt.NDArray[np.uint8]:
        assert self._child is not None
        return self._child.arena.frames(slot, num_frames, video.height, video.width)

    def _give_back(self, slot: int) -> None:
        if self._child is not None:
            # Its last messages may still be in the pipe; reading them finds the end.
            with contextlib.suppress(ChildGone):
                self._child.send({"op": "credit", "slot": slot})

    def _lose_child(self) -> None:
        if self._child is not None:
            self._child.kill()
        self._child = None


@contextlib.contextmanager
def probing(limits: Limits) -> Iterator[Callable[[Source], VideoInfo]]:
    """A probe with a decoder child of its own, for one thread."""
    with VideoReader(limits) as reader:
        yield reader.probe


def _epitaph(job: _Job, error: ChildGone | ChildSilent) -> str:
    if isinstance(error, ChildSilent):
        return f"{job.what}: the decoder hangs: {error} (decode_timeout_seconds)"
    return f"{job.what}: the decoder crashed: {error}"
