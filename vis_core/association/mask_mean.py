"""The mean of several masks of one object, by signed distances or by vote.

A vote of two binary masks only copies the stronger one; the mean of signed distances (positive
inside, cut off at a few pixels) lies between their outlines. Work is done on the part of the frame
where the masks disagree, and a few pixels around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from vis_core.masks import rle

BoolArray = npt.NDArray[np.bool_]
MaskMean = Literal["distance", "vote"]


def mean_mask(
    masks: Sequence[bytes],
    weights: npt.NDArray[np.float64],
    size: rle.Size,
    *,
    by: MaskMean = "distance",
    band_px: float = 4.0,
) -> rle.Crop | bytes:
    """Pixels whose weighted mean is not negative (`distance`), or at least half (`vote`).

    Equal masks come back as they are; distances beyond `band_px` count as `band_px`.
    """
    if all(mask == masks[0] for mask in masks):
        return masks[0]
    box = _around(masks, size, int(np.ceil(band_px)) + 1)
    crops = [rle.decode_crop(mask, size, box) for mask in masks]
    total = np.zeros(crops[0].shape)
    for weight, crop in zip(weights.tolist(), crops, strict=True):
        total += weight * (_signed_distance(crop, band_px) if by == "distance" else crop - 0.5)
    return rle.Crop(mask=total >= 0, x0=box[0], y0=box[1])


def _around(masks: Sequence[bytes], size: rle.Size, margin_px: int) -> rle.Box:
    """The box of all masks with a margin, within the frame."""
    height, width = size
    boxes = rle.boxes(masks, size).astype(int)
    x0, y0 = boxes[:, :2].min(axis=0) - margin_px
    x1, y1 = boxes[:, 2:].max(axis=0) + margin_px
    return max(0, int(x0)), max(0, int(y0)), min(width, int(x1)), min(height, int(y1))


def _signed_distance(mask: BoolArray, band_px: float) -> npt.NDArray[np.float64]:
    """Distance of each pixel's centre from the outline; a mask without outline is all band."""
    reach = int(np.ceil(band_px + 0.5))
    distance = np.minimum(np.sqrt(np.arange((reach + 1) ** 2 + 1)) - 0.5, band_px)
    to_other = np.where(mask, _squares_to(~mask, reach), _squares_to(mask, reach))
    found = distance.take(to_other)
    return np.negative(found, out=found, where=~mask)


def _squares_to(pixels: BoolArray, reach: int) -> npt.NDArray[np.unsignedinteger]:
    """Exact squared distance of each pixel to the nearest of these, up to (reach + 1) ** 2."""
    far = (reach + 1) ** 2
    found = np.where(pixels, 0, far).astype(np.min_scalar_type(far + reach**2))
    for axis in (0, 1):  # squares add up: first along columns, then along rows
        here, best = found.swapaxes(0, axis), found.copy().swapaxes(0, axis)
        for step in range(1, reach + 1):
            candidate = here + found.dtype.type(step**2)
            np.minimum(best[step:], candidate[:-step], out=best[step:])
            np.minimum(best[:-step], candidate[step:], out=best[:-step])
        found = np.minimum(best.swapaxes(0, axis), far)
    return found
