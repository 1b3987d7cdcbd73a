"""A scene: bodies and a camera, and which pixels of each frame belong to which body.

T frames, H x W pixels. A canvas is (T, W, H): pixels are numbered down the columns, frame after
frame, because that is the order of run-length masks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from vis_core.data.synth.config import SynthConfig
from vis_core.data.synth.motion import Camera, Pose, project
from vis_core.data.synth.raster import Patches, rasterize

IntArray = npt.NDArray[np.int64]

NOTHING = -1  # canvas value of the background
# An object that shows fewer square units than this counts as unseen: no eye would find it.
SLIVER = 16.0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """Which colours and marks a body wears; equal keys give equal looks."""

    colors: str
    marking: int  # objects of one group differ in this only


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Body:
    """Something with a shape: an object, a cover that hides objects, or a drifting flake."""

    kind: Literal["object", "cover", "flake"]
    outline: npt.NDArray[np.float64]  # (K, 2)
    pose: Pose
    start: int  # frames [start, stop) in which it exists
    stop: int
    depth: float  # the higher is painted over the lower
    look: Look
    # Objects only:
    number: int = -1
    label: int = 0  # category id, from 1
    family: str = ""
    group: int = -1

    def __repr__(self) -> str:
        return f"Body({self.kind} {self.number}, {self.family}, [{self.start}, {self.stop}))"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """All that is needed to draw a clip and to know its truth."""

    config: SynthConfig
    seed: int
    camera: Camera
    bodies: Sequence[Body]  # from the lowest to the highest

    @property
    def key(self) -> str:
        return self.config.key(self.seed)

    @property
    def objects(self) -> list[Body]:
        """The annotated ones, by number."""
        return sorted((b for b in self.bodies if b.kind == "object"), key=lambda b: b.number)

    def __repr__(self) -> str:
        return f"Scene({self.config.preset}, seed {self.seed}, {len(self.bodies)} bodies)"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """The pixels of a body if nothing hid them, in ascending order of canvas position."""

    pixels: IntArray  # (P,) positions in the flat canvas
    frames: IntArray  # (P,) the frame of each
    areas: IntArray  # (T,) number of pixels in each frame

    def __repr__(self) -> str:
        return f"Footprint({len(self.pixels)} pixels)"


def patches_of(body: Body, camera: Camera, *, rows: int) -> Patches:
    """What a body covers in the frames of its life."""
    life = slice(body.start, body.stop)
    outlines = project(body.outline, body.pose, camera, life)
    return rasterize(outlines, (camera.height, camera.width), rows=rows)


def footprint(patches: Patches, start: int, num_frames: int, size: tuple[int, int]) -> Footprint:
    """The pixels at least half covered, for patches whose first frame is `start`."""
    columns = np.ascontiguousarray(patches.mask.transpose(0, 2, 1))
    covered, width, height = columns.shape
    counts = np.count_nonzero(columns.reshape(covered, -1), axis=1)
    corner = ((np.arange(covered) + start) * size[1] + patches.x0) * size[0] + patches.y0
    # A patch pixel's place is its column times h plus its row; in the canvas a column has H rows.
    place = np.flatnonzero(columns)
    column = place // height
    shift = corner - np.arange(covered) * (width * size[0])
    areas = np.zeros(num_frames, np.int64)
    areas[start : start + covered] = counts
    return Footprint(
        pixels=place + column * (size[0] - height) + np.repeat(shift, counts),
        frames=np.repeat(np.arange(start, start + covered), counts),
        areas=areas,
    )


def paint(footprints: Sequence[Footprint], num_frames: int, size: tuple[int, int]) -> npt.NDArray:
    """(T, W, H) int16 index of the footprint that is seen at each pixel; later ones lie on top."""
    canvas = np.full(num_frames * size[0] * size[1], NOTHING, np.int16)
    for index, print_ in enumerate(footprints):
        canvas[print_.pixels] = index
    return canvas.reshape(num_frames, size[1], size[0])


def seen_areas(canvas: npt.NDArray, index: int, print_: Footprint) -> IntArray:
    """(T,) pixels of a footprint that nothing hides."""
    seen = canvas.reshape(-1)[print_.pixels] == index
    return np.bincount(print_.frames[seen], minlength=len(canvas))


def overlaps(a: Footprint, b: Footprint, scratch: npt.NDArray[np.bool_]) -> IntArray:
    """(T,) pixels in both; `scratch` is a flat canvas of False, and is left so."""
    scratch[a.pixels] = True
    hit = scratch[b.pixels]
    scratch[a.pixels] = False
    return np.bincount(b.frames[hit], minlength=len(a.areas))


def crossings(a: Footprint, b: Footprint, scratch: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches of overlap in which a quarter of the smaller one is covered at some time."""
    common = overlaps(a, b, scratch)
    deep = common * 4 >= np.minimum(a.areas, b.areas)
    return [(start, stop) for start, stop in runs(common > 0) if deep[start:stop].any()]


def runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches [start, stop) of True."""
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))
