"""What the camera did between two frames: the affine motion most of the picture agrees on."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.flow.field import Float32

Affine = npt.NDArray[np.float64]  # (3, 3), last row 0 0 1: pixels of one frame to those of another

_CELL_PX = 16  # at most one point per cell, where texture is strongest: even, and worth trusting
_MIN_TEXTURE = 1e-3  # of the strongest; below, flow is guessed from the surroundings
_MIN_POINTS = 12
_NUM_ROUNDS = 8
_NOISE_PX = 0.1  # disagreement that is not taken as motion
_MAX_SCALE = 2.0  # change of area from one frame to the next that is no failure of the fit


def fit_camera(gray: npt.NDArray[np.uint8], flow: Float32) -> Affine:
    """Least squares in which points count the less the more they disagree (Geman-McClure).

    `flow` is (h, w, 2). A picture without texture has not moved, nor one that no camera explains.
    """
    x, y = _textured_points(gray)
    if len(x) < _MIN_POINTS:
        return np.eye(3)
    moved = flow[y, x].astype(np.float64)
    scale = max(gray.shape)
    basis = np.stack([x / scale, y / scale, np.ones(len(x))])
    error = np.linalg.norm(moved - np.median(moved, axis=0), axis=1)
    solution = np.zeros((3, 2))
    for _ in range(_NUM_ROUNDS):
        spread = max(1.4826 * float(np.median(error)), _NOISE_PX)
        weight = 1 / (1 + (error / spread) ** 2) ** 2
        # Sums by einsum and not by a matrix product, whose order may depend on threads.
        normal = np.einsum("in,n,jn->ij", basis, weight, basis)
        target = np.einsum("in,n,nk->ik", basis, weight, moved)
        solution = np.linalg.solve(normal + 1e-9 * np.eye(3), target)
        error = np.linalg.norm(moved - np.einsum("in,ik->nk", basis, solution), axis=1)
    camera = np.eye(3)
    camera[:2, :2] += solution[:2].T / scale
    camera[:2, 2] = solution[2]
    sound = 1 / _MAX_SCALE < np.linalg.det(camera) < _MAX_SCALE
    return camera if sound else np.eye(3)


def camera_flow(camera: Affine, shape: tuple[int, int], step: float) -> Float32:
    """(h, w, 2) the displacement the camera gives to cells of `step` x `step` pixels."""
    rows, columns = ((np.arange(num) + 0.5) * step - 0.5 for num in shape)
    move = camera[:2] - np.eye(3)[:2]
    flow = move[:, 0] * columns[None, :, None] + move[:, 1] * rows[:, None, None] + move[:, 2]
    return np.asarray(flow, np.float32)


def _textured_points(gray: npt.NDArray[np.uint8]) -> tuple[npt.NDArray, npt.NDArray]:
    """x and y of the best corner of each cell, found at half size."""
    half = cv2.resize(gray, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    side = _CELL_PX // 2
    rows, columns = half.shape[0] // side, half.shape[1] // side
    if not rows or not columns:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    texture = cv2.cornerMinEigenVal(half, 3)[: rows * side, : columns * side]
    cells = texture.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(rows, columns, -1)
    best, strength = cells.argmax(axis=2), cells.max(axis=2)
    row, column = np.nonzero(strength > max(_MIN_TEXTURE * float(strength.max()), 1e-7))
    y = row * side + best[row, column] // side
    x = column * side + best[row, column] % side
    return np.minimum(2 * x, gray.shape[1] - 1), np.minimum(2 * y, gray.shape[0] - 1)
