"""Random numbers addressed by (seed, video, frame, object), never by the order of calls.

Integer mixing and sums only, no logarithm or cosine: bit-equal on every processor.
"""

from __future__ import annotations

import enum
import hashlib

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]


class Channel(enum.IntEnum):
    """What a random number decides; each has a stream of its own."""

    DROP = 1
    DUPLICATE = 2
    FALSE = 3
    JITTER = 4
    LABEL = 5
    SCORE = 6
    IDENTITY = 7
    EMBEDDING = 8
    SHAPE = 9


class Noise:
    """The random numbers of one video."""

    def __init__(self, seed: int, video_id: str) -> None:
        text = f"{seed}\0{video_id}".encode(errors="surrogatepass")
        self._key = np.frombuffer(hashlib.sha256(text).digest()[:8], np.uint64)

    def uniform(
        self, channel: Channel, frame: int, objects: npt.ArrayLike, num: int = 1
    ) -> FloatArray:
        """(N, num) values in [0, 1)."""
        return (self._bits(channel, frame, objects, num) >> np.uint64(11)) * 2.0**-53

    def normal(
        self, channel: Channel, frame: int, objects: npt.ArrayLike, num: int = 1
    ) -> FloatArray:
        """(N, num) values of mean 0 and deviation 1, within 3.5: sums of four uniform ones."""
        bits = self._bits(channel, frame, objects, num)
        quarters = bits[..., None] >> np.arange(0, 64, 16, dtype=np.uint64) & np.uint64(0xFFFF)
        return (quarters.sum(axis=-1) * 2.0**-16 - 2 + 2.0**-15) * 3**0.5

    def _bits(
        self, channel: Channel, frame: int, objects: npt.ArrayLike, num: int
    ) -> npt.NDArray[np.uint64]:
        rows = np.asarray(objects, np.int64).astype(np.uint64).reshape(-1, 1)
        columns = np.arange(num, dtype=np.uint64) + np.uint64(int(channel) << 32)
        base = _mix(self._key + np.uint64(frame & 0xFFFFFFFF))
        return _mix(_mix(base + rows * np.uint64(0x9E3779B97F4A7C15)) + columns)


def _mix(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014), after its increment."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
