"""Outlines of the shape families: closed polygons of area 1 around their centre of mass.

K points of an outline, as rows of x, y; y points down, as in pictures.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from vis_core.data.synth.exact import Dice, cos_turns, sin_turns

Outline = npt.NDArray[np.float64]  # (K, 2)

_STEP = 0.05  # longest distance between neighbouring points of an outline of area 1
_FULL_SHAPE = 0.9  # share of the convex hull from which a shape counts as convex


def outline_of(family: str, dice: Dice) -> Outline:
    """One member of a family; members differ a little in their proportions."""
    return _normal(_FAMILIES[family](dice))


def is_concave(outline: Outline) -> bool:
    """Whether the shape leaves more than a tenth of its convex hull empty."""
    return abs(signed_area(outline)) < _FULL_SHAPE * abs(signed_area(hull(outline)))


def signed_area(outline: Outline) -> float:
    """Shoelace formula; positive where the points run clockwise on the screen."""
    x, y = outline[:, 0], outline[:, 1]
    return 0.5 * math.fsum((x * np.roll(y, -1) - np.roll(x, -1) * y).tolist())


def reach(outline: Outline) -> float:
    """Distance of the farthest point from the centre."""
    return math.sqrt((outline[:, 0] * outline[:, 0] + outline[:, 1] * outline[:, 1]).max())


def hull(outline: Outline) -> Outline:
    """Convex hull (Andrew's monotone chain)."""
    points = sorted(set(map(tuple, outline.tolist())))
    chains = []
    for row in (points, points[::-1]):
        chain: list[tuple[float, ...]] = []
        for point in row:
            while len(chain) >= 2 and _turn(chain[-2], chain[-1], point) <= 0:
                chain.pop()
            chain.append(point)
        chains.append(chain[:-1])
    return np.array(chains[0] + chains[1])


def _turn(a: tuple[float, ...], b: tuple[float, ...], c: tuple[float, ...]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def support_polygon(points: Outline, num_sides: int, margins: npt.NDArray[np.float64]) -> Outline:
    """A convex polygon around all points, each side at its margin from the nearest of them."""
    turns = np.arange(num_sides) / num_sides
    normal_x, normal_y = cos_turns(turns), sin_turns(turns)
    distance = np.max(points[:, :1] * normal_x + points[:, 1:] * normal_y, axis=0) + margins
    # The corner between sides i and i + 1 solves n_i · p = d_i, n_(i+1) · p = d_(i+1).
    next_x, next_y, next_distance = (np.roll(a, -1) for a in (normal_x, normal_y, distance))
    det = normal_x * next_y - normal_y * next_x
    x = (distance * next_y - next_distance * normal_y) / det
    y = (next_distance * normal_x - distance * next_x) / det
    return np.stack([x, y], axis=1)


def _normal(outline: Outline) -> Outline:
    """Centred, area 1, clockwise on the screen, with points close together."""
    area = signed_area(outline)
    outline = outline if area > 0 else outline[::-1]
    outline = (outline - _centroid(outline)) / math.sqrt(abs(area))
    following = np.roll(outline, -1, axis=0)
    edges = following - outline
    lengths = np.sqrt(edges[:, 0] * edges[:, 0] + edges[:, 1] * edges[:, 1])
    pieces = []
    for start, edge, length in zip(outline, edges, lengths.tolist(), strict=True):
        count = max(1, math.ceil(length / _STEP))
        pieces.append(start + edge * (np.arange(count) / count)[:, None])
    return np.concatenate(pieces)


def _centroid(outline: Outline) -> npt.NDArray[np.float64]:
    x, y = outline[:, 0], outline[:, 1]
    cross = x * np.roll(y, -1) - np.roll(x, -1) * y
    scale = 6 * signed_area(outline)
    return np.array([math.fsum(((a + np.roll(a, -1)) * cross).tolist()) / scale for a in (x, y)])


# --- building blocks ------------------------------------------------------------------------------


def _polar(turns: npt.NDArray, radius: float | npt.NDArray) -> Outline:
    return np.stack([radius * cos_turns(turns), radius * sin_turns(turns)], axis=1)


def _stretched(outline: Outline, dice: Dice, most: float) -> Outline:
    """Wider or higher by up to `most`."""
    ratio = dice.between(1.0, most)
    return outline * (np.array([ratio, 1.0]) if dice.chance(0.5) else np.array([1.0, ratio]))


def _mirrored(right: list[tuple[float, float]]) -> Outline:
    """The right half of a shape, from its top down, and its mirror image."""
    left = [(-x, y) for x, y in right[::-1] if x]
    return np.array(right + left)


def _arc(centre: tuple[float, float], radius: float, start: float, stop: float) -> Outline:
    """24 points of a circle, from one angle to another, in turns."""
    return _polar(np.linspace(start, stop, 24), radius) + np.array(centre)


# --- families -------------------------------------------------------------------------------------


def _regular(sides: int) -> Callable[[Dice], Outline]:
    return lambda dice: _stretched(_polar(np.arange(sides) / sides, 1.0), dice, 1.15)


def _star(points: int) -> Callable[[Dice], Outline]:
    def build(dice: Dice) -> Outline:
        radius = np.where(np.arange(2 * points) % 2, dice.between(0.42, 0.52), 1.0)
        return _stretched(_polar(np.arange(2 * points) / (2 * points), radius), dice, 1.12)

    return build


def _crescent(dice: Dice) -> Outline:
    """A disc less another disc: two arcs between the same tips, which are the points (0, ±0.9)."""
    bulge = dice.between(0.28, 0.42)
    tip = dice.between(0.12, 0.16)  # half the opening of the outer circle, in turns
    outer = _arc((0, 0), 1.0, tip, 1 - tip)
    inner_x = cos_turns(np.array(tip)) + bulge
    end = outer[0]
    radius = math.sqrt(float(inner_x - end[0]) ** 2 + float(end[1]) ** 2)
    centre = (float(inner_x), 0.0)
    # Angles of the tips seen from the inner centre; found on a fine grid, without an arc tangent.
    grid = np.arange(0.25, 0.5, 1 / 4096)
    gap = np.abs(centre[0] + radius * cos_turns(grid) - float(end[0]))
    angle = float(grid[int(np.argmin(gap))])
    inner = _arc(centre, radius, 1 - angle, angle)
    return np.concatenate([outer, inner[1:-1]])


def _horseshoe(dice: Dice) -> Outline:
    gap = dice.between(0.08, 0.13)
    inner = dice.between(0.45, 0.55)
    return np.concatenate([_arc((0, 0), 1.0, gap, 1 - gap), _arc((0, 0), inner, 1 - gap, gap)])


def _heart(dice: Dice) -> Outline:
    depth = dice.between(0.85, 1.1)
    turns = np.arange(48) / 48
    sine = sin_turns(turns)
    waves = (13 * cos_turns(turns), 5 * cos_turns(2 * turns), 2 * cos_turns(3 * turns))
    y = waves[0] - waves[1] - waves[2] - cos_turns(4 * turns)
    return np.stack([16 * sine * sine * sine, -y * depth], axis=1)


def _drop(dice: Dice) -> Outline:
    tip = dice.between(1.9, 2.3)
    round_part = _arc((0, 0), 1.0, -0.08, 0.58)
    return np.concatenate([round_part, np.array([[0.0, -tip]])])


def _arrow(dice: Dice) -> Outline:
    shaft, head = dice.between(0.28, 0.4), dice.between(0.85, 1.05)
    return _mirrored([(0, -1.2), (head, -0.1), (shaft, -0.1), (shaft, 1.1)])


def _bolt(dice: Dice) -> Outline:
    lean = dice.between(-0.1, 0.15)
    corners = [(0.3, -1.0), (-0.7, 0.15), (-0.1, 0.15), (-0.4, 1.0), (0.75, -0.25), (0.1, -0.25)]
    return np.array([(x + lean * y, y) for x, y in corners])


def _gear(dice: Dice) -> Outline:
    teeth = dice.choice([7, 8, 9])
    inner = dice.between(0.7, 0.78)
    radius = np.tile([1.0, 1.0, inner, inner], teeth)
    steps = np.tile([0.0, 0.42, 0.5, 0.92], teeth) + np.repeat(np.arange(teeth), 4)
    return _polar(steps / teeth, radius)


def _fish(dice: Dice) -> Outline:
    tail = dice.between(0.5, 0.75)
    body = _arc((0, 0), 1.0, 0.58, 1.42) * np.array([1.25, 0.68])
    return np.concatenate([body, np.array([[-1.75, tail], [-1.5, 0.0], [-1.75, -tail]])])


def _dumbbell(dice: Dice) -> Outline:
    half, bar = dice.between(0.9, 1.1), dice.between(0.04, 0.06)
    right = _arc((half, 0), 0.62, -0.5 + bar, 0.5 - bar)
    left = _arc((-half, 0), 0.62, bar, 1 - bar)
    return np.concatenate([right, left])


def _trident(dice: Dice) -> Outline:
    deep, foot = dice.between(0.15, 0.35), dice.between(0.9, 1.2)
    return _mirrored(
        [
            *((0.0, -1.15), (0.2, -1.15), (0.2, -deep), (0.55, -deep), (0.55, -1.0)),
            *((0.95, -1.0), (0.95, 0.3), (0.25, 0.45), (0.25, foot)),
        ]
    )


def _leaf(dice: Dice) -> Outline:
    turns = np.arange(40) / 40
    cosine = cos_turns(turns)
    notch = dice.between(0.25, 0.4)
    lobes = 0.12 * cos_turns(5 * turns)
    return _polar(turns, 0.9 + notch * cosine * cosine * cosine + lobes)


def _blob(dice: Dice) -> Outline:
    turns = np.arange(48) / 48
    radius = np.full(48, 1.0)
    for waves, most in ((2, 0.28), (3, 0.22), (4, 0.12), (5, 0.08)):
        radius = radius + dice.between(0.4, 1.0) * most * cos_turns(waves * turns + dice.unit())
    return _polar(turns, radius)


def _polygon(dice: Dice) -> Outline:
    """Three to five corners, which no family of objects has."""
    sides = dice.whole(3, 5)
    turns = np.array([(k + dice.between(-0.2, 0.2)) / sides for k in range(sides)])
    return _stretched(_polar(turns, 1.0), dice, 1.7)


def _ellipse(dice: Dice) -> Outline:
    return _stretched(_polar(np.arange(32) / 32, 1.0), dice, 2.2)


_FAMILIES: dict[str, Callable[[Dice], Outline]] = {
    "hexagon": _regular(6),
    "octagon": _regular(8),
    "star5": _star(5),
    "star6": _star(6),
    "crescent": _crescent,
    "horseshoe": _horseshoe,
    "heart": _heart,
    "drop": _drop,
    "arrow": _arrow,
    "bolt": _bolt,
    "gear": _gear,
    "fish": _fish,
    "dumbbell": _dumbbell,
    "trident": _trident,
    "leaf": _leaf,
    "blob": _blob,
    # Clutter: never annotated.
    "polygon": _polygon,
    "ellipse": _ellipse,
}
