"""Paths of objects: wandering from an anchor, forwards and backwards in time.

What is fixed about a path (where it enters, where it meets another) is its anchor; the rest
wanders: it curves, and turns back at the edge of what the camera sees.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from vis_core.data.synth.exact import Dice, cos_turns, sin_turns
from vis_core.data.synth.motion import Camera

FloatArray = npt.NDArray[np.float64]
Vector = tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Anchor:
    """Where a path must be at one time, and which way it goes from there and comes from."""

    frame: int
    place: Vector
    forwards: Vector  # unit vectors
    backwards: Vector


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """What the camera sees, in scene units; every field is (T,)."""

    x: FloatArray
    y: FloatArray
    half_width: FloatArray
    half_height: FloatArray

    def room(self, frame: int, margin: float) -> Vector:
        """Half the width and height that are left inside a margin."""
        return (
            max(float(self.half_width[frame]) - margin, 4.0),
            max(float(self.half_height[frame]) - margin, 4.0),
        )

    def inside(self, x: FloatArray, y: FloatArray, margin: float) -> npt.NDArray[np.bool_]:
        """(T,) whether the places are in view, by a margin."""
        across = np.abs(x - self.x) <= self.half_width - margin
        return across & (np.abs(y - self.y) <= self.half_height - margin)


def windows_of(camera: Camera) -> Windows:
    half_width, half_height = camera.half_window
    return Windows(x=camera.x, y=camera.y, half_width=half_width, half_height=half_height)


def heading(turns: float) -> Vector:
    """A unit vector."""
    return float(cos_turns(turns)), float(sin_turns(turns))


def turned(vector: Vector, turns: float) -> Vector:
    cosine, sine = heading(turns)
    return vector[0] * cosine - vector[1] * sine, vector[0] * sine + vector[1] * cosine


def reverse(vector: Vector) -> Vector:
    return -vector[0], -vector[1]


def free_anchor(dice: Dice, windows: Windows, frame: int, margin: float) -> Anchor:
    """Anywhere in view, in any direction."""
    room_x, room_y = windows.room(frame, margin)
    place = (
        float(windows.x[frame]) + dice.between(-room_x, room_x),
        float(windows.y[frame]) + dice.between(-room_y, room_y),
    )
    way = heading(dice.unit())
    return Anchor(frame=frame, place=place, forwards=way, backwards=reverse(way))


def border_anchor(dice: Dice, windows: Windows, frame: int, beyond: float) -> Anchor:
    """Just outside the picture; forwards and backwards both lead into it."""
    room_x, room_y = windows.room(frame, 0.0)
    along = dice.between(-0.75, 0.75)
    side = dice.whole(0, 3)
    if side < 2:
        place, inward = (room_x + beyond, along * room_y), (-1.0, 0.0)
    else:
        place, inward = (along * room_x, room_y + beyond), (0.0, -1.0)
    if side % 2:
        place, inward = reverse(place), reverse(inward)
    return Anchor(
        frame=frame,
        place=(place[0] + float(windows.x[frame]), place[1] + float(windows.y[frame])),
        forwards=turned(inward, dice.between(-0.09, 0.09)),
        backwards=turned(inward, dice.between(-0.09, 0.09)),
    )


def wander(
    dice: Dice,
    anchor: Anchor,
    steps: FloatArray,
    turns: FloatArray,
    windows: Windows,
    margin: float,
) -> tuple[FloatArray, FloatArray]:
    """(T,), (T,) a path through the anchor.

    `steps` (T - 1,) are distances from each frame to the next, `turns` (T,) changes of direction.
    """
    num_frames = len(windows.x)
    x, y = np.empty(num_frames), np.empty(num_frames)
    x[anchor.frame], y[anchor.frame] = anchor.place
    curve = _curvature(dice, num_frames) + turns
    cosines, sines = cos_turns(curve).tolist(), sin_turns(curve).tolist()
    onwards = range(anchor.frame + 1, num_frames)
    back = range(anchor.frame - 1, -1, -1)
    for way, frames, first_step in ((anchor.forwards, onwards, -1), (anchor.backwards, back, 0)):
        place = anchor.place
        for frame in frames:
            way = _kept_inside(place, way, windows, frame, margin)
            cosine, sine = cosines[frame], sines[frame]
            way = (way[0] * cosine - way[1] * sine, way[0] * sine + way[1] * cosine)
            step = float(steps[frame + first_step])
            place = (place[0] + way[0] * step, place[1] + way[1] * step)
            x[frame], y[frame] = place
    return x, y


def _curvature(dice: Dice, num_frames: int) -> FloatArray:
    """Gentle curves, to one side and the other."""
    rate, most = dice.between(0.015, 0.05), dice.between(0.0, 0.016)
    return most * sin_turns(rate * np.arange(num_frames) + dice.unit()) + dice.between(
        -0.004, 0.004
    )


def _kept_inside(place: Vector, way: Vector, windows: Windows, frame: int, margin: float) -> Vector:
    """Turns back where the path leads out of view."""
    room = windows.room(frame, margin)
    offset = (place[0] - float(windows.x[frame]), place[1] - float(windows.y[frame]))
    return (
        -way[0] if abs(offset[0]) > room[0] and offset[0] * way[0] > 0 else way[0],
        -way[1] if abs(offset[1]) > room[1] and offset[1] * way[1] > 0 else way[1],
    )
