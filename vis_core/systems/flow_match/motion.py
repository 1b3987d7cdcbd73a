"""The motion detector: objects that move on their own, found without a trained model.

A pixel belongs to a moving object if it looks unlike the temporal median of the rows around it,
laid on one another by the camera's motion, and the flow there is not the camera's. What is found
in a row depends on the rows within `reach` of it alone, and on nothing across a cut.

h x w the picture: a frame made small. hc x wc cells of 4 x 4 of its pixels, in which motion is
compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.flow.camera import Affine, camera_flow, fit_camera
from vis_core.flow.dis import DisFlow
from vis_core.flow.field import Float32, stored_flow
from vis_core.masks import rle
from vis_core.systems.flow_match.config import FlowMatchPredictConfig
from vis_core.systems.flow_match.evidence import BoolArray, Evidence, Image, Window, aligned, gather
from vis_core.systems.flow_match.regions import Ground, split_objects
from vis_core.types import FlowField
from vis_core.video import shots

CELL_PX = 4

_STIR_FRAC = 3 / 24  # of the reach: motion within so many rows counts, for a thrown ball stands
# A cut is where the flow leaves more than this unexplained: so many grey levels on average, and
# such a part of the picture's contrast. Within shots that is under 0.1, or 0.3 with 12 frames left
# out; between unrelated pictures it is 1 and more.
_UNEXPLAINED, _UNEXPLAINED_FRAC = 4.0, 0.6
_MARGIN_PX = 16  # looked at around what moves
_CLOSE_PX = 7  # gaps in the foreground up to this width are bridged
_HOLE_FRAC = 0.004  # of the picture: holes in the foreground up to this size are filled
_SMOOTH_PX = 9
_OPEN_PX = 7  # thinner parts of an object are cut off
_MIN_EVIDENCE = 0.3  # share of an object's pixels that changed
_CLEAR = 4.0  # contrast that counts fully in the score
_FAST_PX = 1.0  # speed that counts half in the score


@dataclasses.dataclass(frozen=True, kw_only=True)
class MotionSettings:
    """See the fields of the same names in the system's config."""

    short_side_px: int
    reach: int
    min_change: int
    min_motion_px: float
    min_area: float
    full_flow: bool

    @classmethod
    def of(cls, config: FlowMatchPredictConfig) -> MotionSettings:
        return cls(
            short_side_px=config.short_side_px,
            reach=config.reach,
            min_change=config.min_change,
            min_motion_px=config.min_motion_px,
            min_area=config.min_area,
            full_flow=config.flow_store == "full",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sight:
    """A row as the detector sees it."""

    size: rle.Size  # of the frame itself
    color: Image  # (h, w, 3), slightly blurred against noise
    gray: Image  # (h, w)
    histogram: shots.Histogram


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """From one row to the next."""

    camera: Affine  # pixels of the first picture to those of the second
    residual: Float32  # (hc, wc, 2) what is left of the flow, in pixels of the picture
    flow: FlowField | None  # to be stored; None across a cut

    @property
    def is_cut(self) -> bool:
        return self.flow is None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """An object in the picture."""

    mask: BoolArray  # (h, w)
    score: float


def look(frame: npt.NDArray[np.uint8], settings: MotionSettings) -> Sight:
    """A frame made small, its sides whole cells."""
    height, width = frame.shape[:2]
    scale = min(1.0, settings.short_side_px / min(height, width))
    rows, columns = (max(1, round(side * scale / CELL_PX)) * CELL_PX for side in (height, width))
    small: Image = frame
    if (rows, columns) != (height, width):
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(frame, (columns, rows), interpolation=method)
    return Sight(
        size=(height, width),
        color=cv2.GaussianBlur(small, (3, 3), 0),
        gray=cv2.cvtColor(small, cv2.COLOR_RGB2GRAY),
        histogram=shots.color_histogram(small),
    )


def step_between(first: Sight, second: Sight, flow: DisFlow, settings: MotionSettings) -> Step:
    """Flow and camera from one row to the next."""
    height, width = first.gray.shape
    dense = flow(first.gray, second.gray)
    shape = (height // CELL_PX, width // CELL_PX)
    cells = np.asarray(cv2.resize(dense, shape[::-1], interpolation=cv2.INTER_AREA), np.float32)
    if _is_cut(first, second, cells):
        return Step(camera=np.eye(3), residual=np.zeros_like(cells), flow=None)
    camera = fit_camera(first.gray, dense)
    zoom = np.array([first.size[1] / width, first.size[0] / height], np.float32)
    return Step(
        camera=camera,
        residual=cells - camera_flow(camera, shape, CELL_PX),
        flow=stored_flow(dense * zoom, first.size, full=settings.full_flow),
    )


def _is_cut(first: Sight, second: Sight, cells: Float32) -> bool:
    """Other colours, or pictures that no flow leads from one to the other."""
    if shots.distance(first.histogram, second.histogram) > shots.THRESHOLD:
        return True
    shape = cells.shape[1::-1]
    here, there = (cv2.resize(s.gray, shape, interpolation=cv2.INTER_AREA) for s in (first, second))
    rows, columns = np.indices(cells.shape[:2], np.float32)
    x, y = columns + cells[:, :, 0] / CELL_PX, rows + cells[:, :, 1] / CELL_PX
    led = cv2.remap(there, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    error = float(cv2.absdiff(here, led).mean())
    return error > max(_UNEXPLAINED, _UNEXPLAINED_FRAC * float(here.std()))


def detect(
    sights: Sequence[Sight], steps: Sequence[Step], here: int, settings: MotionSettings
) -> list[Found]:
    """Moving objects of row `here`, best first; `steps[i]` leads from row i to row i + 1."""
    views = _views(steps, here, settings.reach)
    speed = _speed(steps, here, views, settings)
    moving = None if speed is None else _moving_part(speed, settings)
    if speed is None or moving is None:
        return []
    evidence = gather(
        {offset: sights[here + offset].color for offset in views},
        views,
        _enlarged(speed)[moving],
        moving,
        reach=settings.reach,
        min_change=settings.min_change,
        min_motion_px=settings.min_motion_px,
    )
    if evidence is None:
        return []
    shape = sights[here].gray.shape
    num_pixels = shape[0] * shape[1]
    likely, part = _around(
        _closed(evidence.changed, num_pixels), settings.min_area * num_pixels / 2, _MARGIN_PX
    )
    if part is None:
        return []
    evidence = evidence.within(part)
    window = (_moved(part[0], moving[0].start), _moved(part[1], moving[1].start))
    step = steps[here if 1 in views else here - 1]
    ground = Ground(
        sure=_closed(evidence.fresh, num_pixels),
        likely=likely[part],
        flow=_enlarged(step.residual)[window],
        num_pixels=num_pixels,
    )
    labels = split_objects(evidence, ground)
    return _found(labels, evidence, shape, window, settings)


# --- rows laid on one another ---------------------------------------------------------------------


def _views(steps: Sequence[Step], here: int, reach: int) -> dict[int, Affine]:
    """By offset: from pixels of this row to those of a row of the same shot, 0 included."""
    views = {0: np.eye(3)}
    for offset in range(1, reach + 1):
        index = here + offset - 1
        if index >= len(steps) or steps[index].is_cut:
            break
        views[offset] = steps[index].camera @ views[offset - 1]
    for offset in range(-1, -reach - 1, -1):
        index = here + offset
        if index < 0 or steps[index].is_cut:
            break
        views[offset] = np.linalg.inv(steps[index].camera) @ views[offset + 1]
    return views


def _speed(
    steps: Sequence[Step], here: int, views: Mapping[int, Affine], settings: MotionSettings
) -> Float32 | None:
    """(hc, wc) the fastest motion of its own that was at each place within a few rows."""
    near = max(1, round(_STIR_FRAC * settings.reach))
    fastest: Float32 | None = None
    to_cells = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, CELL_PX]]) / CELL_PX
    to_cells[:2, 2] = 0.5 / CELL_PX - 0.5  # cell i has its middle at pixel 4 i + 1.5
    for offset in range(-near, near):
        if offset not in views or offset + 1 not in views:
            continue
        residual = steps[here + offset].residual
        speed = np.hypot(residual[:, :, 0], residual[:, :, 1])
        if offset:
            view = to_cells @ views[offset] @ np.linalg.inv(to_cells)
            whole = (slice(0, None), slice(0, None))
            speed = np.asarray(aligned(speed, view, whole, np.zeros_like(speed)), np.float32)
        fastest = speed if fastest is None else np.maximum(fastest, speed)
    return fastest


def _enlarged(cells: Float32) -> Float32:
    shape = (cells.shape[1] * CELL_PX, cells.shape[0] * CELL_PX)
    return np.asarray(cv2.resize(cells, shape, interpolation=cv2.INTER_LINEAR), np.float32)


# --- from motion to objects -----------------------------------------------------------------------


def _moving_part(speed: Float32, settings: MotionSettings) -> Window | None:
    """The part of the picture around everything that moves fast enough."""
    moving = (speed >= settings.min_motion_px).astype(np.uint8)
    margin = _MARGIN_PX // CELL_PX
    window = _around(moving, settings.min_area * speed.size / 2, margin)[1]
    if window is None:
        return None
    rows, columns = (slice(part.start * CELL_PX, part.stop * CELL_PX) for part in window)
    return rows, columns


def _closed(changed: BoolArray, num_pixels: int) -> Image:
    """The same with gaps bridged and small holes filled."""
    closed = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, _disc(_CLOSE_PX))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - closed, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < _HOLE_FRAC * num_pixels
    return np.asarray((closed > 0) | small[labels], np.uint8)


def _around(image: Image, min_pixels: float, margin: int) -> tuple[Image, Window | None]:
    """The connected parts that are large enough, and a window around them."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(image, connectivity=8)
    large = stats[:, cv2.CC_STAT_AREA] >= min_pixels
    large[0] = False  # the background
    if not large.any():
        return np.zeros_like(image), None
    left, top, width, height = stats[large, : cv2.CC_STAT_AREA].T
    bottom, right = (top + height).max(), (left + width).max()
    rows = slice(max(0, int(top.min()) - margin), min(image.shape[0], int(bottom) + margin))
    columns = slice(max(0, int(left.min()) - margin), min(image.shape[1], int(right) + margin))
    return large[labels].astype(np.uint8), (rows, columns)


def _moved(part: slice, start: int) -> slice:
    return slice(part.start + start, part.stop + start)


def _disc(diameter: int) -> Image:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))


def _found(
    labels: npt.NDArray[np.int32],
    evidence: Evidence,
    shape: tuple[int, ...],
    window: Window,
    settings: MotionSettings,
) -> list[Found]:
    """Each object in one smooth piece, with its score; those too small or too weak are left out."""
    found = []
    min_pixels = settings.min_area * shape[0] * shape[1]
    sizes = np.bincount(labels[labels >= 0])
    for number in np.flatnonzero(sizes >= min_pixels):
        part = _smooth(labels == number)
        if part.sum() < min_pixels or evidence.changed[part].mean() < _MIN_EVIDENCE:
            continue
        mask = np.zeros(shape, bool)
        mask[window] = part
        found.append(Found(mask=mask, score=_score(part, evidence)))
    return sorted(found, key=lambda item: -item.score)


def _smooth(part: BoolArray) -> BoolArray:
    """The largest piece, its outline smoothed, thin parts cut off, holes filled."""
    pad = _SMOOTH_PX
    image = np.pad(part.astype(np.uint8), pad)
    share = cv2.boxFilter(image, cv2.CV_32F, (_SMOOTH_PX, _SMOOTH_PX))
    _, labels = cv2.connectedComponents((share <= 0.5).astype(np.uint8), connectivity=4)
    filled = (labels != labels[0, 0]).astype(np.uint8)
    opened = cv2.morphologyEx(filled, cv2.MORPH_OPEN, _disc(_OPEN_PX))
    num, labels, stats, _ = cv2.connectedComponentsWithStats(opened)
    if num < 2:
        return np.zeros(part.shape, bool)
    largest = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    return np.asarray(largest[pad:-pad, pad:-pad])


def _score(part: BoolArray, evidence: Evidence) -> float:
    """From 0 to 1: how much of it changed, how clearly, and how fast it moves."""
    share = float(evidence.changed[part].mean())
    contrast = float(np.minimum(evidence.contrast[part] / _CLEAR, 1).mean())
    speed = float(evidence.speed[part].mean())
    return float((share * contrast * speed / (speed + _FAST_PX)) ** (1 / 3))
