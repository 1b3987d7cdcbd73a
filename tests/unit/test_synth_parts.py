"""What synthetic clips are built from: arithmetic, outlines, rasters, poses, canvases."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from vis_core.data.synth.config import CLOSED_FAMILIES, OPEN_FAMILIES, PRESETS
from vis_core.data.synth.exact import Dice, cos_turns, deal, deal_count, pick, sin_turns
from vis_core.data.synth.motion import Camera, Pose, lively, make_camera, project, resting
from vis_core.data.synth.raster import rasterize
from vis_core.data.synth.scene import Footprint, crossings, footprint, overlaps, paint, runs
from vis_core.data.synth.shapes import (
    hull,
    is_concave,
    outline_of,
    reach,
    signed_area,
    support_polygon,
)
from vis_core.data.synth.truth import _masks
from vis_core.masks import rle

FAMILIES = (*CLOSED_FAMILIES, *OPEN_FAMILIES, "polygon", "ellipse")
CONCAVE = ("star5", "star6", "crescent", "horseshoe", "arrow", "bolt", "gear", "fish")


# --- arithmetic and chance ------------------------------------------------------------------------


def test_sine_and_cosine_are_right():
    turns = np.linspace(-4, 4, 10_001)
    assert np.abs(sin_turns(turns) - np.sin(2 * np.pi * turns)).max() < 1e-12
    assert np.abs(cos_turns(turns) - np.cos(2 * np.pi * turns)).max() < 1e-12


def test_dice_never_change():
    """Raw output of PCG64, whose stream NumPy keeps: these numbers hold for ever."""
    dice = Dice("clip", 7)
    assert [dice.whole(1, 6) for _ in range(12)] == [4, 5, 5, 2, 5, 5, 4, 3, 3, 4, 6, 2]
    assert Dice("clip", 7).unit() != Dice("clip", 8).unit()


def test_shuffling_keeps_every_item():
    rows = [Dice("order", number).shuffled(range(6)) for number in range(60)]
    assert all(sorted(row) == list(range(6)) for row in rows)
    firsts = [row[0] for row in rows]
    assert {firsts.count(item) > 2 for item in range(6)} == {True}


@pytest.mark.parametrize("what", ["size", "hidden", "late", "length"])
@pytest.mark.parametrize("first", [0, 1_000_000, 2_000_123])
def test_what_is_dealt_is_even_over_any_stretch(what, first):
    """Quotas hold for 40 clips as for 4,000: that is why they are dealt, not drawn."""
    values = np.array([deal(what, first + index) for index in range(40)])
    counts = np.histogram(values, bins=10, range=(0, 1))[0]
    assert counts.min() >= 2 and counts.max() <= 6
    assert abs(np.mean([deal_count(what, first + i, 2.3) for i in range(40)]) - 2.3) < 0.08


def test_a_share_is_picked_by_quantile():
    shares = (("a", 0.3), ("b", 0.5), ("c", 0.2))
    found = "".join(pick(shares, quantile) for quantile in (0, 0.29, 0.31, 0.79, 0.81, 0.999, 1.0))
    assert found == "aabbccc"


# --- outlines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_every_outline_is_simple_centred_and_of_area_one(family):
    """What even-odd filling covers is the shoelace area only if no edges cross."""
    for number in range(5):
        outline = outline_of(family, Dice(family, number))
        assert math.isclose(signed_area(outline), 1, abs_tol=1e-9)
        assert reach(outline) < 1.6
        patches = rasterize((outline * 100 + 250)[None], (500, 500), rows=4)
        assert abs(patches.cover.sum() / patches.full / 10_000 - 1) < 2e-3
        rows, columns = np.nonzero(patches.mask[0])
        middle = rows.mean() + patches.y0[0], columns.mean() + patches.x0[0]
        assert np.abs(np.array(middle) + 0.5 - 250).max() < 0.6


def test_many_families_are_concave():
    found = [name for name in FAMILIES if is_concave(outline_of(name, Dice(name)))]
    assert set(CONCAVE) <= set(found)
    assert not {"hexagon", "octagon", "ellipse", "drop"} & set(found)


def test_hull_of_a_star_is_its_tips():
    star = outline_of("star5", Dice(1))
    corners = hull(star)
    assert len(corners) == 5
    assert signed_area(corners) > 1.2


def test_support_polygon_holds_all_points_with_its_margin():
    rng = np.random.default_rng(0)
    points = rng.uniform(-20, 30, (50, 2))
    outline = support_polygon(points, 18, np.full(18, 1.5))
    edges = np.roll(outline, -1, axis=0) - outline
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
    normals /= np.hypot(*normals.T)[:, None]
    distance = ((points[:, None] - outline[None]) * -normals[None]).sum(axis=2)
    distance *= np.sign(np.median(distance))
    assert distance.min() == pytest.approx(1.5)


# --- raster ---------------------------------------------------------------------------------------


def sampled(outline, size, rows, columns=64):
    """Coverage by the definition of even-odd, at the raster's heights and many places along x."""
    height, width = size
    cover = np.zeros(size)
    following = np.roll(outline, -1, axis=0)
    xs = (np.arange(width * columns) + 0.5) / columns
    for row in range(height * rows):
        y = (row + 0.5) / rows
        crosses = (outline[:, 1] > y) != (following[:, 1] > y)
        a, b = outline[crosses], following[crosses]
        places = a[:, 0] + (y - a[:, 1]) * (b[:, 0] - a[:, 0]) / (b[:, 1] - a[:, 1])
        inside = (places[:, None] < xs[None]).sum(axis=0) % 2
        cover[row // rows] += inside.reshape(width, columns).mean(axis=1) / rows
    return cover


def whole(patches, index, size):
    """(H, W) the coverage of one frame, 0 to 1."""
    picture = np.zeros(size)
    height, width = patches.cover.shape[1:]
    y0, x0 = patches.y0[index], patches.x0[index]
    picture[y0 : y0 + height, x0 : x0 + width] = patches.cover[index] / patches.full
    return picture


@pytest.mark.parametrize("family", ["hexagon", "star6", "horseshoe", "trident"])
@pytest.mark.parametrize("rows", [1, 4])
def test_coverage_is_that_of_the_even_odd_rule(family, rows):
    outlines = np.stack(
        [
            outline_of(family, Dice(family)) * 14 + place
            for place in ((20, 17.3), (4.2, 31), (39, 2))
        ]
    )
    patches = rasterize(outlines, (36, 42), rows=rows)
    for index, outline in enumerate(outlines):
        difference = whole(patches, index, (36, 42)) - sampled(outline, (36, 42), rows)
        assert np.abs(difference).max() < 0.03


def test_what_is_cut_off_does_not_change_the_rest():
    """A shape over the edge covers what the same shape covers in a larger picture."""
    outline = outline_of("crescent", Dice(2)) * 30
    places = [(5.5, 6.25), (38.0, 20.0), (-60.0, 10.0), (20.0, 95.0)]
    small = rasterize(np.stack([outline + p for p in places]), (40, 44), rows=4)
    large = rasterize(np.stack([outline + p + 128 for p in np.array(places)]), (300, 300), rows=4)
    for index in range(len(places)):
        expected = whole(large, index, (300, 300))[128:168, 128:172]
        assert (whole(small, index, (40, 44)) == expected).all()
    assert whole(small, 2, (40, 44)).sum() == 0


# --- poses and camera -----------------------------------------------------------------------------


def a_pose(num_frames=8):
    dice = Dice("pose", 3)
    return lively(dice, 40.0, np.linspace(-30, 60, num_frames), np.linspace(10, -20, num_frames))


def test_the_way_back_to_the_body_is_exact():
    """Bends, stretch, turn and size are undone: this is what makes the flow true."""
    pose = a_pose()
    u, v = np.random.default_rng(1).uniform(-1, 1, (2, 200))
    for frame in range(8):
        back = pose.to_body(*pose.to_scene(u, v, frame), frame)
        assert np.abs(np.array(back) - [u, v]).max() < 1e-12


def test_deformation_keeps_the_area():
    camera = still_camera(8)
    outline = outline_of("star5", Dice(5))
    pose = a_pose()
    outlines = project(outline, pose, camera, slice(0, 8))
    for frame in range(8):
        expected = pose.size[frame] ** 2
        assert signed_area(outlines[frame]) == pytest.approx(expected, rel=2e-2)


def still_camera(num_frames):
    zero = np.zeros(num_frames)
    return Camera(x=zero, y=zero, zoom=zero + 1, height=360, width=640, px_per_unit=1.0)


def test_the_camera_moves_far_things_less():
    camera = make_camera(Dice("camera", 2), 36, (360, 640), 1.0)
    point = np.array([40.0]), np.array([-30.0])
    moved = []
    for depth in (0.35, 0.7, 1.0):
        x, y = camera.to_picture(*point, np.array([0, 35]), depth)
        moved.append(float(np.hypot(x[1] - x[0], y[1] - y[0])))
        back = camera.to_scene(x, y, np.array([0, 35]), depth)
        assert np.abs(np.array(back) - np.array(point)).max() < 1e-9
    assert moved[0] < moved[1] < moved[2]


def test_all_depths_agree_in_the_middle_of_a_still_camera():
    camera = still_camera(1)
    for depth in (0.35, 1.0):
        assert camera.to_picture(np.zeros(1), np.zeros(1), 0, depth) == (320, 180)


# --- canvases -------------------------------------------------------------------------------------


def square(x0, y0, x1, y1, size=(20, 30), num_frames=2):
    """The footprint of a rectangle in every frame."""
    outline = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float)
    patches = rasterize(np.stack([outline] * num_frames), size, rows=2)
    return footprint(patches, 0, num_frames, size)


def test_later_footprints_lie_on_top():
    low, high = square(2, 3, 12, 9), square(10, 5, 14, 15)
    canvas = paint([low, high], 2, (20, 30))
    assert canvas.shape == (2, 30, 20)
    assert (canvas[0, 10:14, 5:15] == 1).all()
    assert (canvas[0] == 0).sum() == 60 - 8
    assert low.areas.tolist() == [60, 60]


def test_overlaps_are_counted_by_frame_and_leave_no_trace():
    scratch = np.zeros(2 * 600, bool)
    assert overlaps(square(2, 3, 12, 9), square(10, 5, 14, 15), scratch).tolist() == [8, 8]
    assert not scratch.any()


@pytest.mark.parametrize(
    ("common", "expected"),
    [
        ([0, 0, 0, 0], []),
        ([0, 5, 5, 0], []),  # a fifth of the smaller: they brush each other
        ([0, 5, 25, 0], [(1, 3)]),
        ([25, 0, 30, 1], [(0, 1), (2, 4)]),
    ],
)
def test_a_crossing_covers_a_quarter_at_some_time(common, expected):
    """100 pixels on one row each; the second shape starts where so many of them end."""
    frame = np.repeat(np.arange(4), 100)
    base = frame * 1000 + np.tile(np.arange(100), 4)
    areas = np.full(4, 100)
    a = Footprint(pixels=base, frames=frame, areas=areas)
    b = Footprint(pixels=base + np.repeat(100 - np.array(common), 100), frames=frame, areas=areas)
    assert crossings(a, b, np.zeros(4000, bool)) == expected


def test_runs_are_half_open():
    flags = np.array([True, True, False, True, False, False, True])
    assert runs(flags) == [(0, 2), (3, 4), (6, 7)]
    assert runs(np.zeros(3, bool)) == []


def test_masks_from_canvas_positions_are_those_of_dense_ones():
    """Columns may touch, frames may follow each other, and a mask may fill its frame."""
    rng = np.random.default_rng(5)
    dense = rng.uniform(size=(5, 6, 9)) < 0.5
    dense[1], dense[3] = False, True
    dense[0, 5, 8] = dense[2, 0, 0] = True
    pixels = np.flatnonzero(dense.transpose(0, 2, 1))
    found = _masks(pixels, dense.any(axis=(1, 2)), (6, 9))
    assert found[1] is None
    assert [found[i] for i in (0, 2, 3, 4)] == rle.encode(dense[[0, 2, 3, 4]])


def test_a_resting_pose_does_nothing():
    pose = resting(3.0, 4.0, 2)
    assert isinstance(pose, Pose)
    x, y = pose.to_scene(np.array([0.5]), np.array([-0.25]), 1)
    assert (x[0], y[0]) == pytest.approx((3.5, 3.75), abs=1e-9)


def test_presets_are_checked():
    plain = PRESETS["plain"]
    with pytest.raises(ValueError, match="late_share: expected 0 to 1"):
        dataclasses.replace(plain, late_share=1.2)
    with pytest.raises(ValueError, match="relations: expected shares that add up to 1"):
        dataclasses.replace(plain, relations=(("cross", 0.5),))
    with pytest.raises(ValueError, match="categories: expected 1 or one per family"):
        dataclasses.replace(plain, categories=("a", "b"))
