"""predict: one unit in, one committed part out. Pixels exist only here."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator

import numpy as np

from vis_core import node_files
from vis_core.errors import AlignmentError, DecoderDied, ReelmaskError, SourceError
from vis_core.failpoints import failpoint
from vis_core.job import Job, Member
from vis_core.schema import FileMetadata
from vis_core.store.folder import Folder
from vis_core.store.parts import PartWriter, find_part
from vis_core.store.segments import Receipt, Segment, Unit
from vis_core.system import Predictor
from vis_core.types import FrameBatch, FramePrediction
from vis_core.video.reader import FrameStream, ReadRequest, VideoReader
from vis_core.windows import ShardWindow, WindowSpec


class UnitFailed(Exception):
    """A unit could not be computed, and the fault lies with one of its inputs or the model.

    Counted as an attempt on the unit; a unit that fails alone too often is given up.
    """

    def __init__(self, unit: Unit, stage: str, message: str, *, ends_process: bool = False) -> None:
        super().__init__(f"{unit}: {stage}: {message}")
        self.unit = unit
        self.stage = stage
        self.message = message
        self.ends_process = ends_process  # the device answers this process no more


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberRuntime:
    """A member set up for work: its model is loaded. Made once per process."""

    member: Member
    predictor: Predictor
    spec: WindowSpec

    @classmethod
    def set_up(cls, member: Member) -> MemberRuntime:
        """Files first, once per machine; then the model, once per process."""
        failpoint("set_up")
        prepared = node_files.prepare(member.predict_config, member.file_digests)
        return cls(
            member=member,
            predictor=member.system.make_predictor(prepared),
            spec=member.system.window(prepared),
        )


def run_shard(
    unit: Unit,
    runtime: MemberRuntime,
    job: Job,
    folder: Folder,
    reader: VideoReader,
    *,
    metadata: FileMetadata,
    then: Unit | None = None,
    tell: Callable[[int], None] = lambda rows: None,
) -> Receipt:
    """Computes and commits a unit, or adopts its part if somebody already did.

    `then` is the unit after this one: the reader decodes its first frames in the background.
    `tell` hears of rows as they come, long before they are saved.
    Pure in the sense that matters: called again with the same unit it leads to the same part.
    """
    found = find_part(folder, unit.part)
    if found is not None:
        return found
    requests = [read_request(segment, runtime, job) for segment in unit.segments]
    after = [*requests[1:], read_request(then.segments[0], runtime, job) if then else None]
    totals = _Totals()
    started = time.perf_counter()
    with PartWriter(
        folder,
        unit.part,
        member=unit.member,
        fingerprint=unit.fingerprint,
        metadata=metadata,
        row_group_bytes=job.settings.row_group_bytes,
    ) as writer:
        for segment, request, following in zip(unit.segments, requests, after, strict=True):
            with _failures_are_attempts(unit):
                stream = reader.read(request, then=following)
                _predict_segment(unit, segment, runtime, stream, writer, tell)
                totals.add(stream)
        elapsed = time.perf_counter() - started
        return writer.commit(
            Receipt(
                member=unit.member,
                segments=(),
                part=unit.part,
                part_bytes=0,
                num_frames_predicted=totals.num_frames,
                decode_seconds=totals.decode_seconds,
                wait_seconds=totals.wait_seconds,
                predict_seconds=max(0.0, elapsed - totals.wait_seconds - writer.write_seconds),
                write_seconds=writer.write_seconds,
            )
        )


def read_request(segment: Segment, runtime: MemberRuntime, job: Job) -> ReadRequest:
    """The frames a segment needs: its core and what the system wants to see around it."""
    spec = runtime.spec
    return ReadRequest(
        video=segment.video,
        start=segment.start,
        stop=segment.stop,
        sampling=job.sampling,
        halo_before=0 if spec.whole_windows else spec.halo_before,
        halo_after=0 if spec.whole_windows else spec.halo_after,
        pin_first=spec.pin_first,
        batch_size=runtime.member.predict_config.batch_size,
    )


@dataclasses.dataclass
class _Totals:
    num_frames: int = 0
    decode_seconds: float = 0.0
    wait_seconds: float = 0.0

    def add(self, stream: FrameStream) -> None:
        self.num_frames += len(stream.delivered)
        self.decode_seconds += stream.decode_seconds
        self.wait_seconds += stream.wait_seconds


@contextlib.contextmanager
def _failures_are_attempts(unit: Unit) -> Iterator[None]:
    try:
        yield
    except DecoderDied as error:
        raise UnitFailed(unit, "decode", str(error)) from error
    except SourceError as error:
        raise UnitFailed(unit, "decode", str(error)) from error
    except (ReelmaskError, OSError, MemoryError):
        raise  # a setting, our own store, the machine: not the video's fault
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
            raise ReelmaskError(
                f"{unit}: the device has too little memory for this batch: use a smaller batch_size"
            ) from error
        raise UnitFailed(
            unit,
            "predict",
            f"{type(error).__name__}: {error}",
            ends_process=_is_device_fault(error),
        ) from error


def _is_device_fault(error: Exception) -> bool:
    """After these CUDA refuses all further work of the process."""
    return type(error).__name__ == "AcceleratorError" or (
        isinstance(error, RuntimeError) and "CUDA error" in str(error)
    )


def _predict_segment(
    unit: Unit,
    segment: Segment,
    runtime: MemberRuntime,
    stream: FrameStream,
    writer: PartWriter,
    tell: Callable[[int], None],
) -> None:
    window = ShardWindow(
        video=segment.video, start=segment.start, stop=segment.stop, window=segment.window
    )
    sink = _Sink(segment, window, stream, writer)
    frames = sink.watched()
    for prediction in runtime.predictor.predict(frames, window):
        sink.take(prediction)
        tell(1)
        failpoint("after_frame")
    for _ in frames:  # a predictor may stop before it has drained the halo
        pass
    sink.finish(runtime.member.system.name)
    writer.end_segment(
        segment.key(unit.fingerprint),
        holes=stream.holes,
        cuts=sorted(stream.cuts),
        num_frames_found=stream.num_frames_found,
    )
    failpoint("after_segment")


class _Sink:
    """Asserts that the rows that come out are the frames that went in, and writes them.

    A row waits until it is known whether a shot ends with it, which takes a few frames more.
    """

    def __init__(
        self, segment: Segment, window: ShardWindow, stream: FrameStream, writer: PartWriter
    ) -> None:
        self._segment = segment
        self._window = window
        self._stream = stream
        self._writer = writer
        self._due: dict[int, float] = {}  # core frames given and not yet answered
        self._given: list[int] = []  # the last frames given, to see what follows a row
        self._waiting: collections.deque[FramePrediction] = collections.deque()
        self._last = -1

    def watched(self) -> Iterator[FrameBatch]:
        """The stream's batches, remembering which rows must come back."""
        for batch in self._stream:
            times = zip(batch.frame_index.tolist(), batch.pts_seconds.tolist(), strict=True)
            self._due.update({i: seconds for i, seconds in times if self._window.owns(i)})
            first_needed = self._waiting[0].frame_index if self._waiting else self._last
            kept = [index for index in self._given if index > first_needed]
            self._given = kept + batch.frame_index.tolist()
            yield batch

    def take(self, prediction: FramePrediction) -> None:
        self._check(prediction)
        self._last = prediction.frame_index
        self._waiting.append(
            dataclasses.replace(prediction, window=self._segment.window, shot=None)
        )
        self._write_decided()

    def finish(self, system: str) -> None:
        self._write_decided()
        if self._due:
            raise AlignmentError(
                f"the predictor of {system!r} returned no row for frames {sorted(self._due)[:5]}"
                f" of {self._segment.video.video_id!r}; it must return one per core frame it was"
                " given"
            )

    def _write_decided(self) -> None:
        while self._waiting and self._waiting[0].frame_index < self._stream.cuts_known_until:
            row = self._waiting.popleft()
            if row.flow is not None and not self._flows_to_next(row.frame_index):
                row = dataclasses.replace(row, flow=None)
            if row.frame_index in self._stream.cuts:
                row = dataclasses.replace(row, cut_after=True)
            self._writer.append(row)

    def _flows_to_next(self, frame_index: int) -> bool:
        """Whether the frame given after this one is the next sampled one, with no hole between."""
        given = next((index for index in self._given if index > frame_index), None)
        if given is None:
            return False
        sampled = self._stream.sampled
        return int(sampled[np.searchsorted(sampled, frame_index, side="right")]) == given

    def _check(self, prediction: FramePrediction) -> None:
        """Same video, same frame, same time, in order."""
        video = self._segment.video
        index = prediction.frame_index
        seconds = self._due.pop(index, None)
        if prediction.video_id != video.video_id or seconds is None or index <= self._last:
            raise AlignmentError(
                f"a predictor returned a row for {prediction.video_id!r} frame {index} while"
                f" {video.video_id!r} [{self._segment.start}, {self._segment.stop}) was due after"
                f" frame {self._last}; rows must be the frames it was given, in order"
            )
        if seconds != prediction.pts_seconds:
            raise AlignmentError(
                f"frame {index} of {video.video_id!r} has time {seconds}, but its row says"
                f" {prediction.pts_seconds}; the predictor has mixed up its batch"
            )
        if (prediction.height, prediction.width) != (video.height, video.width):
            raise AlignmentError(
                f"row of {video.video_id!r} frame {index} is for {prediction.height}x"
                f"{prediction.width}, the video is {video.height}x{video.width}"
            )
