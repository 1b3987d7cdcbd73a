"""Instances from a bottom-up network's maps, and where each is in a reference frame.

Instance Flow Assembly, section III-C; docs/methods/instance_flow.md says what is ours.

H x W full resolution; M instances, ids 1 to M in label maps, 0 is background. Points and offsets
are (y, x) and (dy, dx) in pixels; an offset leads from a pixel to its instance's centre.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vis_core.types import FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

_DISTANCES_AT_ONCE = 1 << 22


class Grouping(NamedTuple):
    """The instances of a frame; centres in raster order, which decides ties."""

    ids_HW: npt.NDArray[np.int32]
    centers: Float32  # (M, 2)
    peaks: Float32  # (M,) the heatmap at the centre


def group_instances(
    foreground_HW: BoolArray,
    heatmap_HW: FloatArray,
    offsets_2HW: FloatArray,
    *,
    threshold: float = 0.15,
    window_px: int = 41,
    max_centers: int = 200,
) -> Grouping:
    """Finds the heatmap's peaks in the foreground, and gives each the pixels that point to it.

    A centre that no pixel points to is no instance.
    """
    centers = find_centers(
        foreground_HW,
        heatmap_HW,
        threshold=threshold,
        window_px=window_px,
        max_centers=max_centers,
    )
    ids = group_pixels(foreground_HW, offsets_2HW, centers.astype(np.float32))
    sizes = np.bincount(ids.ravel(), minlength=len(centers) + 1)
    kept = sizes[1:] > 0
    number = np.append(0, np.cumsum(kept)).astype(np.int32)
    centers = centers[kept]
    return Grouping(
        ids_HW=number[ids],
        centers=centers.astype(np.float32),
        peaks=heatmap_HW[centers[:, 0], centers[:, 1]].astype(np.float32),
    )


def find_centers(
    foreground_HW: BoolArray,
    heatmap_HW: FloatArray,
    *,
    threshold: float,
    window_px: int,
    max_centers: int,
) -> IntArray:
    """(M, 2) pixels above `threshold` that are largest in a window around them, in raster order.

    Of equal peaks side by side the first one stays; of too many the highest.
    """
    from scipy.ndimage import maximum_filter  # not needed to link

    heat = np.where(foreground_HW & (heatmap_HW > threshold), heatmap_HW, -1.0)
    largest = maximum_filter(heat, size=window_px, mode="constant", cval=-1.0)
    peaks = _apart(np.argwhere((heat == largest) & (heat > 0)))
    values = heat[peaks[:, 0], peaks[:, 1]]
    best = np.argsort(-values, kind="stable")[:max_centers]
    return peaks[np.sort(best)]


def _apart(pixels: IntArray) -> IntArray:
    """Without those that touch an earlier one (closer than 2 px), as plateaus have them."""
    kept: dict[tuple[int, int], None] = {}
    for y, x in pixels.tolist():
        before = ((y, x - 1), (y - 1, x - 1), (y - 1, x), (y - 1, x + 1))
        if not any(pixel in kept for pixel in before):
            kept[y, x] = None
    return np.array([*kept], np.int64).reshape(-1, 2)


def group_pixels(
    foreground_HW: BoolArray, offsets_2HW: FloatArray, centers: FloatArray
) -> npt.NDArray[np.int32]:
    """(H, W) the centre nearest to where each foreground pixel points (Eq. 4), counted from 1.

    With offsets to a reference frame and its centres: the pixels of its instances (inter-IoU).
    """
    ids = np.zeros(foreground_HW.shape, np.int32)
    y, x = np.nonzero(foreground_HW)
    if not len(centers):
        return ids
    nearest = np.empty(len(y), np.int32)
    step = max(1, _DISTANCES_AT_ONCE // len(centers))
    for start in range(0, len(y), step):
        ys, xs = y[start : start + step], x[start : start + step]
        to_y = ys + offsets_2HW[0, ys, xs].astype(np.float64)
        to_x = xs + offsets_2HW[1, ys, xs].astype(np.float64)
        squares = (to_y[:, None] - centers[:, 0]) ** 2 + (to_x[:, None] - centers[:, 1]) ** 2
        nearest[start : start + step] = squares.argmin(axis=1)
    ids[y, x] = nearest + 1
    return ids


def sampled(
    ids_HW: npt.NDArray[np.int32], num_instances: int, *, stride: int = 4, min_samples: int = 16
) -> npt.NDArray[np.int32]:
    """The label map on a grid only; all pixels of an instance with few of them on the grid."""
    grid = np.zeros_like(ids_HW)
    grid[::stride, ::stride] = ids_HW[::stride, ::stride]
    few = np.bincount(grid.ravel(), minlength=num_instances + 1) < min_samples
    few[0] = False
    return np.where(few[ids_HW], ids_HW, grid)


def means_over_masks(
    ids_HW: npt.NDArray[np.int32], values_CHW: FloatArray, num_instances: int
) -> Float64:
    """(M, C) mean of each map over each instance; 0 for one without pixels.

    Of the semantic map, the class scores; of (offsets to the reference centre - offsets to the own
    centre) on sampled pixels, the instance flow (Eq. 3), in which errors of the mask cancel.
    """
    inside = np.flatnonzero(ids_HW)
    ids = ids_HW.ravel()[inside]
    sizes = np.bincount(ids, minlength=num_instances + 1)[1:]
    sums = [
        np.bincount(ids, weights=values.ravel()[inside], minlength=num_instances + 1)[1:]
        for values in values_CHW
    ]
    return np.stack(sums, axis=1) / np.maximum(sizes, 1)[:, None]


def label_iou(
    ids_HW: npt.NDArray[np.int32],
    others_HW: npt.NDArray[np.int32],
    num_instances: int,
    num_others: int,
) -> Float64:
    """(M, n) IoU between the instances of two label maps of one frame; 0 where both are empty."""
    shape = (num_instances + 1, num_others + 1)
    pairs = ids_HW.ravel().astype(np.int64) * shape[1] + others_HW.ravel()
    common = np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
    areas, other_areas = common.sum(axis=1)[1:], common.sum(axis=0)[1:]
    common = common[1:, 1:]
    return common / np.maximum(areas[:, None] + other_areas - common, 1)


def path_affinity(
    centers: FloatArray, ref_centers: FloatArray, field_2HW: FloatArray, *, num_samples: int = 10
) -> Float64:
    """(M, n) mean of the field along the way from a centre to a reference centre (baseline a).

    The field's vectors point along the centre's trajectory with length 1, so this is 1 where it
    leads there. Where there is no way to go it is 1 minus the field's length.
    """
    way = ref_centers[None].astype(np.float64) - centers[:, None]  # (M, n, 2)
    length = np.sqrt((way**2).sum(axis=2))
    share = np.linspace(0, 1, num_samples)[:, None, None, None]
    pixels = np.rint(centers[None, :, None] + share * way[None]).astype(int)  # (S, M, n, 2)
    height, width = field_2HW.shape[1:]
    y, x = pixels[..., 0].clip(0, height - 1), pixels[..., 1].clip(0, width - 1)
    mean = field_2HW[:, y, x].mean(axis=1)  # (2, M, n)
    along = (mean[0] * way[..., 0] + mean[1] * way[..., 1]) / np.where(length, length, 1)
    return np.where(length > 0, along, 1 - np.sqrt((mean**2).sum(axis=0)))
