"""Common pixels of many masks by columns are those that pycocotools counts."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.rows import box_masks
from vis_core.association import mask_overlap
from vis_core.association.mask_overlap import common_pixels
from vis_core.masks import rle


@pytest.fixture
def by_columns(monkeypatch):
    """Columns are used for any masks; fails if they were not."""
    monkeypatch.setattr(mask_overlap, "_MANY_MASKS", 0)
    monkeypatch.setattr(mask_overlap, "_LARGE_BYTES", 0)
    used = []
    real = mask_overlap._by_columns
    monkeypatch.setattr(
        mask_overlap, "_by_columns", lambda *given: used.append(given) or real(*given)
    )
    yield
    assert used


def blobs(rng: np.random.Generator, num: int, size: rle.Size) -> np.ndarray:
    """Unions of a few rectangles, some of them with holes, some over the whole height."""
    masks = np.zeros((num, *size), bool)
    for mask in masks:
        for value in (True, True, True, False):
            y, x = (int(rng.integers(0, side)) for side in size)
            height, width = (int(rng.integers(0, side)) for side in size)
            mask[y : y + height, x : x + width] = value
        if rng.random() < 0.2:
            mask[:, x : x + 3] = True
    return masks


@pytest.mark.parametrize("seed", range(8))
def test_of_masks_of_any_shape(seed, by_columns):
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(5, 60)), int(rng.integers(5, 60)))
    dense = np.concatenate([blobs(rng, 12, size), rng.random((4, *size)) < 0.5])
    dense = np.concatenate([dense, np.zeros((1, *size), bool), np.ones((2, *size), bool)])
    masks = rle.encode(dense)
    flat = dense.reshape(len(dense), -1).astype(np.int64)
    assert np.array_equal(common_pixels(masks, size), flat @ flat.T)


def test_of_frames_with_more_pixels_than_a_short_float_counts(by_columns):
    size = (4097, 4099)
    masks = box_masks([(0, 0, 4099, 4097), (0, 0, 4098, 4097), (1, 1, 4099, 4097)], size)
    expected = [
        [4097 * 4099, 4097 * 4098, 4096 * 4098],
        [4097 * 4098, 4097 * 4098, 4096 * 4097],
        [4096 * 4098, 4096 * 4097, 4096 * 4098],
    ]
    assert common_pixels(masks, size).tolist() == expected


def test_of_empty_masks_and_of_none(by_columns):
    size = (7, 9)
    assert common_pixels([rle.empty_mask(size)] * 3, size).tolist() == [[0] * 3] * 3
    assert common_pixels([], size).shape == (0, 0)


@pytest.mark.parametrize(
    ("size", "max_cells"), [((30, 40), 100), ((40_000, 20), 1 << 22)], ids=["intricate", "tall"]
)
def test_what_does_not_fit_columns_is_counted_by_runs(size, max_cells, monkeypatch):
    monkeypatch.setattr(mask_overlap, "_MANY_MASKS", 0)
    monkeypatch.setattr(mask_overlap, "_LARGE_BYTES", 0)
    monkeypatch.setattr(mask_overlap, "_MAX_CELLS", max_cells)
    monkeypatch.setattr(mask_overlap, "_by_columns", None)
    masks = rle.encode(blobs(np.random.default_rng(0), 5, size))
    assert np.array_equal(common_pixels(masks, size), rle.intersection_areas(masks, masks, size))


def test_many_large_masks_go_by_columns(monkeypatch):
    used = []
    real = mask_overlap._by_columns
    monkeypatch.setattr(
        mask_overlap, "_by_columns", lambda *given: used.append(given) or real(*given)
    )
    y, x = np.ogrid[:200, :300]
    discs = np.stack([(y - 100) ** 2 + (x - 100 - k) ** 2 <= 80**2 for k in range(20)])
    masks = rle.encode(discs)
    assert np.array_equal(
        common_pixels(masks, (200, 300)), rle.intersection_areas(masks, masks, (200, 300))
    )
    common_pixels(masks[:8], (200, 300))
    assert len(used) == 1
