"""Things that hide objects: rocks, slabs and poles that just cover given points."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from vis_core.data.synth.exact import Dice
from vis_core.data.synth.motion import Pose, resting
from vis_core.data.synth.scene import Body
from vis_core.data.synth.shapes import Outline, support_polygon

_MARGIN = 1.2  # scene units by which a cover reaches beyond what it hides
_ROCK_SIDES = 18


def cover_of(body: Body, span: tuple[int, int], dice: Dice) -> tuple[Outline, Pose]:
    """Outline and pose of something that hides all of a body in the frames [start, stop)."""
    start, stop = span
    columns = np.arange(start, stop)[:, None]
    x, y = body.pose.to_scene(body.outline[None, :, 0], body.outline[None, :, 1], columns)
    points = np.stack([x.reshape(-1), y.reshape(-1)], axis=1)
    kind = dice.unit()
    if kind < 0.45:
        bumps = [dice.between(_MARGIN, _MARGIN + 1.6) for _ in range(_ROCK_SIDES)]
        outline = support_polygon(points, _ROCK_SIDES, np.array(bumps))
    else:
        before = max(start - 1, 0)
        course = (
            float(body.pose.x[stop - 1] - body.pose.x[before]),
            float(body.pose.y[stop - 1] - body.pose.y[before]),
        )
        beyond = dice.between(6, 26) if kind < 0.75 else dice.between(40, 130)
        outline = _slab(points, course, beyond, dice)
    middle_x, middle_y = math.fsum(outline[:, 0]), math.fsum(outline[:, 1])
    middle = np.array([middle_x, middle_y]) / len(outline)
    return outline - middle, resting(float(middle[0]), float(middle[1]), len(body.pose.x))


def _slab(
    points: npt.NDArray[np.float64], course: tuple[float, float], beyond: float, dice: Dice
) -> Outline:
    """A four-sided thing across the course, longer than needed by `beyond` on either side."""
    length = math.sqrt(course[0] * course[0] + course[1] * course[1])
    along = (course[0] / length, course[1] / length) if length > 0.5 else (1.0, 0.0)
    u = points[:, 0] * along[0] + points[:, 1] * along[1]
    v = points[:, 1] * along[0] - points[:, 0] * along[1]
    low_u, high_u = float(u.min()) - _MARGIN, float(u.max()) + _MARGIN
    low_v = float(v.min()) - _MARGIN - beyond * dice.between(0.5, 1.0)
    high_v = float(v.max()) + _MARGIN + beyond * dice.between(0.5, 1.0)
    taper = dice.between(0.0, 2.5)  # the upper end is a little narrower than the lower one
    corners = [
        (low_u, low_v),
        (high_u, low_v),
        (high_u + taper, high_v),
        (low_u - taper, high_v),
    ]
    return np.array(
        [(x * along[0] - y * along[1], x * along[1] + y * along[0]) for x, y in corners]
    )
