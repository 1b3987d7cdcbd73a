"""Changes of colour as SSD makes them, each half the time; masks stay as they are."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]

# At strength 1: grey levels, shares, and degrees of hue in OpenCV's half circle.
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = 32.0, 0.5, 0.5, 9.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ColorChange:
    """Neutral as it stands."""

    brightness: float = 0.0
    contrast: float = 1.0
    contrast_first: bool = True  # before saturation and hue, or after them
    saturation: float = 1.0
    hue: float = 0.0
    gamma: float = 1.0


def draw_change(random: np.random.Generator, strength: float, gamma: float) -> ColorChange:
    """The same number of random values whatever comes out, so that nothing else shifts."""
    use = random.random(4) < 0.5
    amount = random.uniform(-1, 1, 5)
    contrast_first = bool(random.random() < 0.5)
    return ColorChange(
        brightness=float(use[0] * amount[0] * _BRIGHTNESS * strength),
        contrast=float(max(0.0, 1 + use[1] * amount[1] * _CONTRAST * strength)),
        contrast_first=contrast_first,
        saturation=float(max(0.0, 1 + use[2] * amount[2] * _SATURATION * strength)),
        hue=float(use[3] * amount[3] * _HUE * strength),
        gamma=float(1 + amount[4] * gamma),
    )


def change_colors(picture: Image, change: ColorChange) -> Image:
    if change == ColorChange(contrast_first=change.contrast_first):
        return picture
    values = picture.astype(np.float32)
    if change.gamma != 1:
        values = np.asarray(255 * (values / 255) ** (1 / change.gamma), np.float32)
    values += change.brightness
    if change.contrast_first:
        values *= change.contrast
    values = _change_hsv(values, change)
    if not change.contrast_first:
        values *= change.contrast
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


def _change_hsv(values: npt.NDArray[np.float32], change: ColorChange) -> npt.NDArray[np.float32]:
    if change.saturation == 1 and change.hue == 0:
        return values
    hsv = cv2.cvtColor(np.clip(values / 255, 0, 1).astype(np.float32), cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + 2 * change.hue) % 360
    hsv[..., 1] = np.clip(hsv[..., 1] * change.saturation, 0, 1)
    return np.asarray(255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.float32)
