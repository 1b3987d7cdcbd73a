"""A colour per track: a function of its video's id and its own id, and of nothing else.

Hues follow the golden ratio, so that neighbouring ids lie far apart however many there are;
lightness and chroma take turns, for tracks whose hues come close. In Oklab (Ottosson 2020), where
equal steps look equal: in HSV half of all hues are green.
"""

from __future__ import annotations

import hashlib
import math

Color = tuple[int, int, int]  # red, green, blue

_GOLDEN = (math.sqrt(5) - 1) / 2
_LEVELS = ((0.72, 0.20), (0.62, 0.25), (0.84, 0.18))  # lightness, chroma


def track_color(video_id: str, track_id: int) -> Color:
    """The colour of a track: bright, so that black text can be read on it."""
    digest = hashlib.sha256(video_id.encode("utf-8", "surrogatepass")).digest()
    start = int.from_bytes(digest[:4], "big") / 2**32
    lightness, chroma = _LEVELS[track_id % len(_LEVELS)]
    return _from_oklch(lightness, chroma, (start + track_id * _GOLDEN) % 1.0)


def _from_oklch(lightness: float, chroma: float, hue: float) -> Color:
    """Red, green and blue; what sRGB cannot show is made paler until it can."""
    while True:
        linear = _linear_rgb(lightness, chroma, hue)
        if min(linear) >= 0 and max(linear) <= 1:
            red, green, blue = (round(255 * _to_gamma(value)) for value in linear)
            return red, green, blue
        chroma -= 0.005


def _linear_rgb(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(math.tau * hue), chroma * math.sin(math.tau * hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _to_gamma(value: float) -> float:
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
