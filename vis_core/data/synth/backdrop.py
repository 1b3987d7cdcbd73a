"""What lies behind the objects: three layers at different distances, so that a pan shows depth.

far: fills the picture. middle: hills and patches, partly transparent. ground: clutter at the
distance of the objects, none of it annotated. Textures cover all that the camera will see.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.data.synth.exact import Dice
from vis_core.data.synth.motion import Camera
from vis_core.data.synth.raster import rasterize
from vis_core.data.synth.scene import Scene
from vis_core.data.synth.shapes import outline_of
from vis_core.data.synth.textures import blend, color, generator, smooth_noise

_FAR, _MIDDLE = 0.35, 0.7  # share of the camera's motion that a layer follows; the ground all of it
_SPARE = 8  # pixels of texture beyond what is seen


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One texture in the scene, premultiplied by how opaque it is."""

    depth: float  # 1: moves like the objects; less: farther away
    pixels: npt.NDArray[np.uint8]  # (h, w, 3)
    opacity: npt.NDArray[np.uint8] | None  # (h, w); None: opaque everywhere
    x0: float  # where its upper left corner lies, in scene units
    y0: float

    def place(self, camera: Camera, frame: int) -> npt.NDArray[np.float64]:
        """(2, 3) from texture pixels to the picture."""
        scale, across, down = camera.affine(frame, self.depth)
        step = scale / camera.px_per_unit
        # Pixel centres of texture and picture lie at half numbers; OpenCV counts them from 0.
        shift = 0.5 * step - 0.5
        return np.array(
            [[step, 0, self.x0 * scale + across + shift], [0, step, self.y0 * scale + down + shift]]
        )

    def __repr__(self) -> str:
        return f"Layer({self.depth}, {self.pixels.shape})"


def layers_of(scene: Scene) -> list[Layer]:
    """From the farthest to the ground."""
    rng = generator("backdrop", scene.key)
    hue = rng.uniform()
    return [
        _far_layer(rng, scene.camera, hue),
        _middle_layer(rng, scene.camera, hue),
        _ground_layer(scene, rng, hue),
    ]


def draw_layers(layers: Sequence[Layer], camera: Camera, frame: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) the background of one frame."""
    picture = _warped(layers[0].pixels, layers[0], camera, frame)
    for layer in layers[1:]:
        assert layer.opacity is not None
        clear = 255 - _warped(layer.opacity, layer, camera, frame)
        below = cv2.multiply(picture, cv2.merge([clear] * 3), scale=1 / 255)
        picture = _as_bytes(cv2.add(below, _warped(layer.pixels, layer, camera, frame)))
    return picture


def _warped(
    texture: npt.NDArray[np.uint8], layer: Layer, camera: Camera, frame: int
) -> npt.NDArray[np.uint8]:
    """A texture of a layer as the camera sees it."""
    size = (camera.width, camera.height)
    place = layer.place(camera, frame)
    return _as_bytes(cv2.warpAffine(texture, place, size, flags=cv2.INTER_LINEAR))


def _as_bytes(picture: npt.NDArray) -> npt.NDArray[np.uint8]:
    """OpenCV promises less than it gives: it keeps the type."""
    return cast("npt.NDArray[np.uint8]", picture)


def layer_depths(layers: Sequence[Layer], camera: Camera, frame: int) -> npt.NDArray[np.float64]:
    """(H, W) the depth of the layer seen at each pixel: the nearest that is mostly opaque there."""
    depths = np.full((camera.height, camera.width), layers[0].depth)
    for layer in layers[1:]:
        assert layer.opacity is not None
        depths[_warped(layer.opacity, layer, camera, frame) >= 128] = layer.depth
    return depths


def _extent(camera: Camera, depth: float) -> tuple[float, float, int, int]:
    """Corner in scene units, height and width in pixels, of what is seen of a layer."""
    spare = _SPARE / camera.px_per_unit
    corners = []
    for px, py in ((0, 0), (camera.width, camera.height)):
        frames = np.arange(len(camera.x))
        x, y = camera.to_scene(np.full(1, px), np.full(1, py), frames, depth)
        corners.append((x, y))
    (left, top), (right, bottom) = corners
    x0, y0 = float(left.min()) - spare, float(top.min()) - spare
    width = (float(right.max()) + spare - x0) * camera.px_per_unit
    height = (float(bottom.max()) + spare - y0) * camera.px_per_unit
    return x0, y0, int(height) + 1, int(width) + 1


def _far_layer(rng: np.random.Generator, camera: Camera, hue: float) -> Layer:
    x0, y0, height, width = _extent(camera, _FAR)
    value = rng.uniform(0.32, 0.62)
    pixels = _surface(rng, height, width, hue, value)
    slope = np.linspace(rng.uniform(-0.15, 0.15), rng.uniform(-0.15, 0.15), height)
    pixels = pixels * (1 + slope[:, None, None].astype(np.float32))
    return Layer(depth=_FAR, pixels=_bytes(pixels), opacity=None, x0=x0, y0=y0)


def _middle_layer(rng: np.random.Generator, camera: Camera, hue: float) -> Layer:
    """Patches of another surface, where a slow noise is high."""
    x0, y0, height, width = _extent(camera, _MIDDLE)
    shape = smooth_noise(rng, height, width, rng.uniform(2.2, 4.0))
    shape = shape + 0.35 * smooth_noise(rng, height, width, rng.uniform(7, 12))
    share = np.clip((shape - np.quantile(shape, rng.uniform(0.5, 0.7))) * 12, 0, 1)
    pixels = _surface(rng, height, width, hue + rng.uniform(0.08, 0.5), rng.uniform(0.3, 0.7))
    edge = np.clip(1 - np.abs(share - 0.5) * 2, 0, 1) * 0.25
    return _premultiplied(_MIDDLE, pixels * (1 - edge)[:, :, None], share, x0, y0)


def _ground_layer(scene: Scene, rng: np.random.Generator, hue: float) -> Layer:
    """Flat polygons and ellipses: shapes of no category, without rim and marks."""
    camera = scene.camera
    x0, y0, height, width = _extent(camera, 1.0)
    pixels = np.zeros((height, width, 3), np.float32)
    share = np.zeros((height, width), np.float32)
    dice = Dice("clutter", scene.key)
    for _ in range(dice.whole(9, 22)):
        size = dice.between(8, 26) if dice.chance(0.7) else dice.between(26, 62)
        size *= camera.px_per_unit
        outline = outline_of(dice.choice(("polygon", "ellipse")), dice) * size
        middle = np.array([dice.between(0, width), dice.between(0, height)])
        patch = rasterize((outline + middle)[None], (height, width), rows=4)
        rows = slice(int(patch.y0[0]), int(patch.y0[0]) + patch.cover.shape[1])
        columns = slice(int(patch.x0[0]), int(patch.x0[0]) + patch.cover.shape[2])
        alpha = (patch.cover[0] / patch.full).astype(np.float32) * np.float32(dice.between(0.7, 1))
        paint = color(hue + rng.uniform(-0.3, 0.3), rng.uniform(0.1, 0.45), rng.uniform(0.25, 0.8))
        grain = 1 + 0.15 * smooth_noise(rng, alpha.shape[0], alpha.shape[1], 4)
        pixels[rows, columns] = blend(pixels[rows, columns], paint * grain[:, :, None], alpha)
        share[rows, columns] += (1 - share[rows, columns]) * alpha
    return Layer(
        depth=1.0,
        pixels=_bytes(pixels),
        opacity=_bytes(share),
        x0=x0,
        y0=y0,
    )


def _surface(
    rng: np.random.Generator, height: int, width: int, hue: float, value: float
) -> npt.NDArray[np.float32]:
    """(height, width, 3) grass, sand, tiles or water, more or less."""
    octaves = ((3, 0.5), (8, 0.3), (21, 0.2), (55, 0.16))
    noise = np.zeros((height, width), np.float32)
    for cells, weight in octaves:
        noise += weight * smooth_noise(rng, height, width, cells * rng.uniform(0.8, 1.25))
    kind = rng.integers(4)
    if kind == 1:  # ripples
        y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        x = np.linspace(0, width / height, width, dtype=np.float32)[None]
        turn = rng.uniform(0, np.pi)
        ramp = x * np.cos(turn) + y * np.sin(turn)
        noise = 0.55 * noise + 0.4 * np.sin(ramp * rng.uniform(40, 90) + 5 * noise)
    elif kind == 2:  # tiles
        pitch = int(height / rng.uniform(7, 14))
        rows, columns = np.arange(height) // pitch, np.arange(width) // pitch
        shades = rng.uniform(-0.5, 0.5, (int(rows[-1]) + 1, int(columns[-1]) + 1))
        noise = 0.5 * noise + shades[rows][:, columns].astype(np.float32)
        noise[np.arange(height) % pitch < 2] -= 0.35
        noise[:, np.arange(width) % pitch < 2] -= 0.35
    elif kind == 3:  # blades
        fine = rng.standard_normal((height, width), np.float32)
        noise = 0.6 * noise + 0.9 * cv2.blur(fine, (1, 9) if rng.uniform() < 0.5 else (9, 1))
    low = color(hue, rng.uniform(0.15, 0.45), value * 0.72)
    high = color(hue + rng.uniform(-0.08, 0.08), rng.uniform(0.1, 0.35), min(value * 1.3, 0.9))
    return blend(low, high, np.clip(0.5 + 0.6 * noise, 0, 1)).astype(np.float32)


def _premultiplied(
    depth: float, pixels: npt.NDArray, share: npt.NDArray, x0: float, y0: float
) -> Layer:
    return Layer(
        depth=depth,
        pixels=_bytes(pixels * share[:, :, None]),
        opacity=_bytes(share),
        x0=x0,
        y0=y0,
    )


def _bytes(values: npt.NDArray) -> npt.NDArray[np.uint8]:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
