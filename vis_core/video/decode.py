"""Decodes what one request asks for: pinned frame, halos and core, in order, and what is missing.

In-process and single-threaded; `child.py` runs it where a crash or a hang hurts nobody. At most
the halo and a few frames more are held at a time, whatever the length of the video.
"""

from __future__ import annotations

import array
import collections
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from vis_core.errors import SourceError
from vis_core.types import Hole, IntArray, VideoInfo
from vis_core.video.gops import NO_FRAME, DecodedFrame, ExactFrames
from vis_core.video.limits import Limits
from vis_core.video.sampling import sampled_frames
from vis_core.video.shots import LOOKAHEAD, CutFinder
from vis_core.video.stills import StillFrames
from vis_core.video.wire import ReadRequest

_MAX_REASONS = 1_000  # for frames nobody asked for: forgotten beyond this
_HALO_GROWTH = 4  # damaged halo frames: look this much further back, again and again


class RgbFrame(NamedTuple):
    """One frame as predictors see it."""

    frame_index: int
    pts_seconds: float
    pixels: npt.NDArray[np.uint8]


class _Frames(Protocol):
    reasons: dict[int, str]
    num_found: int | None

    def frames(self, sampled: npt.NDArray[np.int32]) -> Iterator[DecodedFrame]: ...

    def close(self) -> None: ...


def check_limits(video: VideoInfo, limits: Limits) -> None:
    """Refuses a video before a byte of it is decoded."""
    if video.height * video.width > limits.max_frame_pixels:
        raise SourceError(
            f"{video.video_id}: frames of {video.width}x{video.height} pixels exceed "
            f"{limits.max_frame_pixels} (max_frame_pixels)"
        )
    if video.num_frames > limits.max_frames:
        raise SourceError(
            f"{video.video_id}: {video.num_frames} frames exceed {limits.max_frames}"
            " (max_video_frames)"
        )


class RangeDecoder:
    """Iterate once; then `holes`, `cuts`, `delivered` and `num_frames_found` are known."""

    def __init__(
        self, request: ReadRequest, limits: Limits, tick: Callable[[], None] = lambda: None
    ) -> None:
        check_limits(request.video, limits)
        self.holes: list[Hole] = []
        self.num_frames_found: int | None = None
        self._finder = CutFinder()
        self._cuts = array.array("i")
        self._delivered = array.array("i")
        self._request = request
        self._video = request.video
        self._limits = limits
        self._tick = tick
        self._sampled = sampled_frames(request.video, request.sampling)
        first, last = np.searchsorted(self._sampled, [request.start, request.stop])
        self._core = range(int(first), int(last))  # positions among sampled frames

    @property
    def cuts(self) -> IntArray:
        return np.array(self._cuts, np.int32)

    def cuts_from(self, first: int) -> tuple[list[int], int]:
        """Cuts after the first so many, and the frame index below which all are known."""
        return self._cuts[first:].tolist(), self._finder.known_until

    @property
    def delivered(self) -> IntArray:
        return np.array(self._delivered, np.int32)

    def __iter__(self) -> Iterator[RgbFrame]:
        if not self._core:
            return
        pinned = self._find_pinned() if self._request.pin_first else None
        source = self._open()
        try:
            yield from self._rest(source, pinned)
        finally:
            source.close()

    def _open(self) -> _Frames:
        kind = StillFrames if self._video.codec == "images" else ExactFrames
        return kind(self._video, self._limits, self._tick)

    def _find_pinned(self) -> DecodedFrame | None:
        """The first sampled, decodable frame of the video, unless the core has it."""
        source = self._open()
        try:
            _, frame = next(self._positioned(source, 0), (0, None))
            is_before = frame is not None and frame.frame_index < self._request.start
            return frame if is_before else None
        finally:
            source.close()

    def _rest(self, source: _Frames, pinned: DecodedFrame | None) -> Iterator[RgbFrame]:
        halo, frames = self._enter(source)
        first_frame = halo[0].frame_index if halo else self._request.start
        if pinned is not None and pinned.frame_index < first_frame:
            yield self._shown(pinned)
        while halo:
            yield self._shown(halo.popleft())
        yield from self._core_and_after(source, frames)
        if source.num_found is None and self._counts_frames():
            collections.deque(frames, maxlen=0)  # to the end, only to count
        self.num_frames_found = source.num_found
        if self.num_frames_found is not None:
            self._drop_holes_after(self.num_frames_found)

    def _counts_frames(self) -> bool:
        return self._video.sequential and self._request.stop >= self._video.num_frames

    def _enter(
        self, source: _Frames
    ) -> tuple[collections.deque[DecodedFrame], Iterator[tuple[int, DecodedFrame]]]:
        """The halo before the core, and the frames from the core on."""
        core, wanted = self._core.start, self._request.halo_before
        reach = wanted
        while True:
            begin = max(0, core - reach)
            halo: collections.deque[DecodedFrame] = collections.deque(maxlen=wanted)
            frames = self._positioned(source, begin)
            for position, frame in frames:
                if position >= core:
                    frames = _chain((position, frame), frames)
                    break
                halo.append(frame)
            if len(halo) == wanted or begin == 0:
                return halo, frames
            reach *= _HALO_GROWTH

    def _positioned(self, source: _Frames, begin: int) -> Iterator[tuple[int, DecodedFrame]]:
        """Decodable frames with their position among all sampled frames."""
        sampled = self._sampled[begin:]
        for frame in source.frames(sampled):
            position = begin + int(np.searchsorted(sampled, frame.frame_index))
            yield position, frame
            if position == len(self._sampled) - 1 and not self._counts_frames():
                return

    def _core_and_after(
        self, source: _Frames, frames: Iterator[tuple[int, DecodedFrame]]
    ) -> Iterator[RgbFrame]:
        cuts, expected, num_after = self._finder, self._core.start, 0
        num_looked_at = max(self._request.halo_after, LOOKAHEAD)
        for position, frame in frames:
            self._note_missing(range(expected, min(position, self._core.stop)), source)
            expected = position + 1
            self._cuts.extend(self._owned(cuts.add(frame.frame_index, frame.pixels)))
            if position in self._core:
                self._delivered.append(frame.frame_index)
                yield self._shown(frame)
                continue
            num_after += 1
            if num_after <= self._request.halo_after:
                yield self._shown(frame)
            if num_after >= num_looked_at:
                break
        self._note_missing(range(expected, self._core.stop), source)
        self._cuts.extend(self._owned(cuts.finish()))

    def _owned(self, frame_indices: list[int]) -> list[int]:
        return [index for index in frame_indices if index < self._request.stop]

    def _note_missing(self, positions: range, source: _Frames) -> None:
        """Neighbours among the sampled frames make one hole, as long as the reason is the same."""
        for position in positions:
            index = int(self._sampled[position])
            reason = source.reasons.get(index, NO_FRAME)
            before = int(self._sampled[position - 1]) + 1 if position > self._core.start else -1
            if self.holes and self.holes[-1].stop == before and self.holes[-1].reason == reason:
                start = self.holes.pop().start
            else:
                start = index
            self.holes.append(Hole(start=start, stop=index + 1, reason=reason))
        if positions.stop and len(source.reasons) > _MAX_REASONS:
            done = int(self._sampled[positions.stop - 1])
            for index in [index for index in source.reasons if index <= done]:
                del source.reasons[index]

    def _drop_holes_after(self, num_frames: int) -> None:
        """Decode wins over the index: frames that never existed are no holes."""
        kept = [hole for hole in self.holes if hole.start < num_frames]
        self.holes = [
            Hole(start=hole.start, stop=min(hole.stop, num_frames), reason=hole.reason)
            for hole in kept
        ]

    def _shown(self, frame: DecodedFrame) -> RgbFrame:
        seconds = float(self._video.seconds_of(np.array(frame.frame_index)))
        return RgbFrame(frame.frame_index, seconds, frame.pixels)


def _chain(
    head: tuple[int, DecodedFrame], rest: Iterator[tuple[int, DecodedFrame]]
) -> Iterator[tuple[int, DecodedFrame]]:
    yield head
    yield from rest
