"""What the trials of a clip share, and an object that found its place."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from vis_core.data.synth.cast import Role
from vis_core.data.synth.config import Preset, SynthConfig
from vis_core.data.synth.motion import Camera
from vis_core.data.synth.paths import Windows
from vis_core.data.synth.scene import SLIVER, Body, Footprint


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """The surroundings in which the objects of one clip are tried out."""

    config: SynthConfig
    seed: int
    preset: Preset
    camera: Camera  # of the real picture
    small: Camera  # the same view in the small picture of the trials
    windows: Windows
    scratch: npt.NDArray[np.bool_]  # a flat canvas of the small picture, all False

    @property
    def size(self) -> tuple[int, int]:
        return self.small.height, self.small.width

    @property
    def key(self) -> str:
        return self.config.key(self.seed)

    @property
    def num_frames(self) -> int:
        return self.config.num_frames

    @property
    def sliver(self) -> float:
        return SLIVER * self.small.px_per_unit * self.small.px_per_unit


@dataclasses.dataclass(kw_only=True, slots=True)
class Player:
    """An object with its covers, and where it is seen when it is alone with them."""

    role: Role
    bodies: list[Body]  # the object, then its covers
    prints: list[Footprint]  # of each body, in the small picture
    seen: npt.NDArray[np.bool_]  # (T,)
    visible: npt.NDArray[np.int64]  # (T,) pixels
