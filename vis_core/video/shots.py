"""Where one shot ends and the next begins: a stateless rule on colour histograms.

Whether a shot ends with frame i is decided from frame i and the next LOOKAHEAD sampled, decodable
frames alone, so it is the same wherever shards are cut. Hard cuts only: a fade or a pan changes
little from one frame to the next, and a flash does not last.
"""

from __future__ import annotations

import collections
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

LOOKAHEAD = 3
# Fraction of pixels that change their colour bin. Lower: fast pans count as cuts, which breaks
# tracks. Higher: cuts between similar scenes are missed, and tracks leak across them.
THRESHOLD = 0.4
_STEP_PX = 8
_NUM_BINS = 8 * 8 * 8
_BIN_MASK = 0xE0  # the upper three bits of a channel

Histogram = npt.NDArray[np.float32]


def color_histogram(frame: npt.NDArray[np.uint8]) -> Histogram:
    """Share of pixels per colour, on every 8th pixel of an RGB frame: (512,), sums to 1."""
    pixels = frame[::_STEP_PX, ::_STEP_PX]
    # Channel by channel, in place: faster than on the pixels as they lie.
    codes = (pixels[..., 0] & _BIN_MASK).astype(np.intp)
    codes <<= 1
    codes |= (pixels[..., 1] & _BIN_MASK) >> 2
    codes |= pixels[..., 2] >> 5
    counts = np.bincount(codes.ravel(), minlength=_NUM_BINS)
    return (counts / codes.size).astype(np.float32)


def distance(first: Histogram, second: Histogram) -> float:
    """Share of pixels that would have to change colour: 0 the same, 1 nothing in common."""
    return float(np.abs(first - second).sum()) / 2


def is_cut(frame: Histogram, following: list[Histogram]) -> bool:
    """Whether a shot ends with `frame`, given up to LOOKAHEAD frames that follow it.

    The change must last (else it is a flash) and the new content must stand (else it is a fade,
    a whip pan or noise). At the end of a video fewer frames follow; those that exist decide.
    """
    if not following:
        return False
    change = distance(frame, following[0])
    if change <= THRESHOLD:
        return False
    if any(distance(frame, later) <= THRESHOLD for later in following[1:LOOKAHEAD]):
        return False
    return len(following) < 2 or distance(following[0], following[1]) < change / 2


class _Waiting(NamedTuple):
    frame_index: int
    histogram: Histogram


class CutFinder:
    """Takes sampled, decodable frames in order; gives the frames after which a shot ends."""

    def __init__(self) -> None:
        self.known_until = 0  # decided for every frame below this index
        self._window: collections.deque[_Waiting] = collections.deque()

    def add(self, frame_index: int, frame: npt.NDArray[np.uint8]) -> list[int]:
        """Cuts that are decided now that this frame is known."""
        self._window.append(_Waiting(frame_index, color_histogram(frame)))
        return self._decide() if len(self._window) > LOOKAHEAD else []

    def finish(self) -> list[int]:
        """Cuts among the last frames; for these nothing, or too little, follows."""
        cuts: list[int] = []
        while self._window:
            cuts += self._decide()
        return cuts

    def _decide(self) -> list[int]:
        first = self._window.popleft()
        self.known_until = first.frame_index + 1
        following = [waiting.histogram for waiting in self._window]
        return [first.frame_index] if is_cut(first.histogram, following) else []
