"""A mask and its polygon are the same thing, holes, parts, touching corners and all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.random_tracks import random_masks
from vis_core.errors import UsageError
from vis_core.formats.polygons import fill, outlines
from vis_core.masks import rle

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6), SIZES)
def test_polygons_of_masks_fill_to_the_masks(seed, size):
    masks = random_masks(np.random.default_rng(seed), 4, size)
    masks = [mask for mask, area in zip(masks, rle.areas(masks, size), strict=True) if area]
    polygons = outlines(masks, size)
    assert len(polygons) == len(masks)
    for mask, polygon in zip(masks, polygons, strict=True):
        assert fill(polygon.astype(float), size, "here") == mask
        assert polygon.min() >= 0 and (polygon.max(axis=0) <= (size[1], size[0])).all()


def mask_of(*rows):
    dense = np.array([[char == "#" for char in row] for row in rows])
    return rle.encode(dense[None]), dense.shape


@pytest.mark.parametrize(
    ("rows", "num_points"),
    [
        pytest.param(["#"], 4, id="one pixel"),
        pytest.param(["....", ".##.", "...."], 4, id="a box"),
        pytest.param([".#.", "###", ".#."], 12, id="a cross"),
        pytest.param(["###", "#.#", "###"], 10, id="a hole: there and back by one line"),
        pytest.param(["#.#"], 10, id="two parts"),
        pytest.param(["#.#.#"], 16, id="three parts, home by the second"),
        pytest.param(["#.", ".#"], 6, id="parts that touch at a corner"),
    ],
)
def test_outlines_turn_only_at_corners(rows, num_points):
    masks, size = mask_of(*rows)
    (polygon,) = outlines(masks, size)
    assert fill(polygon.astype(float), size, "here") == masks[0]
    assert len(polygon) == num_points


def area_of(polygon):
    x, y = polygon.astype(float).T
    return (x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2


@pytest.mark.parametrize("rows", [["###", "#.#", "###"], ["#.#", "...", "###"], ["#####", "#.#.#"]])
def test_holes_run_the_other_way(rows):
    """So the area inside, counted with its sign, is that of the mask."""
    masks, size = mask_of(*rows)
    (polygon,) = outlines(masks, size)
    assert abs(area_of(polygon)) == rle.areas(masks, size)[0]


def test_no_masks_no_polygons():
    assert outlines([], (4, 4)) == []


def dense_fill(polygon, size):
    """Even-odd by ray casting to the left from every pixel centre."""
    inside = np.zeros(size, bool)
    for row in range(size[0]):
        for column in range(size[1]):
            y, x = row + 0.5, column + 0.5
            crossings = 0
            for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                if (x0 <= x) != (x1 <= x):
                    crossings += y0 + (x - x0) / (x1 - x0) * (y1 - y0) <= y
            inside[row, column] = crossings % 2
    return inside


@settings(max_examples=60, deadline=None)
@given(
    # Sixteenths, moved off the centres of pixels: rounding decides nothing.
    st.lists(st.tuples(st.integers(-40, 200), st.integers(-40, 200)), min_size=3, max_size=9),
)
def test_any_polygon_fills_as_by_ray_casting(points):
    polygon = np.array(points) / 16 + (0.0012345, 0.0076543)
    size = (9, 11)
    assert (rle.decode([fill(polygon, size, "here")], size)[0] == dense_fill(polygon, size)).all()


@pytest.mark.parametrize(
    "polygon", [[(0, 0), (1, 1)], [(0, 0), (1, float("nan")), (2, 2)], [(0, 0), (1e9, 0), (0, 5)]]
)
def test_what_is_no_polygon(polygon):
    with pytest.raises(UsageError, match="here: a polygon needs three points"):
        fill(np.array(polygon, float), (4, 4), "here")


def test_polygons_that_would_fill_memory_are_refused():
    zigzag = np.array([(0, 0), (2000, 1)] * 40_000, float)
    with pytest.raises(UsageError, match="cross the whole frame"):
        fill(zigzag, (2000, 2000), "here")
