"""Arithmetic and chance that give the same bits on every machine.

The truth must not depend on a maths library. So only +, -, *, / and square roots decide, which
IEEE 754 defines to the last bit: sine and cosine are polynomials, sums run in a fixed order, and
random numbers are raw output of PCG64, whose stream numpy promises to keep.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
FloatArray = npt.NDArray[np.float64]

_TAU = 6.283185307179586
# Taylor coefficients of the sine, the highest power first: x^17, x^15, …, x.
_SINE = [(-1) ** k / math.factorial(2 * k + 1) for k in range(8, -1, -1)]
# One multiplier per thing that is dealt: the root of a prime, its fraction as a 64-bit number.
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43)
_DEALT = (
    *("count", "size", "family", "fast", "resting", "late", "gone"),
    *("hidden", "length", "return", "twins", "relation", "birth", "life"),
)
_WORD = 1 << 64
_MULTIPLIERS = {
    name: math.isqrt(prime << 128) % _WORD for name, prime in zip(_DEALT, _PRIMES, strict=True)
}


def sin_turns(turns: npt.ArrayLike) -> FloatArray:
    """Sine of angles in turns, to about 1e-13."""
    angle = np.asarray(turns, np.float64)
    folded = angle - np.rint(angle)
    half = np.abs(folded)
    half = np.minimum(half, 0.5 - half)  # the sine of a half turn is symmetric
    x = half * _TAU
    square = x * x
    total = np.zeros_like(x)
    for coefficient in _SINE:
        total = total * square + coefficient
    return np.where(folded < 0, -1.0, 1.0) * (total * x)


def cos_turns(turns: npt.ArrayLike) -> FloatArray:
    """Cosine of angles in turns."""
    return sin_turns(np.asarray(turns, np.float64) + 0.25)


def deal(what: str, index: int) -> float:
    """Number `index` of an even sequence in [0, 1): any stretch of it covers the range evenly."""
    word = (index * _MULTIPLIERS[what] + (_MULTIPLIERS[what] >> 1)) % _WORD
    return (word >> 11) * 2.0**-53


def deal_count(what: str, index: int, mean: float) -> int:
    """A whole number beside `mean`, such that the dealt ones average `mean`."""
    return math.floor(mean + deal(what, index))


def pick(shares: Sequence[tuple[T, float]], quantile: float) -> T:
    """The item at a quantile of a list of items with their shares."""
    for item, share in shares:
        quantile -= share
        if quantile < 0:
            return item
    return shares[-1][0]


class Dice:
    """Chance for one purpose of one clip; the purpose is part of the key."""

    def __init__(self, *key: int | str) -> None:
        text = "/".join(map(str, key))
        self._bits = np.random.PCG64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16]))

    def unit(self) -> float:
        """A number in [0, 1)."""
        return (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def whole(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + math.floor((high - low + 1) * self.unit())

    def chance(self, share: float) -> bool:
        return self.unit() < share

    def sign(self) -> float:
        return 1.0 if self.unit() < 0.5 else -1.0

    def choice(self, items: Sequence[T]) -> T:
        return items[math.floor(len(items) * self.unit())]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in another order (Fisher-Yates)."""
        row = list(items)
        for last in range(len(row) - 1, 0, -1):
            other = self.whole(0, last)
            row[last], row[other] = row[other], row[last]
        return row
