"""Transforms at their limits: tiny frames, edges of crops and windows, nothing left to see."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis_core.data.sample import Sample
from vis_core.data.transforms import TransformConfig, transform
from vis_core.data.transforms.geometry import fitted

# Settings under which nothing happens to a frame of any size.
NOTHING = TransformConfig(scales=(1.0,), flip=0.0)
DISCS = ((90, 150, 50), (120, 105, 40))  # row, column, radius: off the middle of a 200 x 260 frame


def sample_of(frames, masks, *, repeated=False):
    count, length = len(masks[0]), len(frames)
    return Sample(
        video_id="v",
        frame_index=np.zeros(length, np.int64) if repeated else np.arange(length),
        frames=frames,
        masks=masks,
        labels=np.arange(count) % 3,
        ids=np.arange(count) + 100,
        crowd=np.arange(count) % 2 == 1,
    )


def discs(size=(200, 260)):
    """The first disc in red, the second in green; one picture twice."""
    rows, columns = np.indices(size)
    masks = np.stack([np.hypot(rows - y, columns - x) < r for y, x, r in DISCS])
    picture = np.zeros((*size, 3), np.uint8)
    picture[masks[0], 0] = 255
    picture[masks[1], 1] = 255
    return sample_of([picture] * 2, [masks] * 2, repeated=True)


def charted(size=(100, 140), num_frames=2, *, repeated=False):
    """Red tells a pixel's column, green its row; blue is the same everywhere."""
    rows, columns = np.indices(size)
    chart = np.stack([columns, rows, np.full(size, 90)], axis=2).astype(np.uint8)
    masks = [np.ones((1, *size), bool)] * num_frames
    return sample_of([chart] * num_frames, masks, repeated=repeated)


def squares(corners, size=(60, 60), side=7):
    """One instance for each corner (row, column), in both frames of a repeated picture."""
    masks = np.zeros((len(corners), *size), bool)
    for mask, (y, x) in zip(masks, corners, strict=True):
        mask[y : y + side, x : x + side] = True
    return sample_of([np.zeros((*size, 3), np.uint8)] * 2, [masks] * 2, repeated=True)


def changed(sample, seed=0, **config):
    return transform(
        sample, dataclasses.replace(NOTHING, **config), np.random.default_rng([seed, 7])
    )


def sizes(sample):
    return [picture.shape[:2] for picture in sample.frames]


def is_flipped(picture):
    """Of a charted frame: columns go down from left to right."""
    red = picture[picture.shape[0] // 2, :, 0].astype(int)
    return red[0] > red[-1]


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


WAYS = {
    "smaller": {"scales": (), "short_side_px": (130,)},
    "larger": {"scales": (), "short_side_px": (333,)},
    "flip": {"flip": 1.0},
    "crop": {"crop": 1.0, "crop_px": (120, 180)},
    "crop after a size": {"crop": 1.0, "crop_px": (120, 140), "crop_short_side_px": (150, 170)},
    "turned": {"rotate_degrees": (-30.0, 25.0)},
    "window": {"window_px": (150, 300)},
    "all": {
        "scales": (),
        "short_side_px": (180, 250),
        "flip": 0.5,
        "crop": 0.5,
        "crop_px": (150, 190),
        "rotate_degrees": (-30.0, 30.0),
        "window_px": (200, 200),
    },
}


@pytest.mark.parametrize("consistency", ["clip", "independent"])
@pytest.mark.parametrize("way", WAYS)
def test_a_large_disc_and_its_mask_overlap_wholly(way, consistency):
    """Where nearest neighbours hardly count, next to nothing is missed."""
    for seed in range(6):
        result = changed(discs(), seed, consistency=consistency, **WAYS[way])
        assert result.ids.tolist() == [100, 101]
        for picture, masks in zip(result.frames, result.masks, strict=True):
            for channel, mask in enumerate(masks):
                assert mask.sum() > 500, "the test's discs should be in sight"
                overlap = iou(picture[..., channel] > 127, mask)
                assert overlap > 0.95, f"seed {seed}, instance {channel}: IoU {overlap:.3f}"


# --- size -----------------------------------------------------------------------------------------

side = st.integers(1, 5000)
wanted = st.integers(16, 2000)


@given(side, side, wanted, wanted)
def test_sides_of_any_frame_meet_their_limits(height, width, short, cap):
    """Also of a line of pixels, which keeps one of them; the shape is kept to half a pixel."""
    size = fitted((height, width), short, cap)
    assert max(size) <= cap
    assert min(size) == short or max(size) == cap
    scale = min(short / min(height, width), cap / max(height, width))
    for new, old in zip(size, (height, width), strict=True):
        assert abs(new - max(1, old * scale)) <= 0.5 + 1e-6


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(st.integers(1, 5), st.integers(1, 5)),
    st.sampled_from(["clip", "independent"]),
    st.sampled_from([(), (8, 8), (30, 12)]),
    st.sampled_from([(), (0.01,), (1.5, 4.0)]),
    st.sampled_from([(), (16,)]),
    st.sampled_from([(), (-30.0, 0.0)]),
    st.integers(0, 1000),
)
def test_tiny_frames_go_through_everything(size, consistency, window, scales, before, turn, seed):
    """Pictures of a few pixels are resized, cut, turned and padded like others."""
    after = changed(
        charted(size, repeated=True),
        seed,
        consistency=consistency,
        window_px=window,
        scales=scales,
        crop_short_side_px=before,
        rotate_degrees=turn,
        short_side_px=(16, 20),
        long_side_px=64,
        crop=0.7,
        crop_px=(8, 12),
        flip=0.5,
        colors=1.0,
        gamma=0.5,
    )
    for k, picture in enumerate(after.frames):
        assert picture.dtype == np.uint8
        assert picture.size > 0
        assert after.masks[k].shape == (len(after.ids), *picture.shape[:2])
        assert not window or picture.shape[:2] == window
        assert after.valid is None or after.valid[k].shape == picture.shape[:2]


# --- crop and window ------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.tuples(st.integers(8, 70), st.integers(8, 70)).map(sorted),
    st.integers(0, 1000),
)
def test_a_crop_is_a_part_of_the_frame_with_sides_in_range(size, crop_px, seed):
    """No longer than the frame; shorter than the range only where the frame is."""
    before = charted(size)
    for picture in changed(before, seed, crop=1.0, crop_px=tuple(crop_px)).frames:
        x0, y0 = picture[0, 0, :2].tolist()
        height, width = picture.shape[:2]
        assert min(size[0], crop_px[0]) <= height <= min(size[0], crop_px[1])
        assert min(size[1], crop_px[0]) <= width <= min(size[1], crop_px[1])
        part = before.frames[0][y0 : y0 + height, x0 : x0 + width]
        np.testing.assert_array_equal(picture, part)


def test_all_sides_and_places_of_a_crop_come_up():
    """The ends of the range and the frame's edges too."""
    found = [changed(charted((12, 13), 1), k, crop=1.0, crop_px=(9, 11)) for k in range(300)]
    assert {sizes(one)[0] for one in found} == {(h, w) for h in (9, 10, 11) for w in (9, 10, 11)}
    assert {int(one.frames[0][0, 0, 1]) for one in found} == {0, 1, 2, 3}
    assert {int(one.frames[0][-1, -1, 0]) for one in found} == {8, 9, 10, 11, 12}


def test_a_moving_crop_keeps_flip_size_and_colours():
    """Only the part is the frame's own."""
    config = {"scales": (), "short_side_px": (60, 90), "flip": 0.5, "gamma": 0.5}
    for seed in range(20):
        one, other = changed(charted(), seed, crop=1.0, crop_px=(40, 90), **config).frames
        assert min(one.shape[:2]) == min(other.shape[:2])
        assert is_flipped(one) == is_flipped(other)
        assert len(np.unique([*one[..., 2].flat, *other[..., 2].flat])) == 1


def test_independent_frames_differ_in_everything():
    """Flip, crop and colours are each the frame's own, whatever `crop_moves` says."""
    flips, crops, blues = set(), set(), set()
    for seed in range(40):
        config = {"flip": 0.5, "crop": 0.5, "crop_px": (40, 60), "gamma": 0.5}
        pair = changed(charted(), seed, consistency="independent", crop_moves=False, **config)
        flips.add(tuple(is_flipped(picture) for picture in pair.frames))
        crops.add(tuple(size != (100, 140) for size in sizes(pair)))
        blues.add(len({int(picture[0, 0, 2]) for picture in pair.frames}))
    assert len(flips) == len(crops) == 4
    assert 2 in blues


@pytest.mark.parametrize("window", [(100, 140), (120, 150), (60, 70), (120, 70), (60, 200)])
def test_a_window_has_its_size_and_marks_its_padding(window):
    """Each side is padded or cut on its own."""
    after = changed(charted(), window_px=window)
    for k, picture in enumerate(after.frames):
        valid = np.zeros(window, bool)
        valid[:100, :140] = True
        now = np.ones(window, bool) if after.valid is None else after.valid[k]
        np.testing.assert_array_equal(now, valid)
        assert picture.shape == (*window, 3)
        assert (picture[valid][:, 2] == 90).all()
        np.testing.assert_array_equal(after.masks[k][0], valid)


def test_a_window_stands_still_in_a_clip():
    """Its place is drawn once, from edge to edge."""
    places = set()
    for seed in range(40):
        one, other = changed(charted(), seed, window_px=(98, 137)).frames
        np.testing.assert_array_equal(one, other)
        places.add(tuple(one[0, 0, :2].tolist()))
    assert {x for x, _ in places} == {0, 1, 2, 3}
    assert {y for _, y in places} == {0, 1, 2}


def test_valid_goes_through_what_follows():
    """Cut, resized, flipped and padded as the picture is."""
    white = np.full((80, 120, 3), 255, np.uint8)
    before = sample_of([white] * 2, [np.ones((1, 80, 120), bool)] * 2, repeated=True)
    for seed in range(6):
        after = changed(
            before,
            seed,
            rotate_degrees=(30.0, -20.0),
            crop=0.5,
            crop_px=(50, 80),
            scales=(2.0,),
            flip=0.5,
            window_px=(150, 300),
        )
        for picture, valid in zip(after.frames, after.valid, strict=True):
            assert valid.shape == (150, 300)
            assert valid.flags.c_contiguous
            assert iou(picture[..., 0] > 190, valid) > 0.98


# --- instances ------------------------------------------------------------------------------------


def test_instances_that_are_turned_out_of_all_frames_are_dropped():
    """Labels, ids and crowd lose them in step."""
    before = squares([(0, 0), (26, 26), (53, 53), (24, 30)])
    after = changed(before, rotate_degrees=(45.0, -45.0))
    assert after.ids.tolist() == [101, 103]
    assert after.labels.tolist() == [1, 0]
    assert after.crowd.tolist() == [True, True]
    assert after.visible().all()


def test_instances_that_one_frame_still_shows_stay_in_place():
    """Position means who, in every frame."""
    after = changed(squares([(0, 0), (26, 26)]), rotate_degrees=(45.0, 0.0))
    assert after.ids.tolist() == [100, 101]
    assert after.visible().tolist() == [[False, True], [True, True]]
    assert after.boxes()[0][0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("corners", [[], [(0, 0)]])
def test_a_clip_may_have_no_instance_or_lose_all(corners):
    """Masks of none have the frame's size."""
    config = {"rotate_degrees": (45.0, -45.0), "window_px": (50, 100), "scales": (0.7,)}
    after = changed(squares(corners), flip=1.0, **config)
    assert [masks.shape for masks in after.masks] == [(0, 50, 100)] * 2
    assert len(after.ids) == len(after.labels) == len(after.crowd) == 0


def test_single_pictures_are_not_rotated():
    """One frame repeats nothing, so no number of angles is wrong for it."""
    before = charted(num_frames=1)
    after = changed(before, rotate_degrees=(30.0, -30.0))
    np.testing.assert_array_equal(after.frames[0], before.frames[0])
    assert after.valid is None


def test_grey_stays_grey():
    """Saturation and hue change nothing in it, and brightness shifts all channels alike."""
    grey = sample_of([np.full((4, 4, 3), 120, np.uint8)], [np.ones((1, 4, 4), bool)])
    for seed in range(20):
        assert len(np.unique(changed(grey, seed, colors=1.0).frames[0])) == 1
