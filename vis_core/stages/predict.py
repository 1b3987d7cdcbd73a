"""predict: one unit in, one committed part out. Pixels exist only here."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from collections.abc import Iterator

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

    def __init__(self, unit: Unit, stage: str, message: str) -> None:
        super().__init__(f"{unit}: {stage}: {message}")
        self.unit = unit
        self.stage = stage
        self.message = message


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemberRuntime:
    """A member set up for work: its model is loaded. Made once per process."""

    member: Member
    predictor: Predictor
    spec: WindowSpec

    @classmethod
    def set_up(cls, member: Member) -> MemberRuntime:
        failpoint("set_up")
        return cls(
            member=member,
            predictor=member.system.make_predictor(member.predict_config),
            spec=member.system.window(member.predict_config),
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
) -> Receipt:
    """Computes and commits a unit, or adopts its part if somebody already did.

    `then` is the unit after this one: the reader decodes its first frames in the background.
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
                _predict_segment(unit, segment, runtime, stream, writer)
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
        raise UnitFailed(unit, "predict", f"{type(error).__name__}: {error}") from error


def _predict_segment(
    unit: Unit,
    segment: Segment,
    runtime: MemberRuntime,
    stream: FrameStream,
    writer: PartWriter,
) -> None:
    window = ShardWindow(
        video=segment.video, start=segment.start, stop=segment.stop, window=segment.window
    )
    expected: dict[int, float] = {}
    frames = _note_core_frames(stream, window, expected)
    last = -1
    waiting: collections.deque[FramePrediction] = collections.deque()
    for prediction in runtime.predictor.predict(frames, window):
        _check_row(prediction, segment, expected, last)
        last = prediction.frame_index
        waiting.append(dataclasses.replace(prediction, window=segment.window, shot=None))
        _write_decided(waiting, stream, writer)
        failpoint("after_frame")
    for _ in frames:  # a predictor may stop before it has drained the halo
        pass
    _write_decided(waiting, stream, writer)
    if expected:
        raise AlignmentError(
            f"{unit}: the predictor of {runtime.member.system.name!r} returned no row for frames"
            f" {sorted(expected)[:5]} of {segment.video.video_id!r}; it must return one per core"
            " frame it was given"
        )
    writer.end_segment(
        segment.key(unit.fingerprint),
        holes=stream.holes,
        cuts=sorted(stream.cuts),
        num_frames_found=stream.num_frames_found,
    )
    failpoint("after_segment")


def _write_decided(
    waiting: collections.deque[FramePrediction], stream: FrameStream, writer: PartWriter
) -> None:
    """Writes the rows of which it is known whether a shot ends with them."""
    while waiting and waiting[0].frame_index < stream.cuts_known_until:
        prediction = waiting.popleft()
        is_cut = prediction.frame_index in stream.cuts
        writer.append(dataclasses.replace(prediction, cut_after=True) if is_cut else prediction)


def _note_core_frames(
    stream: FrameStream, window: ShardWindow, expected: dict[int, float]
) -> Iterator[FrameBatch]:
    """Passes batches on, remembering which rows must come back."""
    for batch in stream:
        times = zip(batch.frame_index.tolist(), batch.pts_seconds.tolist(), strict=True)
        expected.update({index: seconds for index, seconds in times if window.owns(index)})
        yield batch


def _check_row(
    prediction: FramePrediction, segment: Segment, expected: dict[int, float], last: int
) -> None:
    """What comes out must be what went in: same video, same frame, same time, in order."""
    video = segment.video
    seconds = expected.pop(prediction.frame_index, None)
    if prediction.video_id != video.video_id or seconds is None or prediction.frame_index <= last:
        raise AlignmentError(
            f"a predictor returned a row for {prediction.video_id!r} frame"
            f" {prediction.frame_index} while {video.video_id!r} [{segment.start},"
            f" {segment.stop}) was due after frame {last}; rows must be the frames it was given,"
            " in order"
        )
    if seconds != prediction.pts_seconds:
        raise AlignmentError(
            f"frame {prediction.frame_index} of {video.video_id!r} has time {seconds}, but its row"
            f" says {prediction.pts_seconds}; the predictor has mixed up its batch"
        )
    if (prediction.height, prediction.width) != (video.height, video.width):
        raise AlignmentError(
            f"row of {video.video_id!r} frame {prediction.frame_index} is for"
            f" {prediction.height}x{prediction.width}, the video is {video.height}x{video.width}"
        )
