"""A textured disc that flies over a textured background, which the camera pans across."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np


class Scene(NamedTuple):
    frames: np.ndarray  # (T, H, W, 3)
    discs: np.ndarray  # (T, H, W) where the disc is


def moving_disc(
    num_frames: int = 40,
    *,
    size: tuple[int, int] = (180, 320),
    radius: int = 22,
    start: tuple[float, float] = (60, 60),  # x, y
    speed: tuple[float, float] = (3, 1),  # of the disc in the frame, pixels per frame
    pan: tuple[float, float] = (2, 0.5),  # of the camera
    seed: int = 0,
) -> Scene:
    """With speed (0, 0) and pan (0, 0) every frame is the same."""
    rng = np.random.default_rng(seed)
    reach = np.abs(np.ceil(np.multiply(pan, num_frames))).astype(int)
    ground = _texture(rng, (size[0] + reach[1], size[1] + reach[0]), (128, 128, 128), 170)
    side = 2 * radius + 1
    disc = _texture(rng, (side, side), (200, 110, 70), 90)
    rows, columns = np.indices((side, side)) - radius
    round_ = rows**2 + columns**2 <= radius**2
    frames = np.empty((num_frames, *size, 3), np.uint8)
    discs = np.zeros((num_frames, *size), bool)
    for t in range(num_frames):
        left, top = (round(abs(step) * t) for step in pan)
        frames[t] = ground[top : top + size[0], left : left + size[1]]
        x, y = (round(at + step * t) for at, step in zip(start, speed, strict=True))
        y_in, x_in = rows[round_] + y, columns[round_] + x
        seen = (y_in >= 0) & (y_in < size[0]) & (x_in >= 0) & (x_in < size[1])
        frames[t, y_in[seen], x_in[seen]] = disc[round_][seen]
        discs[t, y_in[seen], x_in[seen]] = True
    return Scene(frames, discs)


def _texture(
    rng: np.random.Generator, shape: tuple[int, int], color: tuple[int, int, int], spread: float
) -> np.ndarray:
    """Smooth noise around a colour."""
    noise = cv2.GaussianBlur(rng.normal(size=(*shape, 3)).astype(np.float32), (0, 0), 4.0)
    noise = (noise - noise.min()) / np.ptp(noise) - 0.5
    return np.clip(np.array(color) + spread * noise, 0, 255).astype(np.uint8)
