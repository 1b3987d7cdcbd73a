"""Which frames a system looks at together: window settings, and the window of one predict call."""

from __future__ import annotations

import dataclasses

from vis_core.types import VideoInfo


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WindowSpec:
    """What a system needs around the frames it emits; a function of its configuration.

    Halos count sampled frames that could be decoded. With `whole_windows` a video is cut into
    overlapping windows of `num_frames`, each predicted by one call, at borders that depend on
    (length of the video, `num_frames`, `overlap`) alone.
    """

    num_frames: int | None = None
    overlap: int = 0
    halo_before: int = 0
    halo_after: int = 0
    pin_first: bool = False  # the video's first decodable frame comes first
    whole_windows: bool = False

    def __post_init__(self) -> None:
        if min(self.halo_before, self.halo_after, self.overlap) < 0:
            raise ValueError(f"halos and overlap must be 0 or more, got {self}")
        if self.whole_windows and (self.num_frames is None or self.num_frames <= self.overlap):
            raise ValueError(
                f"whole windows need num_frames above overlap, got num_frames={self.num_frames}, "
                f"overlap={self.overlap}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ShardWindow:
    """The core [start, stop) that one predict call must emit; other frames are halo or pinned."""

    video: VideoInfo
    start: int
    stop: int
    window: int = 0

    def owns(self, frame_index: int) -> bool:
        """A sequential video's length is known only at its end: its last piece is open."""
        at_end = self.video.sequential and self.stop >= self.video.num_frames
        return self.start <= frame_index and (at_end or frame_index < self.stop)


def window_ranges(num_frames: int, spec: WindowSpec) -> list[tuple[int, int]]:
    """Ranges [start, stop) of a video's windows, counted in sampled frames.

    Neighbours share at least `overlap` frames; the last window is moved back to full length.
    """
    size = spec.num_frames
    if not spec.whole_windows or size is None or num_frames <= size:
        return [(0, num_frames)]
    stride = size - spec.overlap
    starts = [*range(0, num_frames - size, stride), num_frames - size]
    return [(start, start + size) for start in starts]
