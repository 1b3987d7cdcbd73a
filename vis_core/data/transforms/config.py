"""Settings of the transforms."""

from __future__ import annotations

import dataclasses
from typing import Literal

from vis_core.config import check, setting


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TransformConfig:
    """In their order: rotation, crop, size, flip, window, colours."""

    consistency: Literal["clip", "independent"] = setting(
        "clip",
        says="`clip`: all frames alike; `independent`: each its own, which makes pairs of one"
        " picture, and of real videos clips in which nothing moves as it did.",
    )
    rotate_degrees: tuple[float, ...] = setting(
        (),
        low=-360,
        high=360,
        says="Range of an angle for each frame of clips that show one picture again and again,"
        " which makes pseudo-videos of them; real videos stay upright. Too large: what is turned"
        " out of the frame is lost. Too small: nothing moves.",
    )
    crop: float = setting(
        0.0,
        low=0,
        high=1,
        says="How often a part is cut out. Too often, and nothing is seen whole.",
    )
    crop_px: tuple[int, ...] = setting(
        (384, 600),
        low=8,
        high=16_384,
        says="Shortest and longest side of that part. Too small, and instances are cut to pieces.",
    )
    crop_short_side_px: tuple[int, ...] = setting(
        (),
        low=16,
        high=16_384,
        says="Sizes to choose from, to which a frame's short side is brought before it is cut;"
        " none: as is.",
    )
    crop_moves: bool = setting(
        True,
        says="Each frame of a clip has a part of its own, as in IDOL's release. Off: as if from one"
        " camera.",
    )
    short_side_px: tuple[int, ...] = setting(
        (480,),
        low=16,
        high=16_384,
        says="Sizes to choose from for the short side. Too small loses small objects, too large"
        " costs memory and time.",
    )
    long_side_px: int = setting(
        1333,
        low=16,
        high=65_535,
        says="Longest other side; a frame beyond it becomes smaller as a whole.",
    )
    scales: tuple[float, ...] = setting(
        (),
        low=0.01,
        high=100,
        says="Factors to choose from, of the frame's own size and without a cap, instead of"
        " `short_side_px`.",
    )
    flip: float = setting(
        0.5, low=0, high=1, says="How often left is right; too often where sides mean something."
    )
    window_px: tuple[int, ...] = setting(
        (),
        low=8,
        high=16_384,
        says="Height and width of a fixed window, at a random place, padded; none: whole frames.",
    )
    colors: float = setting(
        0.0,
        low=0,
        high=4,
        says="Strength of changes of brightness, contrast, saturation and hue, each half the time:"
        " 0 none, 1 as in SSD. Too strong hides categories.",
    )
    gamma: float = setting(
        0.0, low=0, high=0.9, says="Largest change of the exponent of brightness; 0 none."
    )

    def __post_init__(self) -> None:
        check(self)
        if len(self.crop_px) != 2 or self.crop_px[0] > self.crop_px[1]:
            raise ValueError(f"crop_px: expected shortest,longest, got {self.crop_px}")
        if len(self.window_px) not in (0, 2):
            raise ValueError(f"window_px: expected height,width or nothing, got {self.window_px}")
        if not self.short_side_px:
            raise ValueError("short_side_px: expected one or more sizes, got none")
