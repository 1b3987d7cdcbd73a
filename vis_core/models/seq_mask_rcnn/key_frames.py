"""Which frames objects are proposed in, and which are remembered.

Propose-Reduce, sections 3.1.1 and 3.1.2; docs/methods/propose_reduce.md on the release.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

KeyFrameRule = Literal["paper", "release"]


def key_frames(num_frames: int, number: int, rule: KeyFrameRule) -> list[int]:
    """Picks `number` frames, evenly spaced.

    `paper` (eq. 1) starts with the first and never has the last; what would lie beyond the video
    is left out. `release` has both, repeats frames of videos shorter than `number`, and rounds as
    the release does: now and then its last one is the last but one.
    """
    if num_frames < 1 or number < 1:
        raise ValueError(f"expected frames and key frames, got {num_frames} and {number}")
    if rule == "paper":
        step = max(num_frames // number, 1)
        return [step * k for k in range(number) if step * k < num_frames]
    if rule != "release":
        raise ValueError(f"rule: expected 'paper' or 'release', got {rule!r}")
    if number == 1:
        return [0]
    spacing = (num_frames - 1) / (number - 1)
    return [int(spacing * k) for k in range(number)]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MemoryPolicy:
    """How often a frame is remembered; exactly one of both.

    Too seldom loses objects that change, too often costs time that grows with the square of the
    frames.
    """

    every: int | None = None  # frames; 1 for YouTube-VIS
    about: int | None = None  # frames of the whole video; 10 for DAVIS

    def __post_init__(self) -> None:
        given = [value for value in (self.every, self.about) if value is not None]
        if len(given) != 1 or given[0] < 1:
            raise ValueError(
                f"expected either every or about, from 1, got {self.every} and {self.about}"
            )

    def step(self, num_frames: int) -> int:
        if self.every is not None:
            return self.every
        assert self.about is not None
        return max(num_frames // self.about, 1)


def remembered(key: int, frames: range, step: int) -> list[int]:
    """The frames of one direction whose masks are remembered; the last is of no use to any."""
    return [frame for frame in frames[:-1] if frame != key and abs(frame - key) % step == 0]
