"""Surfaces of objects, covers and flakes: pictures in the body's own coordinates.

R, the reach of a texture: it spans [-R, R] in body coordinates, both ways. Looks are for the eye
and the networks; the truth does not depend on them, so any maths library may serve here.
"""

from __future__ import annotations

import colorsys
import dataclasses
import hashlib

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.data.synth.raster import rasterize
from vis_core.data.synth.scene import Body
from vis_core.data.synth.shapes import reach

Color = npt.NDArray[np.float32]  # (3,) RGB, 0 to 1
Grid = npt.NDArray[np.float32]  # (n, n)

_MIN_SIDE_PX, _MAX_SIDE_PX = 32, 384
_RIM = 0.055  # width of the dark rim, in body coordinates
_BEVEL = 0.2  # how far shading reaches inwards
_COVER_SIZE = 40.0  # covers have the rim and bevel of an object of this size


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Texture:
    """RGB of a body's surface."""

    pixels: npt.NDArray[np.uint8]  # (n, n, 3)
    reach: float  # R

    def __repr__(self) -> str:
        return f"Texture{self.pixels.shape}"


def generator(*key: object) -> np.random.Generator:
    """Chance for looks; the same for the same key."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16])))


def texture_of(body: Body, side_px: float) -> Texture:
    """The surface of a body whose square-root area in the picture reaches `side_px`."""
    far = reach(body.outline) * 1.05
    pixels = int(np.clip(2 * far * side_px, _MIN_SIDE_PX, _MAX_SIDE_PX))
    painters = {"object": _paint_object, "cover": _paint_cover, "flake": _paint_flake}
    canvas = _Canvas(body, pixels, far)
    picture = painters[body.kind](canvas, body)
    if body.kind != "flake":
        # An object's own coordinates measure its size; a cover's are scene units.
        picture = _shaded(picture, canvas.depth / (1.0 if body.kind == "object" else _COVER_SIZE))
    return Texture(pixels=(picture.clip(0, 1) * 255 + 0.5).astype(np.uint8), reach=far)


class _Canvas:
    """Coordinates of every texture pixel, and how deep inside the outline it lies."""

    def __init__(self, body: Body, pixels: int, far: float) -> None:
        axis = ((np.arange(pixels) + 0.5) / pixels * 2 - 1).astype(np.float32) * far
        self.u, self.v = np.meshgrid(axis, axis)
        corners = (body.outline / far + 1) / 2 * pixels
        patch = rasterize(corners[None], (pixels, pixels), rows=2)
        inside = np.zeros((pixels, pixels), np.uint8)
        height, width = patch.cover.shape[1:]
        y0, x0 = int(patch.y0[0]), int(patch.x0[0])
        inside[y0 : y0 + height, x0 : x0 + width] = patch.mask[0]
        distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)
        self.depth: Grid = distance * np.float32(2 * far / pixels)

    def spot(
        self, rng: np.random.Generator, far_from: list[tuple[float, float]]
    ) -> tuple[float, float]:
        """A point well inside, away from those already taken."""
        rows, columns = np.nonzero(self.depth >= 0.55 * self.depth.max())
        u, v = self.u[rows, columns], self.v[rows, columns]
        room = np.full(len(u), 1.0)
        for other in far_from:
            room = np.minimum(room, np.hypot(u - other[0], v - other[1]))
        best = np.flatnonzero(room >= 0.8 * room.max())
        index = int(best[rng.integers(len(best))])
        return float(u[index]), float(v[index])


# --- colours and patterns -------------------------------------------------------------------------


def color(hue: float, saturation: float, value: float) -> Color:
    return np.array(colorsys.hsv_to_rgb(hue % 1.0, saturation, value), np.float32)


def luma(rgb: Color) -> float:
    return float(rgb @ np.array([0.299, 0.587, 0.114], np.float32))


def blend(below: npt.NDArray, above: npt.NDArray, share: Grid) -> npt.NDArray:
    """(n, n, 3) two pictures or colours, mixed pixel by pixel."""
    return below + (above - below) * share[:, :, None]


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, cells: float
) -> npt.NDArray[np.float32]:
    """(height, width) in about -1 to 1, with `cells` bumps along the height."""
    rows = max(2, round(cells)) + 1
    columns = max(2, round(cells * width / height)) + 1
    grid = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    noise = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
    return noise.astype(np.float32, copy=False)


def _pattern(rng: np.random.Generator, canvas: _Canvas) -> Grid:
    """One of several patterns, -1 to 1."""
    turn = rng.uniform(0, np.pi)
    along = canvas.u * np.cos(turn) + canvas.v * np.sin(turn)
    across = canvas.v * np.cos(turn) - canvas.u * np.sin(turn)
    pitch = rng.uniform(9, 16)
    kind = rng.integers(6)
    if kind == 0:
        return np.tanh(3 * np.sin(along * pitch))
    if kind == 1:
        return np.tanh(4 * np.sin(along * pitch) * np.sin(across * pitch))
    if kind == 2:
        return np.tanh(4 * (np.sin(along * pitch) * np.sin(across * pitch) - 0.45))
    if kind == 3:
        return np.sin(np.hypot(canvas.u, canvas.v) * pitch * 1.2)
    height, width = canvas.u.shape
    bumps = smooth_noise(rng, height, width, rng.uniform(5, 9))
    return np.tanh(3 * bumps) if kind == 4 else bumps


def _shaded(picture: npt.NDArray, depth: Grid) -> npt.NDArray:
    """Darker towards the outline, with a dark rim."""
    bevel = 0.72 + 0.28 * np.clip(depth / _BEVEL, 0, 1)
    rim = np.clip((_RIM - depth) / (0.6 * _RIM), 0, 1)
    return picture * (bevel * (1 - 0.72 * rim))[:, :, None]


# --- bodies ---------------------------------------------------------------------------------------


def _paint_object(canvas: _Canvas, body: Body) -> npt.NDArray:
    """Colours and pattern of the group, marks of its own."""
    rng = generator("object", body.look.colors)
    hue, saturation = rng.uniform(), rng.uniform(0.55, 0.95)
    base = color(hue, saturation, rng.uniform(0.6, 0.98))
    other = color(hue + rng.uniform(-0.1, 0.1), saturation, rng.uniform(0.35, 0.75))
    picture = blend(base, other, 0.35 * (_pattern(rng, canvas) + 1))
    dark = luma(base) > 0.5
    ink = color(hue + rng.uniform(0.35, 0.65), *((0.8, 0.28) if dark else (0.25, 1.0)))
    first = int(rng.integers(len(_MARKS)))
    mark = _MARKS[(first + 2 * body.look.marking) % len(_MARKS)]
    share = mark(canvas, generator("mark", body.look.colors, body.look.marking))
    return blend(picture, ink, np.clip(share, 0, 1))


def _disc(canvas: _Canvas, centre: tuple[float, float], radius: float) -> Grid:
    distance = np.hypot(canvas.u - centre[0], canvas.v - centre[1])
    return np.clip((radius - distance) / 0.04 + 0.5, 0, 1)


def _band(canvas: _Canvas, turn: float, offset: float, half: float) -> Grid:
    place = canvas.u * np.cos(turn) + canvas.v * np.sin(turn) - offset
    return np.clip((half - np.abs(place)) / 0.04 + 0.5, 0, 1)


def _spots(canvas: _Canvas, rng: np.random.Generator, count: int, radius: float) -> Grid:
    share, taken = np.zeros_like(canvas.u), list[tuple[float, float]]()
    for _ in range(count):
        taken.append(canvas.spot(rng, taken))
        share = np.maximum(share, _disc(canvas, taken[-1], radius))
    return share


def _one_spot(canvas: _Canvas, rng: np.random.Generator) -> Grid:
    return _spots(canvas, rng, 1, rng.uniform(0.17, 0.22))


def _three_spots(canvas: _Canvas, rng: np.random.Generator) -> Grid:
    return _spots(canvas, rng, 3, rng.uniform(0.09, 0.12))


def _one_band(canvas: _Canvas, rng: np.random.Generator) -> Grid:
    return _band(canvas, rng.uniform(0, np.pi), rng.uniform(-0.15, 0.15), 0.1)


def _two_bands(canvas: _Canvas, rng: np.random.Generator) -> Grid:
    turn, middle = rng.uniform(0, np.pi), rng.uniform(-0.1, 0.1)
    return np.maximum(
        _band(canvas, turn, middle - 0.17, 0.06), _band(canvas, turn, middle + 0.17, 0.06)
    )


def _ring(canvas: _Canvas, rng: np.random.Generator) -> Grid:
    centre = canvas.spot(rng, [])
    return _disc(canvas, centre, 0.27) - _disc(canvas, centre, 0.15)


def _half(canvas: _Canvas, rng: np.random.Generator) -> Grid:
    turn = rng.uniform(0, 2 * np.pi)
    place = canvas.u * np.cos(turn) + canvas.v * np.sin(turn)
    return np.clip(place / 0.04, 0, 1) * 0.85


_MARKS = (_one_spot, _one_band, _three_spots, _half, _ring, _two_bands)


def _paint_cover(canvas: _Canvas, body: Body) -> npt.NDArray:
    """Stone, wood or leaves."""
    rng = generator("cover", body.look.colors, body.look.marking)
    kind = body.look.marking % 3
    hues = ((0.08, 0.12, 0.55), (0.07, 0.45, 0.5), (0.3, 0.4, 0.42))
    hue, saturation, value = hues[kind]
    base = color(hue + rng.uniform(-0.03, 0.03), saturation, value + rng.uniform(-0.08, 0.12))
    height, width = canvas.u.shape
    grain = np.zeros((height, width), np.float32)
    for cells, weight in ((5, 0.5), (13, 0.35), (31, 0.3)):
        grain += weight * smooth_noise(rng, height, width, cells)
    if kind == 1:
        turn = rng.uniform(0, np.pi)
        along = canvas.u * np.cos(turn) + canvas.v * np.sin(turn)
        grain = 0.5 * grain + 0.6 * np.sin(along * rng.uniform(0.5, 1.0) + 3 * grain)
    return base * (1 + 0.3 * grain)[:, :, None]


def _paint_flake(canvas: _Canvas, body: Body) -> npt.NDArray:
    rng = generator("flake", body.look.colors)
    base = color(rng.uniform(), rng.uniform(0.2, 0.5), rng.uniform(0.4, 0.8))
    return np.broadcast_to(base, (*canvas.u.shape, 3))
