"""Which frames a run looks at: a function of the video and the settings, never of shards."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from vis_core.types import VideoInfo

_TOLERANCE_SECONDS = 1e-6  # time stamps are rounded to the container's clock, deadlines are not


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """Every n-th frame, or so many frames per second of video."""

    # Too high: objects jump so far between frames that linking fails. Too low: costs more.
    every: int = 1
    # Frames per second of video, whatever the source's rate; None takes `every`.
    fps: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise ValueError(f"every: expected a whole number of 1 or more, got {self.every!r}")
        if self.fps is None:
            return
        if not isinstance(self.fps, int | float) or not math.isfinite(self.fps) or self.fps <= 0:
            raise ValueError(f"fps: expected a finite number above 0, got {self.fps!r}")
        if self.every != 1:
            raise ValueError(
                f"every={self.every} and fps={self.fps:g} both thin the frames; give only one"
            )


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
