"""How things lie and move: poses of a body, the camera, and the map from body to picture.

T frames, K points. Positions are scene units; x to the right, y down; angles in turns. A body's
surface is mapped in steps that can all be undone exactly: two bends, which keep areas, a stretch
that keeps them too, then turn, size and place. So its area in the picture is (size * zoom)^2, and
the motion of every visible point is known.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from vis_core.data.synth.exact import Dice, cos_turns, sin_turns

FloatArray = npt.NDArray[np.float64]
Points = tuple[FloatArray, FloatArray]  # x and y, of one shape
Frames = int | npt.NDArray[np.integer]  # one frame, or an array of them to broadcast against points

_BEND_CENTRE = 0.12  # about the mean square of a coordinate: bending moves the middle little


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Camera:
    """Where the camera looks in each frame, and the size of the picture."""

    x: FloatArray  # (T,) what is in the middle of the picture
    y: FloatArray
    zoom: FloatArray
    height: int  # pixels
    width: int
    px_per_unit: float

    def to_picture(self, x: npt.NDArray, y: npt.NDArray, frame: Frames, depth: float) -> Points:
        """Scene to pixels; things at `depth` below 1 are far away and move less."""
        scale, across, down = self._view(frame, depth)
        return x * scale + across, y * scale + down

    def to_scene(self, px: npt.NDArray, py: npt.NDArray, frame: Frames, depth: float) -> Points:
        """Pixels to scene."""
        scale, across, down = self._view(frame, depth)
        return (px - across) / scale, (py - down) / scale

    def affine(self, frame: int, depth: float) -> tuple[float, float, float]:
        """Scale and offsets of the map from scene to pixels."""
        scale, across, down = self._view(frame, depth)
        return float(scale), float(across), float(down)

    def _view(self, frame: Frames, depth: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        scale = (1 + depth * (self.zoom[frame] - 1)) * self.px_per_unit
        across = self.width / 2 - depth * self.x[frame] * scale
        down = self.height / 2 - depth * self.y[frame] * scale
        return scale, across, down

    @property
    def half_window(self) -> tuple[FloatArray, FloatArray]:
        """(T,), (T,) half the width and height of what is seen at depth 1, in scene units."""
        scale = self.zoom * self.px_per_unit
        return self.width / 2 / scale, self.height / 2 / scale

    def scaled(self, factor: float) -> Camera:
        """The same view in a smaller picture."""
        return dataclasses.replace(
            self,
            height=round(self.height * factor),
            width=round(self.width * factor),
            px_per_unit=self.px_per_unit * factor,
        )


def make_camera(dice: Dice, num_frames: int, size: tuple[int, int], px_per_unit: float) -> Camera:
    """Still, panning, zooming, or both, with a slight sway."""
    time = np.arange(num_frames) / 36.0
    x, y = np.zeros(num_frames), np.zeros(num_frames)
    if dice.chance(0.75):
        x = dice.sign() * dice.between(20, 90) * (time - time[-1] / 2)
        y = dice.sign() * dice.between(0, 36) * (time - time[-1] / 2)
    if dice.chance(0.6):
        x = x + dice.between(1, 7) * sin_turns(dice.between(0.6, 1.6) * time + dice.unit())
        y = y + dice.between(1, 5) * sin_turns(dice.between(0.6, 1.6) * time + dice.unit())
    zoom = np.ones(num_frames)
    if dice.chance(0.55):
        change = dice.sign() * dice.between(0.05, 0.16)
        zoom = 1.0 + change * (np.arange(num_frames) / (num_frames - 1) - 0.5) * 2
    return Camera(x=x, y=y, zoom=zoom, height=size[0], width=size[1], px_per_unit=px_per_unit)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pose:
    """How a body lies in each frame; every field is (T,)."""

    x: FloatArray
    y: FloatArray
    angle: FloatArray
    size: FloatArray  # square root of the area
    stretch: FloatArray  # 1: as drawn; wider above, higher below
    bend_x: FloatArray
    bend_y: FloatArray

    def to_scene(self, u: npt.NDArray, v: npt.NDArray, frame: Frames) -> Points:
        """Points of the body, u to the right and v down when it lies straight, to the scene."""
        bend_x, bend_y, stretch, cosine, sine = self._parts(frame)
        v = v + bend_y * (u * u - _BEND_CENTRE)
        u = u + bend_x * (v * v - _BEND_CENTRE)
        u, v = u * stretch, v / stretch
        x = self.x[frame] + cosine * u - sine * v
        y = self.y[frame] + sine * u + cosine * v
        return x, y

    def to_body(self, x: npt.NDArray, y: npt.NDArray, frame: Frames) -> Points:
        """The way back from the scene to the body."""
        bend_x, bend_y, stretch, cosine, sine = self._parts(frame)
        squared = cosine * cosine + sine * sine  # the size enters through cosine and sine
        dx, dy = x - self.x[frame], y - self.y[frame]
        u = (cosine * dx + sine * dy) / squared / stretch
        v = (cosine * dy - sine * dx) / squared * stretch
        u = u - bend_x * (v * v - _BEND_CENTRE)
        v = v - bend_y * (u * u - _BEND_CENTRE)
        return u, v

    def _parts(self, frame: Frames) -> tuple[FloatArray, ...]:
        angle, size = self.angle[frame], self.size[frame]
        return (
            self.bend_x[frame],
            self.bend_y[frame],
            self.stretch[frame],
            cos_turns(angle) * size,
            sin_turns(angle) * size,
        )


def resting(x: float, y: float, num_frames: int, *, angle: float = 0.0, size: float = 1.0) -> Pose:
    """Lies still, undeformed."""
    one = np.ones(num_frames)
    return Pose(
        x=one * x,
        y=one * y,
        angle=one * angle,
        size=one * size,
        stretch=one,
        bend_x=one * 0.0,
        bend_y=one * 0.0,
    )


def lively(dice: Dice, size: float, x: FloatArray, y: FloatArray) -> Pose:
    """A path with rotation, growth and deformation."""
    num_frames = len(x)
    frames = np.arange(num_frames, dtype=np.float64)
    spin = dice.sign() * (dice.between(0.0, 0.004) if dice.chance(0.5) else dice.between(0, 0.016))
    growth = dice.between(-0.28, 0.28)
    middle = (num_frames - 1) / 2

    def wave(most: float) -> FloatArray:
        rate = dice.between(0.02, 0.07)
        return dice.between(0.25, 1.0) * most * sin_turns(rate * frames + dice.unit())

    return Pose(
        x=x,
        y=y,
        angle=dice.unit() + spin * frames,
        size=size * (1 + growth * (frames - middle) / num_frames + wave(0.04)),
        stretch=1 + wave(0.14),
        bend_x=wave(0.3),
        bend_y=wave(0.3),
    )


def project(
    outline: npt.NDArray[np.float64], pose: Pose, camera: Camera, frames: slice
) -> npt.NDArray[np.float64]:
    """(T, K, 2) an outline in pixels of the picture, in some of the frames."""
    column = np.arange(len(camera.x))[frames, None]
    x, y = pose.to_scene(outline[None, :, 0], outline[None, :, 1], column)
    px, py = camera.to_picture(x, y, column, 1.0)
    return np.stack([px, py], axis=2)
