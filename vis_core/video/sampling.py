"""Which frames a run looks at: a function of the video and the settings, never of shards."""

from __future__ import annotations

import dataclasses
import math
import numbers
import reprlib

import numpy as np
import numpy.typing as npt

from vis_core.types import VideoInfo

# Beyond them, sums of frame numbers and deadlines leave the range of 64 bits.
MAX_EVERY = 1_000_000
MIN_FPS, MAX_FPS = 1e-6, 1e6
_TOLERANCE_SECONDS = 1e-6  # time stamps are rounded to the container's clock, deadlines are not


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Every n-th frame, or so many frames per second of video."""

    # Too high: objects jump so far between frames that linking fails. Too low: costs more.
    every: int = 1
    # Frames per second of video, whatever the source's rate; None takes `every`.
    fps: float | None = None

    def __post_init__(self) -> None:
        if not _is(self.every, numbers.Integral) or not 1 <= self.every <= MAX_EVERY:
            raise ValueError(
                f"every: expected a whole number of 1 or more, at most {MAX_EVERY},"
                f" got {reprlib.repr(self.every)}"
            )
        # One type each, because both are hashed into fingerprints: 10 and 10.0 are one setting.
        object.__setattr__(self, "every", int(self.every))
        if self.fps is None:
            return
        if not _is(self.fps, numbers.Real) or not 0 < self.fps < math.inf:
            raise ValueError(f"fps: expected a finite number above 0, got {reprlib.repr(self.fps)}")
        if not MIN_FPS <= self.fps <= MAX_FPS:
            raise ValueError(
                f"fps: expected {MIN_FPS:g} to {MAX_FPS:g} frames a second,"
                f" got {reprlib.repr(self.fps)}"
            )
        object.__setattr__(self, "fps", float(self.fps))
        if self.every != 1:
            raise ValueError(
                f"every={self.every} and fps={self.fps:g} both thin the frames; give only one"
            )


def _is(value: object, kind: type) -> bool:
    """Whether it is such a number; Python takes True for 1, a person does not."""
    return isinstance(value, kind) and not isinstance(value, bool)


def sampled_frames(video: VideoInfo, sampling: Sampling) -> npt.NDArray[np.int32]:
    """Frame indices the run looks at, ascending.

    With `fps`: for k = 0, 1, … the first frame shown at or after `first + k / fps`; a frame that
    is the first for several k counts once.
    """
    if sampling.fps is None:
        return np.arange(0, video.num_frames, sampling.every, dtype=np.int32)
    all_frames = np.arange(video.num_frames, dtype=np.int32)
    if not len(all_frames):
        return all_frames
    seconds = video.seconds_of(all_frames)
    # A frame is taken if a deadline lies in (time of the frame before, time of the frame].
    due = np.floor((seconds - seconds[0] + _TOLERANCE_SECONDS) * sampling.fps)
    return all_frames[np.diff(due, prepend=-1.0) > 0]
