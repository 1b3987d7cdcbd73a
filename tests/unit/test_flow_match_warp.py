"""Masks carried by optical flow: a box gives what the whole frame gives, by the release's rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.reference_flow_match import flow_at_pixels, warp
from vis_core.association.warp import reach, warp_crop, warp_crops
from vis_core.flow.field import FlowReader, stored_flow, stored_shape
from vis_core.masks import rle
from vis_core.types import FlowField

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@st.composite
def scenes(draw: st.DrawFn) -> tuple[np.ndarray, FlowField]:
    """A mask, and a flow at any resolution: calm, wild, or out of the frame."""
    size = draw(SIZES)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = np.zeros(size, bool)
    y, x = rng.integers(0, size[0]), rng.integers(0, size[1])
    mask[y : y + rng.integers(1, 20), x : x + rng.integers(1, 20)] = True
    mask &= rng.random(size) < draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    stored = draw(st.sampled_from([size, (1, 1), (3, 2), stored_shape(size), (50, 50)]))
    spread = draw(st.sampled_from([0.0, 0.4, 3.0, 30.0, 3000.0]))
    dxdy = rng.normal(0, spread, (2, *stored)) + rng.normal(0, spread, (2, 1, 1))
    if draw(st.booleans()):
        dxdy = np.rint(dxdy * 64) / 64  # halves of the grid
    return mask, FlowField(dxdy=dxdy.astype(np.float16))


@settings(deadline=None, max_examples=300)
@given(scenes())
def test_the_box_that_can_be_reached_gives_what_the_whole_frame_gives(scene):
    mask, flow = scene
    reader = FlowReader.of(flow, mask.shape)
    (crop,) = rle.crops(rle.encode(mask[None]), mask.shape)
    whole = (0, 0, mask.shape[1], mask.shape[0])
    expected = warp(mask, *flow_at_pixels(flow, mask.shape))
    assert np.array_equal(warp_crop(crop, reader, whole).mask, expected)
    (small,) = warp_crops([crop], reader)
    assert np.array_equal(rle.paste(small, mask.shape), expected)
    if expected.any():
        box = reach(crop, reader, reader.range_in(whole))
        assert box[0] <= small.x0 and box[1] <= small.y0
        assert box[2] >= small.box[2] and box[3] >= small.box[3]


@settings(deadline=None, max_examples=200)
@given(scenes(), st.data())
def test_a_box_of_the_flow_is_cut_from_the_whole_field(scene, data):
    mask, flow = scene
    height, width = mask.shape
    reader = FlowReader.of(flow, (height, width))
    x0, x1 = sorted(data.draw(st.tuples(*[st.integers(0, width)] * 2)))
    y0, y1 = sorted(data.draw(st.tuples(*[st.integers(0, height)] * 2)))
    found = reader.read((x0, y0, x1, y1))
    for part, whole in zip(found, flow_at_pixels(flow, (height, width)), strict=True):
        assert np.array_equal(part, whole[y0:y1, x0:x1])
    if x0 < x1 and y0 < y1:
        dx, dy = found
        bounds = reader.range_in((x0, y0, x1, y1))
        slack = 1e-3 * (1 + np.abs(flow.dxdy.astype(np.float32)).max())
        assert bounds.dx_min - slack <= dx.min() and dx.max() <= bounds.dx_max + slack
        assert bounds.dy_min - slack <= dy.min() and dy.max() <= bounds.dy_max + slack


def constant(dx: float, dy: float) -> FlowReader:
    dxdy = np.tile(np.float16([dx, dy])[:, None, None], (1, 2, 3))
    return FlowReader.of(FlowField(dxdy=dxdy), (20, 30))


SQUARE = rle.Crop(mask=np.ones((6, 8), bool), x0=10, y0=5)


@pytest.mark.parametrize(
    ("flow", "box"),
    [
        ((0, 0), (10, 5, 18, 11)),
        ((3, -2), (13, 3, 21, 9)),
        ((0.25, 0), (10, 5, 18, 11)),
        ((0.75, 0), (11, 5, 19, 11)),
        ((0.5, 0), (10, 5, 19, 11)),  # exactly half on either side: foreground
        ((-12, 0), (0, 5, 6, 11)),  # partly outside
        ((0, 15), None),
        ((-18, 0), None),
    ],
)
def test_squares_move_by_the_flow(flow, box):
    (crop,) = warp_crops([SQUARE], constant(*flow))
    if box is None:
        assert not crop.mask.size
    else:
        assert crop.mask.all() and crop.box == box


def test_coordinates_are_rounded_to_a_32nd_halves_to_even():
    """0.515625 is 16.5 / 32: rounded to 16, a half, and still foreground; 0.53125 is not."""
    assert warp_crops([SQUARE], constant(0.515625, 0))[0].box == (10, 5, 19, 11)
    assert warp_crops([SQUARE], constant(0.53125, 0))[0].box == (11, 5, 19, 11)


def test_only_what_the_flow_can_reach_is_looked_at():
    """A fast corner of the frame does not make the box of a slow object larger."""
    dxdy = np.zeros((2, 90, 160), np.float16)
    dxdy[:, :8, :8] = 200
    flow = FlowReader.of(FlowField(dxdy=dxdy), (720, 1280))
    crop = rle.Crop(mask=np.ones((40, 50), bool), x0=900, y0=500)
    box = reach(crop, flow, flow.range_in((0, 0, 1280, 720)))
    assert box == (899, 499, 951, 541)


def test_nothing_moves_without_a_flow():
    assert warp_crops([SQUARE], None) == [SQUARE]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_flow_that_is_no_number_is_refused(bad):
    dxdy = np.zeros((2, 3, 4), np.float16)
    dxdy[1, 2, 3] = bad
    with pytest.raises(ValueError, match="flow: expected finite values, at least one, got FlowF"):
        FlowReader.of(FlowField(dxdy=dxdy), (24, 32))
    with pytest.raises(ValueError, match="at least one"):
        FlowReader.of(FlowField(dxdy=np.zeros((2, 0, 4), np.float16)), (24, 32))


# --- storing --------------------------------------------------------------------------------------


def test_flow_is_stored_at_an_eighth_in_eighths_of_a_pixel():
    rng = np.random.default_rng(0)
    flow = (10 * rng.normal(size=(45, 80, 2))).astype(np.float32)
    stored = stored_flow(flow, (90, 160)).dxdy
    assert stored.shape == (2, 12, 20) and stored.dtype == np.float16
    assert np.array_equal(stored * 8, np.rint(stored * 8))
    assert not np.signbit(stored[stored == 0]).any(), "-0 and 0 are other bytes"


def test_a_constant_flow_survives_storing_and_reading():
    flow = np.tile(np.float32([3.25, -7.5]), (54, 97, 1))
    for size in ((54, 97), (108, 194), (8, 8), (1, 1)):
        for full in (False, True):
            reader = FlowReader.of(stored_flow(flow, size, full=full), size)
            dx, dy = reader.read((0, 0, size[1], size[0]))
            assert dx.shape == size and (dx == 3.25).all() and (dy == -7.5).all()


def test_full_storing_keeps_resolution_and_digits():
    flow = np.random.default_rng(1).normal(size=(20, 30, 2)).astype(np.float32)
    stored = stored_flow(flow, (40, 60), full=True)
    assert np.array_equal(stored.dxdy, flow.transpose(2, 0, 1).astype(np.float16))


def test_flow_beyond_float16_is_clipped():
    flow = np.full((4, 4, 2), 1e6, np.float32)
    assert np.isfinite(stored_flow(flow, (4, 4), full=True).dxdy).all()
