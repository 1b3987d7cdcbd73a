"""Pictures and their masks, moved alike. Masks keep hard edges; pictures are interpolated."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.data.sample import BoolArray

Image = npt.NDArray[np.uint8]

_MEAN = (124, 116, 104)  # of ImageNet: next to nothing once a network has normalised it


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """One frame on its way: picture (H, W, 3), masks (N, H, W), and where there is a picture."""

    picture: Image
    masks: BoolArray
    valid: BoolArray | None = None

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.shape[0], self.picture.shape[1]


def fitted(size: tuple[int, int], short_side: int, long_side: int) -> tuple[int, int]:
    """Height and width with that short side, or less where the long one would exceed its cap."""
    scale = min(short_side / min(size), long_side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def resize(view: View, size: tuple[int, int]) -> View:
    if size == view.size:
        return view
    shrinks = size[0] < view.size[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    rows, columns = (_nearest(new, old) for new, old in zip(size, view.size, strict=True))
    return View(
        np.asarray(cv2.resize(view.picture, (size[1], size[0]), interpolation=method), np.uint8),
        view.masks[:, rows[:, None], columns],
        None if view.valid is None else view.valid[rows[:, None], columns],
    )


def _nearest(new: int, old: int) -> npt.NDArray[np.int64]:
    """The old pixel under each new one's centre."""
    return np.minimum(((np.arange(new) + 0.5) * (old / new)).astype(np.int64), old - 1)


def crop(view: View, y0: int, x0: int, size: tuple[int, int]) -> View:
    rows, columns = slice(y0, y0 + size[0]), slice(x0, x0 + size[1])
    return View(
        view.picture[rows, columns],
        view.masks[:, rows, columns],
        None if view.valid is None else view.valid[rows, columns],
    )


def flip(view: View) -> View:
    return View(
        view.picture[:, ::-1],
        view.masks[:, :, ::-1],
        None if view.valid is None else view.valid[:, ::-1],
    )


def pad(view: View, size: tuple[int, int]) -> View:
    """To at least this size, at the right and the bottom; grey, and marked as no picture."""
    more = [max(0, wanted - has) for wanted, has in zip(size, view.size, strict=True)]
    if not any(more):
        return view
    around = ((0, more[0]), (0, more[1]))
    valid = np.ones(view.size, bool) if view.valid is None else view.valid
    picture = np.empty((*(max(pair) for pair in zip(size, view.size, strict=True)), 3), np.uint8)
    picture[:] = _MEAN
    picture[: view.size[0], : view.size[1]] = view.picture
    return View(picture, np.pad(view.masks, ((0, 0), *around)), np.pad(valid, around))


def rotate(view: View, degrees: float) -> View:
    """About the middle, counter-clockwise; what comes in from outside is black and no picture."""
    if degrees == 0:
        return view
    height, width = view.size
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    valid = np.ones(view.size, bool) if view.valid is None else view.valid

    def turned(mask: BoolArray) -> BoolArray:
        moved = cv2.warpAffine(
            mask.astype(np.uint8), matrix, (width, height), flags=cv2.INTER_NEAREST
        )
        return np.asarray(moved, bool)

    masks = [turned(mask) for mask in view.masks]
    return View(
        np.asarray(cv2.warpAffine(view.picture, matrix, (width, height)), np.uint8),
        np.stack(masks) if masks else view.masks,
        turned(valid),
    )
