"""Geometry on COCO RLE masks: areas, boxes, overlaps, unions, and crops in and out.

N, M masks; H x W the size of the frame, h x w of a crop. A mask is trusted here: it came from this
package, or went through `validate_counts`. Work is proportional to runs or crops; only `decode`,
`encode`, `paste` and `dense_iou` touch whole frames.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from vis_core.masks.counts import (
    IntArray,
    Runs,
    Size,
    check_size,
    decode_counts,
    encode_counts,
    encode_runs,
    runs_of_intervals,
    validate_counts,
)

__all__ = [
    "Crop",
    "Runs",
    "Size",
    "areas",
    "boxes",
    "check_size",
    "crops",
    "decode",
    "decode_counts",
    "decode_crop",
    "dense_iou",
    "empty_mask",
    "encode",
    "encode_counts",
    "encode_crops",
    "encode_intervals",
    "encode_polygons",
    "encode_runs",
    "intersection",
    "intersection_areas",
    "iou_matrix",
    "paste",
    "union",
    "validate_counts",
]

BoolArray = npt.NDArray[np.bool_]
Box = tuple[int, int, int, int]  # x0, y0, x1, y1: columns [x0, x1), rows [y0, y1)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Crop:
    """The pixels of a mask within a box whose upper left corner is (x0, y0)."""

    mask: BoolArray  # (h, w)
    x0: int
    y0: int

    @property
    def box(self) -> Box:
        height, width = self.mask.shape
        return self.x0, self.y0, self.x0 + width, self.y0 + height

    def __repr__(self) -> str:
        return f"Crop{self.box}"


# --- measures -------------------------------------------------------------------------------------


def areas(masks: Sequence[bytes], size: Size) -> IntArray:
    """(N,) foreground pixels."""
    # pycocotools 2.0.11 counts the masks of this call in a uint8 and refuses more than 255.
    parts = [coco.area(_objects(masks[i : i + 255], size)) for i in range(0, len(masks), 255)]
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)


def boxes(masks: Sequence[bytes], size: Size) -> npt.NDArray[np.float32]:
    """(N, 4) x1, y1, x2, y2, tight around each mask; zeros for an empty one."""
    xywh = np.asarray(coco.toBbox(_objects(masks, size)), np.float32).reshape(-1, 4)
    xywh[areas(masks, size) == 0] = 0  # pycocotools takes the end of an empty run for a pixel
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def iou_matrix(a: Sequence[bytes], b: Sequence[bytes], size: Size) -> npt.NDArray[np.float64]:
    """(N, M) intersection over union; 0 between two empty masks."""
    if not a or not b:
        return np.zeros((len(a), len(b)))
    return np.asarray(coco.iou(_objects(a, size), _objects(b, size), [0] * len(b)))


def intersection_areas(a: Sequence[bytes], b: Sequence[bytes], size: Size) -> IntArray:
    """(N, M) pixels in common."""
    if not a or not b:
        return np.zeros((len(a), len(b)), np.int64)
    # "Crowd" overlap is intersection over area of `a`: exact again after rounding.
    share = coco.iou(_objects(a, size), _objects(b, size), [1] * len(b))
    return np.rint(share * areas(a, size)[:, None]).astype(np.int64)


def union(masks: Sequence[bytes], size: Size) -> bytes:
    """Pixels in any of the masks."""
    return _merged(masks, size, intersect=False)


def intersection(masks: Sequence[bytes], size: Size) -> bytes:
    """Pixels in all of the masks."""
    return _merged(masks, size, intersect=True)


def _merged(masks: Sequence[bytes], size: Size, *, intersect: bool) -> bytes:
    if not masks:
        return empty_mask(size)
    return bytes(coco.merge(_objects(masks, size), intersect)["counts"])


def _objects(masks: Sequence[bytes], size: Size) -> list[dict[str, Any]]:
    check_size(size)
    return [{"size": size, "counts": mask} for mask in masks]


# --- crops and dense masks ------------------------------------------------------------------------


def empty_mask(size: Size) -> bytes:
    return encode_intervals(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), 1, size)[0]


def encode_intervals(
    mask_index: npt.ArrayLike,
    start: npt.ArrayLike,
    stop: npt.ArrayLike,
    num_masks: int,
    size: Size,
) -> list[bytes]:
    """Masks from intervals [start, stop) of column-major positions (column * height + row).

    Sorted by mask, then position; disjoint, but they may touch; none empty.
    """
    check_size(size)
    runs = runs_of_intervals(
        np.asarray(mask_index, np.int64),
        np.asarray(start, np.int64),
        np.asarray(stop, np.int64),
        np.full(num_masks, size[0] * size[1]),
    )
    return encode_counts(runs)


def encode_crops(crops: Sequence[Crop], size: Size) -> list[bytes]:
    """Masks of a frame from crops within it; no array of the frame's size is made."""
    for index, crop in enumerate(crops):
        _check_box(crop.box, size, f"crop {index}")
    edges = [_edges(crop, size[0]) for crop in crops]
    mask_index = np.repeat(np.arange(len(edges)), [len(row) // 2 for row in edges])
    joined = np.concatenate(edges) if edges else np.zeros(0, np.int64)
    return encode_intervals(mask_index, joined[::2], joined[1::2], len(edges), size)


def _edges(crop: Crop, frame_height: int) -> IntArray:
    """Column-major positions where foreground starts and stops, by turns."""
    height, width = crop.mask.shape
    if not crop.mask.size:
        return np.zeros(0, np.int64)
    changes = np.empty((height + 1, width), bool)
    changes[0], changes[-1] = crop.mask[0], crop.mask[-1]
    np.not_equal(crop.mask[1:], crop.mask[:-1], out=changes[1:-1])
    row, column = np.divmod(np.flatnonzero(changes), width)
    edges = (column + crop.x0) * frame_height + row + crop.y0
    edges.sort()
    return edges


def encode(masks_NHW: npt.NDArray) -> list[bytes]:
    """Masks from dense ones, (N, H, W) of any type that is true in the foreground."""
    if masks_NHW.ndim != 3:
        raise ValueError(f"masks: expected (N, H, W), got {masks_NHW.shape}")
    frame = (masks_NHW.shape[1], masks_NHW.shape[2])
    return encode_crops([_tight(mask.astype(bool, copy=False)) for mask in masks_NHW], frame)


def _tight(mask: BoolArray) -> Crop:
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return Crop(mask=mask[:0, :0], x0=0, y0=0)
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[y0:y1].any(axis=0))
    x0, x1 = int(columns[0]), int(columns[-1]) + 1
    return Crop(mask=mask[y0:y1, x0:x1], x0=x0, y0=y0)


def decode(masks: Sequence[bytes], size: Size) -> BoolArray:
    """(N, H, W) dense masks."""
    check_size(size)
    runs = decode_counts(masks)
    pixels = np.repeat((runs.position & 1).astype(bool), runs.lengths)
    dense = pixels.reshape(len(masks), size[1], size[0]).transpose(0, 2, 1)
    return np.ascontiguousarray(dense)


def decode_crop(mask: bytes, size: Size, box: Box) -> BoolArray:
    """(h, w) pixels of a mask within a box of the frame."""
    _check_box(box, size, "box")
    return _cut(decode_counts([mask]).lengths, size[0], box)


def crops(masks: Sequence[bytes], size: Size) -> list[Crop]:
    """Each mask cut tight; an empty mask is a crop of 0 x 0."""
    runs = decode_counts(masks)
    bounds = runs.offsets.tolist()
    found = []
    for index, row in enumerate(boxes(masks, size).astype(int).tolist()):
        lengths = runs.lengths[bounds[index] : bounds[index + 1]]
        x0, y0, x1, y1 = row
        found.append(Crop(mask=_cut(lengths, size[0], (x0, y0, x1, y1)), x0=x0, y0=y0))
    return found


def _cut(lengths: IntArray, height: int, box: Box) -> BoolArray:
    x0, y0, x1, y1 = box
    ends = np.clip(np.cumsum(lengths), x0 * height, x1 * height)
    within = np.diff(ends, prepend=x0 * height)
    strip = np.repeat(np.arange(len(lengths)) % 2 == 1, within).reshape(x1 - x0, height)
    return np.ascontiguousarray(strip[:, y0:y1].T)


def paste(crop: Crop, size: Size) -> BoolArray:
    """(H, W) the crop in a frame that is otherwise background."""
    x0, y0, x1, y1 = crop.box
    _check_box(crop.box, size, "crop")
    frame = np.zeros(size, bool)
    frame[y0:y1, x0:x1] = crop.mask
    return frame


def _check_box(box: Box, size: Size, what: str) -> None:
    x0, y0, x1, y1 = box
    if not (0 <= x0 <= x1 <= size[1] and 0 <= y0 <= y1 <= size[0]):
        raise ValueError(f"{what} {box} does not lie within {size[0]} x {size[1]} (height x width)")


def encode_polygons(polygons: Sequence[Sequence[float]], size: Size) -> bytes:
    """The union of polygons x0, y0, x1, y1, … in pixels, filled by COCO's own rule."""
    check_size(size)
    reach = 2 * max(size)  # COCO walks every pixel of an outline, also outside the frame
    for polygon in polygons:
        row = np.asarray(polygon, np.float64)
        if row.ndim != 1 or len(row) < 6 or len(row) % 2:
            raise ValueError(f"a polygon needs x, y of three points or more, got {row.shape}")
        if not (np.abs(row) <= reach).all():
            raise ValueError(f"a polygon reaches beyond {reach} pixels, outside any such frame")
    if not polygons:
        return empty_mask(size)
    objects = coco.frPyObjects([list(map(float, polygon)) for polygon in polygons], *size)
    return union(validate_counts([bytes(item["counts"]) for item in objects], size), size)


def dense_iou(a_NHW: npt.NDArray, b_MHW: npt.NDArray) -> npt.NDArray[np.float64]:
    """(N, M) intersection over union of dense masks, the plain reference; 0 for two empty ones."""
    a, b = _packed(a_NHW), _packed(b_MHW)
    common = np.zeros((len(a), len(b)))
    for index, row in enumerate(a):
        common[index] = np.bitwise_count(row & b).sum(axis=1, dtype=np.int64)
    total = _bits(a)[:, None] + _bits(b)[None, :] - common
    return common / np.maximum(total, 1)


def _packed(masks: npt.NDArray) -> npt.NDArray[np.uint8]:
    rows = masks.reshape(len(masks), math.prod(masks.shape[1:]))
    return np.packbits(rows.astype(bool, copy=False), axis=1)


def _bits(packed: npt.NDArray[np.uint8]) -> IntArray:
    return np.bitwise_count(packed).sum(axis=1, dtype=np.int64)
