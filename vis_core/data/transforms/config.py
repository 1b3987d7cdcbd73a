"""Settings of the transforms."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TransformConfig:
    """In their order: rotation, crop, size, flip, window, colours."""

    # `clip`: all frames alike. `independent`: each its own, which makes pairs of one picture, and
    # of real videos clips in which nothing moves as it did.
    consistency: Literal["clip", "independent"] = "clip"
    # An angle for each frame of clips that show one picture again and again, which makes
    # pseudo-videos of them; real videos stay upright. Too large: what is turned out of the frame is
    # lost. Too small: nothing moves.
    rotate_degrees: tuple[float, ...] = ()
    crop: float = 0.0  # how often a part is cut out; too often, and nothing is seen whole
    # Shortest and longest side of that part; too small, and instances are cut to pieces.
    crop_px: tuple[int, ...] = (384, 600)
    # Sizes to choose from, to which a frame's short side is brought before it is cut; none: as is.
    crop_short_side_px: tuple[int, ...] = ()
    # Whether each frame of a clip has a part of its own, as in IDOL's release. Off: as if from one
    # camera.
    crop_moves: bool = True
    # Sizes to choose from; too small loses small objects, too large costs memory and time.
    short_side_px: tuple[int, ...] = (480,)
    long_side_px: int = 1333  # cap of the other side; a frame beyond it becomes smaller as a whole
    # Factors to choose from, of the frame's own size and without a cap, instead of `short_side_px`.
    scales: tuple[float, ...] = ()
    flip: float = 0.5  # how often left is right; too often where sides mean something
    # Height and width of a fixed window, at a random place, padded; none: whole frames.
    window_px: tuple[int, ...] = ()
    # Brightness, contrast, saturation and hue, each half the time; too strong hides categories.
    colors: float = 0.0  # strength: 0 none, 1 as in SSD
    gamma: float = 0.0  # largest change of the exponent; 0 none

    def __post_init__(self) -> None:
        if self.consistency not in ("clip", "independent"):
            raise ValueError(
                f"consistency: expected clip or independent, got {self.consistency!r:.80}"
            )
        for name, low, high in (
            ("crop", 0.0, 1.0),
            ("flip", 0, 1),
            ("colors", 0, 4),
            ("gamma", 0, 0.9),
            ("long_side_px", 16, 65_535),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {getattr(self, name)}")
        bounds: tuple[tuple[str, float, float], ...] = (
            ("short_side_px", 16, 16_384),
            ("crop_short_side_px", 16, 16_384),
            ("crop_px", 8, 16_384),
            ("window_px", 8, 16_384),
            ("scales", 0.01, 100),
            ("rotate_degrees", -360, 360),
        )
        for name, low, high in bounds:
            if not all(low <= value <= high for value in getattr(self, name)):
                raise ValueError(
                    f"{name}: expected numbers from {low} to {high}, got {getattr(self, name)}"
                )
        if len(self.crop_px) != 2 or self.crop_px[0] > self.crop_px[1]:
            raise ValueError(f"crop_px: expected shortest,longest, got {self.crop_px}")
        if len(self.window_px) not in (0, 2):
            raise ValueError(f"window_px: expected height,width or nothing, got {self.window_px}")
        if not self.short_side_px:
            raise ValueError("short_side_px: expected one or more sizes, got none")
