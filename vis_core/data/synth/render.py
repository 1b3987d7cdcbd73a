"""Draws the frames of a scene: backdrop, bodies from the lowest to the highest, blur and noise."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.data.synth.backdrop import draw_layers, layers_of
from vis_core.data.synth.exact import Dice
from vis_core.data.synth.motion import Camera
from vis_core.data.synth.scene import Body, Scene
from vis_core.data.synth.textures import Texture, generator, texture_of
from vis_core.data.synth.truth import Drawing

FloatImage = npt.NDArray[np.float32]

_SHUTTER = 0.4  # share of the time between frames in which the picture is exposed
_MIN_BLUR_PX = 1.5
_LIGHT = (-0.6, -0.8)  # where the light comes from
_RELIEF = 0.3
_SHADOW = 0.32
_GRAIN_SPARE = 48


def render_frames(drawing: Drawing) -> Iterator[npt.NDArray[np.uint8]]:
    """The frames of a clip, RGB (H, W, 3)."""
    scene, camera = drawing.scene, drawing.scene.camera
    rng = generator("film", scene.key)
    layers = layers_of(scene)
    film = _Film(rng, scene.config.size)
    textures = [texture_of(body, _largest_side(drawing, body)) for body in scene.bodies]
    for frame in range(scene.config.num_frames):
        picture = draw_layers(layers, camera, frame).astype(np.float32)
        for index, body in enumerate(scene.bodies):
            if body.start <= frame < body.stop:
                _draw_body(picture, drawing, index, textures[index], frame)
        yield film.expose(picture, frame)


def quality_of(scene: Scene) -> int:
    """The compression of a clip, as x264's constant rate factor."""
    return Dice("quality", scene.key).whole(17, 29)


def _largest_side(drawing: Drawing, body: Body) -> float:
    sides = body.pose.size * drawing.scene.camera.zoom * drawing.scene.camera.px_per_unit
    return float(sides[body.start : body.stop].max())


def _draw_body(
    picture: FloatImage, drawing: Drawing, index: int, texture: Texture, frame: int
) -> None:
    body, camera = drawing.scene.bodies[index], drawing.scene.camera
    patch = drawing.patches[index]
    at = frame - body.start
    cover = patch.cover[at]
    columns = np.flatnonzero(cover.any(axis=0))
    rows = np.flatnonzero(cover.any(axis=1))
    if not len(rows):
        return
    motion = _motion(drawing, body, frame)
    shadow = body.kind == "object"
    drop = max(2.0, 0.06 * float(body.pose.size[frame]) * camera.px_per_unit)
    spare = 1 + int(np.hypot(*motion) / 2 + (2 * drop if shadow else 0))
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    x0, x1 = int(columns[0]), int(columns[-1]) + 1
    left, top = int(patch.x0[at]) + x0 - spare, int(patch.y0[at]) + y0 - spare
    alpha = cover[y0:y1, x0:x1].astype(np.float32) / patch.full
    alpha = _with_margin(alpha, spare, (top, left), picture.shape)
    colors = _surface(body, camera, texture, frame, (top, left), alpha.shape)
    layer = np.dstack([colors * alpha[:, :, None], alpha])
    layer = _motion_blur(layer, motion)
    target, inner = _overlap(picture.shape, (top, left), alpha.shape)
    view = picture[target]
    if shadow:
        dark = cv2.GaussianBlur(alpha, (0, 0), drop / 2)
        shift = np.array([[1, 0, drop * 0.7], [0, 1, drop]], np.float32)
        dark = cv2.warpAffine(dark, shift, (alpha.shape[1], alpha.shape[0]))
        view *= 1 - _SHADOW * dark[inner][:, :, None]
    view *= 1 - layer[inner][:, :, 3:]
    view += layer[inner][:, :, :3]


def _with_margin(
    alpha: FloatImage, spare: int, corner: tuple[int, int], shape: tuple[int, ...]
) -> FloatImage:
    """Room for blur around a patch: empty, but continued where the picture cuts the body off."""
    (height, width), (top, left) = alpha.shape, corner
    padded = np.pad(alpha, spare)
    if top + spare == 0:
        padded[:spare] = padded[spare]
    if top + spare + height == shape[0]:
        padded[-spare:] = padded[-spare - 1]
    if left + spare == 0:
        padded[:, :spare] = padded[:, spare, None]
    if left + spare + width == shape[1]:
        padded[:, -spare:] = padded[:, -spare - 1, None]
    return padded


def _overlap(
    shape: tuple[int, ...], corner: tuple[int, int], size: tuple[int, ...]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a patch lies in the picture, and which part of the patch that is."""
    target, inner = [], []
    for side, start, length in zip(shape, corner, size, strict=False):
        low, high = max(start, 0), min(start + length, side)
        target.append(slice(low, high))
        inner.append(slice(low - start, high - start))
    return (target[0], target[1]), (inner[0], inner[1])


def _motion(drawing: Drawing, body: Body, frame: int) -> tuple[float, float]:
    """How far the middle of a body moves in the picture while the shutter is open."""
    camera = drawing.scene.camera
    frames = np.array([max(frame - 1, body.start), min(frame + 1, body.stop - 1)])
    zero = np.zeros(1)
    x, y = camera.to_picture(*body.pose.to_scene(zero, zero, frames), frames, 1.0)
    span = max(int(frames[1] - frames[0]), 1) / _SHUTTER
    return float(x[1] - x[0]) / span, float(y[1] - y[0]) / span


def _motion_blur(layer: FloatImage, motion: tuple[float, float]) -> FloatImage:
    length = float(np.hypot(*motion))
    if length < _MIN_BLUR_PX:
        return layer
    reach = int(length / 2) + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    steps = np.linspace(-0.5, 0.5, 4 * reach + 1)
    rows = np.rint(reach + steps * motion[1]).astype(int)
    columns = np.rint(reach + steps * motion[0]).astype(int)
    np.add.at(kernel, (rows, columns), 1.0 / len(steps))
    blurred = cv2.filter2D(layer, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    return blurred.astype(np.float32, copy=False)


def _surface(
    body: Body,
    camera: Camera,
    texture: Texture,
    frame: int,
    corner: tuple[int, int],
    shape: tuple[int, ...],
) -> FloatImage:
    """(h, w, 3) colours of a body in a patch of the picture, lit from one side."""
    px = np.arange(corner[1], corner[1] + shape[1])[None] + 0.5
    py = np.arange(corner[0], corner[0] + shape[0])[:, None] + 0.5
    x, y = camera.to_scene(px, py, frame, 1.0)
    u, v = body.pose.to_body(x, y, frame)
    scale = len(texture.pixels) / (2 * texture.reach)
    across = ((u + texture.reach) * scale - 0.5).astype(np.float32)
    down = ((v + texture.reach) * scale - 0.5).astype(np.float32)
    colors = cv2.remap(
        texture.pixels, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    ).astype(np.float32)
    if body.kind == "object":
        aside = (x - body.pose.x[frame]) * _LIGHT[0] + (y - body.pose.y[frame]) * _LIGHT[1]
        colors *= (1 + _RELIEF * aside / body.pose.size[frame]).astype(np.float32)[:, :, None]
    return colors


class _Film:
    """Blur, brightness and grain of one clip."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        self._rng = rng
        self._size = size
        self._blur = rng.uniform(0.4, 0.8) * size[0] / 360 if rng.uniform() < 0.5 else 0.0
        self._sway = rng.uniform(0.0, 0.04)
        self._phase = rng.uniform(0, 2 * np.pi)
        spread = rng.uniform(1.0, 5.0)
        shape = (size[0] + _GRAIN_SPARE, size[1] + _GRAIN_SPARE)
        self._grain = rng.standard_normal(shape, np.float32) * np.float32(spread)

    def expose(self, picture: FloatImage, frame: int) -> npt.NDArray[np.uint8]:
        """The frame as a camera would store it."""
        if self._blur > 0.25:
            picture = cv2.GaussianBlur(picture, (0, 0), self._blur).astype(np.float32, copy=False)
        gain = np.float32(1 + self._sway * np.sin(0.15 * frame + self._phase))
        picture = picture * gain + self._cut()[:, :, None]
        picture[:, :, 0] += 0.5 * self._cut()
        picture[:, :, 2] += 0.5 * self._cut()
        return np.clip(picture + 0.5, 0, 255, out=picture).astype(np.uint8)

    def _cut(self) -> FloatImage:
        """Another part of the grain, mirrored by chance."""
        top, left = self._rng.integers(0, _GRAIN_SPARE, 2)
        grain = self._grain[top : top + self._size[0], left : left + self._size[1]]
        return grain[:: self._rng.choice([-1, 1]), :: self._rng.choice([-1, 1])]
