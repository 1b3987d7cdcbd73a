"""The true optical flow: where every visible point goes, by the very maps that drew it.

A file holds one clip (NumPy's npz):
  flow          float16 (T - 1, 2, H, W): channel 0 is dx, 1 is dy, in pixels, from frame t to t + 1
  visible_next  uint8 (T - 1, H, ceil(W / 8)): bits (np.packbits along the width), 1 where the point
                is still to be seen in frame t + 1, that is neither hidden by then nor out of view
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vis_core.data.synth.backdrop import Layer, layer_depths, layers_of
from vis_core.data.synth.truth import Drawing

# Names of the surfaces of the backdrop, below the bodies' -1 of the canvas.
_LAYER_BASE = -1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlowTruth:
    """Forward flow of one clip; T - 1 fields of H x W pixels."""

    flow: npt.NDArray[np.float16]  # (T - 1, 2, H, W)
    visible_next: npt.NDArray[np.bool_]  # (T - 1, H, W)

    def __repr__(self) -> str:
        return f"FlowTruth{self.flow.shape}"


def flow_of(drawing: Drawing) -> FlowTruth:
    """The flow of everything that is seen, backdrop included."""
    config = drawing.scene.config
    layers = layers_of(drawing.scene)
    num_frames = config.num_frames
    flow = np.empty((num_frames - 1, 2, *config.size), np.float16)
    visible = np.empty((num_frames - 1, *config.size), bool)
    surfaces, depths = _surfaces(drawing, layers, 0)
    for frame in range(num_frames - 1):
        x, y = _moved(drawing, surfaces, depths, frame)
        rows, columns = np.indices(config.size)
        flow[frame, 0], flow[frame, 1] = x - (columns + 0.5), y - (rows + 0.5)
        following, next_depths = _surfaces(drawing, layers, frame + 1)
        visible[frame] = _still_seen(surfaces, following, x, y)
        surfaces, depths = following, next_depths
    return FlowTruth(flow=flow, visible_next=visible)


def write_flow(path: Path, truth: FlowTruth) -> None:
    """Writes the file that the top of this module describes; equal truth gives equal bytes."""
    with path.open("wb") as file:
        np.savez_compressed(
            file, flow=truth.flow, visible_next=np.packbits(truth.visible_next, axis=2)
        )


def _surfaces(
    drawing: Drawing, layers: list[Layer], frame: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """(H, W) which surface is seen: the index of a body, or below zero a layer; and its depth."""
    surfaces = drawing.canvas[frame].T.astype(np.int64)
    depths = layer_depths(layers, drawing.scene.camera, frame)
    backdrop = surfaces < 0
    for number, layer in enumerate(layers):
        surfaces[backdrop & (depths == layer.depth)] = _LAYER_BASE - number
    return surfaces, np.where(backdrop, depths, 1.0)


def _moved(
    drawing: Drawing,
    surfaces: npt.NDArray[np.int64],
    depths: npt.NDArray[np.float64],
    frame: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(H, W), (H, W) where the points seen at pixel centres are in the next frame."""
    camera = drawing.scene.camera
    height, width = surfaces.shape
    new_x, new_y = np.empty((height, width)), np.empty((height, width))
    for depth in np.unique(depths).tolist():
        here = depths == depth
        rows, columns = np.nonzero(here)
        x, y = camera.to_scene(columns + 0.5, rows + 0.5, frame, depth)
        new_x[here], new_y[here] = camera.to_picture(x, y, frame + 1, depth)
    for index, body in enumerate(drawing.scene.bodies):
        rows, columns = np.nonzero(surfaces == index)
        if not len(rows):
            continue
        x, y = camera.to_scene(columns + 0.5, rows + 0.5, frame, 1.0)
        u, v = body.pose.to_body(x, y, frame)
        x, y = camera.to_picture(*body.pose.to_scene(u, v, frame + 1), frame + 1, 1.0)
        new_x[rows, columns], new_y[rows, columns] = x, y
    return new_x, new_y


def _still_seen(
    surfaces: npt.NDArray[np.int64],
    following: npt.NDArray[np.int64],
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
) -> npt.NDArray[np.bool_]:
    """Whether the same surface is seen at the pixel where each point goes."""
    height, width = surfaces.shape
    columns, rows = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    within = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    target = following[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    return within & (target == surfaces)
