"""What becomes of clips before a network sees them: masks follow pictures, frames each other."""

from __future__ import annotations

import dataclasses
import multiprocessing
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vis_core.config import as_values, build
from vis_core.data.sample import Sample, boxes_of
from vis_core.data.transforms import TransformConfig, transform
from vis_core.errors import UsageError

PLAIN = TransformConfig(flip=0.0, short_side_px=(60,))  # leaves 60 x 80 as it is


def disc(size, y, x, radius):
    rows, columns = np.ogrid[: size[0], : size[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def make_clip(num_frames=2, size=(60, 80), *, repeated=False, background=0):
    """Two discs, in red and in green, that move to the right; their masks are where they are."""
    frames, masks = [], []
    for t in range(num_frames):
        step = 0 if repeated else 4 * t
        both = np.stack([disc(size, 20, 22 + step, 11), disc(size, 42, 48 + step, 9)])
        frame = np.full((*size, 3), background, np.uint8)
        frame[both[0]] = (255, 0, 0)
        frame[both[1]] = (0, 255, 0)
        frames.append(frame)
        masks.append(both)
    return Sample(
        video_id="v",
        frame_index=np.zeros(num_frames, int) if repeated else np.arange(num_frames),
        frames=frames,
        masks=masks,
        labels=np.array([0, 1]),
        ids=np.array([5, 9]),
        crowd=np.array([False, False]),
    )


def run(sample, seed=0, **changes):
    return transform(
        sample, dataclasses.replace(PLAIN, **changes), np.random.default_rng([seed, 1, 2])
    )


def overlaps(sample):
    """Per frame and instance: IoU of its mask with the pixels of its colour."""
    for frame, masks in zip(sample.frames, sample.masks, strict=True):
        for identity, mask in zip(sample.ids.tolist(), masks, strict=True):
            colored = frame[..., 0 if identity == 5 else 1] > 127
            union = (mask | colored).sum()
            if union:
                yield (mask & colored).sum() / union, int(union)


def same(a, b):
    return (
        all(np.array_equal(x, y) for x, y in zip(a.frames, b.frames, strict=True))
        and all(np.array_equal(x, y) for x, y in zip(a.masks, b.masks, strict=True))
        and np.array_equal(a.ids, b.ids)
    )


# --- pictures and masks alike ---------------------------------------------------------------------


def test_nothing_asked_nothing_done():
    clip = make_clip()
    assert same(run(clip), clip) and run(clip).valid is None


def test_flip_is_exact():
    clip = make_clip()
    flipped = run(clip, flip=1.0)
    for t in range(2):
        np.testing.assert_array_equal(flipped.frames[t], clip.frames[t][:, ::-1])
        np.testing.assert_array_equal(flipped.masks[t], clip.masks[t][:, :, ::-1])


def test_crops_and_windows_are_exact():
    """Without a change of size, masks stay where the colours are to the pixel."""
    for seed in range(20):
        cut = run(make_clip(), seed, scales=(1.0,), crop=1.0, crop_px=(30, 50), window_px=(40, 55))
        assert all(share == 1 for share, _ in overlaps(cut))
        assert all(frame.shape == (40, 55, 3) for frame in cut.frames)


@settings(max_examples=60, deadline=None)
@given(
    short_side=st.sampled_from([40, 57, 60, 96, 150]),
    crop=st.sampled_from([0.0, 1.0]),
    crop_first=st.sampled_from([(), (50, 90)]),
    window=st.sampled_from([(), (64, 64)]),
    rotate=st.sampled_from([(), (-30.0, 0.0, 30.0)]),
    consistency=st.sampled_from(["clip", "independent"]),
    repeated=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_masks_follow_the_picture(
    short_side, crop, crop_first, window, rotate, consistency, repeated, seed
):
    """Discs and masks stay together but for their borders, whatever is combined."""
    clip = make_clip(3, repeated=repeated)
    done = run(
        clip,
        seed,
        short_side_px=(short_side,),
        flip=0.5,
        crop=crop,
        crop_px=(24, 48),
        crop_short_side_px=crop_first,
        window_px=window,
        rotate_degrees=rotate,
        consistency=consistency,
    )
    for share, union in overlaps(done):
        missed = (1 - share) * union
        # About a pixel along the border; a crop is made larger afterwards, and its steps with it.
        step = max(1.0, short_side / 24) if crop else max(1.0, short_side / 60)
        assert missed <= 3.5 * step * np.sqrt(union) + 3, (share, union)
    assert len(done) == 3 and all(
        masks.shape == (len(done.ids), *frame.shape[:2])
        for masks, frame in zip(done.masks, done.frames, strict=True)
    )
    assert done.visible().any(axis=0).all()
    for frame in done.frames:
        assert frame.flags.c_contiguous and frame.dtype == np.uint8


def test_resizing_shifts_nothing():
    """Nearest neighbours leave a mask's centre within half a pixel of its colours', on no side."""
    shifts = []
    for short_side in (17, 47, 53, 59, 61, 71, 97, 120, 150):
        done = run(make_clip(), short_side_px=(short_side,))
        for frame, masks in zip(done.frames, done.masks, strict=True):
            for channel, mask in enumerate(masks):
                weights = frame[..., channel].astype(float)
                middle = [(grid * weights).sum() / weights.sum() for grid in np.indices(mask.shape)]
                shifts += (np.argwhere(mask).mean(axis=0) - middle).tolist()
    assert np.abs(shifts).max() < 0.5 and abs(np.mean(shifts)) < 0.1


def test_inputs_stay_as_they_are():
    """Frames may be read-only pieces of a file."""
    clip, kept = make_clip(background=90), make_clip(background=90)
    for frame in clip.frames:
        frame.flags.writeable = False
    run(clip, flip=1.0, colors=2.0, gamma=0.3, crop=1.0, crop_px=(20, 40), window_px=(50, 50))
    assert same(clip, kept)


def test_boxes_are_those_of_the_masks():
    done = run(make_clip(), short_side_px=(90,), flip=1.0)
    for boxes, masks in zip(done.boxes(), done.masks, strict=True):
        for box, mask in zip(boxes, masks, strict=True):
            rows, columns = np.nonzero(mask)
            ends = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box.tolist() == ends


def test_boxes_of_nothing():
    assert boxes_of(np.zeros((1, 4, 5), bool)).tolist() == [[0, 0, 0, 0]]
    assert boxes_of(np.zeros((0, 4, 5), bool)).shape == (0, 4)


# --- sizes ----------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.integers(16, 200), st.integers(16, 200), st.integers(16, 120), st.integers(16, 160))
def test_short_side_and_its_cap(height, width, short_side, long_side):
    """The short side as asked, or the long one at its cap; the shape is kept to a pixel."""
    frame = np.zeros((height, width, 3), np.uint8)
    clip = dataclasses.replace(
        make_clip(1), frames=[frame], masks=[np.ones((2, height, width), bool)]
    )
    done = run(clip, short_side_px=(short_side,), long_side_px=long_side).frames[0]
    new_height, new_width = done.shape[:2]
    assert max(new_height, new_width) <= long_side
    assert min(new_height, new_width) == short_side or max(new_height, new_width) == long_side
    scale = min(short_side / min(height, width), long_side / max(height, width))
    assert abs(new_height - height * scale) <= 0.5 and abs(new_width - width * scale) <= 0.5


def test_all_choices_come():
    sizes = {
        run(make_clip(1), seed, short_side_px=(40, 50, 70)).frames[0].shape for seed in range(40)
    }
    assert sizes == {(40, 53, 3), (50, 67, 3), (70, 93, 3)}
    scaled = {run(make_clip(1), seed, scales=(0.5, 1.0)).frames[0].shape for seed in range(40)}
    assert scaled == {(30, 40, 3), (60, 80, 3)}


def test_crop_sides_are_drawn_apart_within_their_range():
    """IDOL: each side between min(side, 384) and min(side, 600); half of the clips."""
    shapes = [
        run(make_clip(1), seed, crop=0.5, crop_px=(30, 70), scales=(1.0,)).frames[0].shape[:2]
        for seed in range(300)
    ]
    cut = [shape for shape in shapes if shape != (60, 80)]
    assert 100 < len(cut) < 200
    heights, widths = np.array(cut).T
    assert heights.min() == 30 and heights.max() == 60  # the frame's own height, not 70
    assert widths.min() >= 30 and widths.max() <= 70 and np.any(heights != widths)


def test_padding_is_grey_and_no_picture():
    """Right and below, where a frame is smaller than the window."""
    done = run(make_clip(), scales=(0.5,), window_px=(64, 64))
    for frame, valid in zip(done.frames, done.valid, strict=True):
        assert frame.shape == (64, 64, 3)
        assert valid[:30, :40].all() and valid.sum() == 30 * 40
        assert (frame[~valid] == (124, 116, 104)).all()
    again = run(done, scales=(1.0,), flip=1.0)
    np.testing.assert_array_equal(again.valid[0], done.valid[0][:, ::-1])


# --- pseudo-videos --------------------------------------------------------------------------------


def test_rotation_by_its_angles():
    """Propose-Reduce: -30, 0 and 30 degrees over the frames, black and invalid where it is new."""
    clip = make_clip(3, repeated=True, background=200)
    done = run(clip, rotate_degrees=(-30.0, 0.0, 30.0))
    np.testing.assert_array_equal(done.frames[1], clip.frames[1])
    assert done.valid[1].all()
    for t, angle in ((0, -30), (2, 30)):
        assert not done.valid[t][0, 0] and done.valid[t][30, 40]
        inside = done.valid[t]
        assert (done.frames[t][~inside].mean(axis=1) < 110).all()
        # The middle of the first disc, turned about the middle of the picture (y points down).
        y, x = 20 - 29.5, 22 - 39.5
        turn = np.deg2rad(angle)
        where = (
            29.5 + y * np.cos(turn) - x * np.sin(turn),
            39.5 + x * np.cos(turn) + y * np.sin(turn),
        )
        rows, columns = np.nonzero(done.masks[t][0])
        assert abs(rows.mean() - where[0]) < 1 and abs(columns.mean() - where[1]) < 1


def test_real_videos_stay_upright():
    clip = make_clip(3)
    assert same(run(clip, rotate_degrees=(-30.0, 0.0, 30.0)), clip)


def test_angles_are_those_of_the_frames():
    with pytest.raises(UsageError, match="an angle for each of a clip's 3 frames, got 2"):
        run(make_clip(3, repeated=True), rotate_degrees=(-30.0, 30.0))


def test_instances_that_no_frame_shows_are_dropped():
    """One that is left in some frame stays in all, so that positions are identities."""
    clip = make_clip(3)
    gone = [masks.copy() for masks in clip.masks]
    gone[0][1] = gone[2][1] = False
    kept = run(dataclasses.replace(clip, masks=gone))
    assert kept.ids.tolist() == [5, 9]
    assert kept.visible().tolist() == [[True, False], [True, True], [True, False]]
    gone[1][1] = False
    left = run(dataclasses.replace(clip, masks=gone))
    assert left.ids.tolist() == [5] and left.labels.tolist() == [0] and len(left.crowd) == 1
    assert all(masks.shape == (1, 60, 80) for masks in left.masks)


# --- alike or apart -------------------------------------------------------------------------------

VARIED = {
    "flip": 0.5,
    "short_side_px": (40, 50, 60, 70),
    "crop": 0.5,
    "crop_px": (30, 50),
    "colors": 1.0,
    "gamma": 0.2,
}


def test_clip_means_alike():
    for seed in range(20):
        done = run(make_clip(3, repeated=True), seed, **VARIED, crop_moves=False)
        for frame, masks in zip(done.frames, done.masks, strict=True):
            np.testing.assert_array_equal(frame, done.frames[0])
            np.testing.assert_array_equal(masks, done.masks[0])


def test_independent_means_apart():
    """Pseudo pairs: size, flip and part are drawn for each frame."""
    alike = 0
    for seed in range(40):
        done = run(make_clip(2, repeated=True), seed, **VARIED, consistency="independent")
        alike += np.array_equal(done.frames[0], done.frames[1])
    assert alike <= 1


def test_moving_crops_share_everything_else():
    """IDOL: whether there is a crop, and the flip, are the pair's; the window is the frame's."""
    shapes = set()
    for seed in range(40):
        done = run(make_clip(2, repeated=True), seed, crop=0.5, crop_px=(30, 50), scales=(1.0,))
        first, second = (frame.shape for frame in done.frames)
        assert (first == (60, 80, 3)) == (second == (60, 80, 3))
        shapes.add(first == second)
    assert shapes == {True, False}
    for seed in range(40):
        done = run(make_clip(2, repeated=True, background=50), seed, flip=0.5, crop_moves=True)
        np.testing.assert_array_equal(done.frames[0], done.frames[1])


def _bytes_of(seed):
    done = run(make_clip(2), seed, **VARIED, window_px=(48, 48), consistency="independent")
    return [frame.tobytes() for frame in done.frames] + [mask.tobytes() for mask in done.masks]


def test_loader_processes_change_nothing():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        elsewhere = pool.map(_bytes_of, [3, 1, 2])
    assert elsewhere == [_bytes_of(3), _bytes_of(1), _bytes_of(2)]
    assert _bytes_of(1) != _bytes_of(2)


def test_colours_move_no_pixel():
    """Switching colours on leaves sizes, parts and flips as they were."""
    still = {**VARIED, "colors": 0.0, "gamma": 0.0}
    for seed in range(10):
        a, b = run(make_clip(), seed, **VARIED), run(make_clip(), seed, **still)
        assert all(np.array_equal(x, y) for x, y in zip(a.masks, b.masks, strict=True))


# --- settings and samples -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"flip": 1.5}, "flip: expected 0 to 1, got 1.5"),
        ({"crop": float("nan")}, "crop: expected"),
        ({"crop_px": (5,)}, "crop_px: expected"),
        ({"crop_px": (600, 384)}, "crop_px: expected shortest,longest"),
        ({"window_px": (64,)}, "window_px: expected height,width"),
        ({"short_side_px": ()}, "short_side_px: expected one or more"),
        ({"short_side_px": (0,)}, "short_side_px: expected"),
        ({"long_side_px": 3}, "long_side_px: expected"),
        ({"scales": (0.0,)}, "scales: expected"),
        ({"colors": -1.0}, "colors: expected"),
        ({"gamma": 1.0}, "gamma: expected"),
        ({"consistency": "both"}, "consistency: expected"),
    ],
)
def test_bad_settings(setting, message):
    with pytest.raises(ValueError, match=message):
        TransformConfig(**setting)


def test_settings_survive_a_job_file():
    config = dataclasses.replace(PLAIN, **VARIED, rotate_degrees=(-30.0, 0.0, 30.0))
    assert build(TransformConfig, as_values(config)) == config
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301 - our own


def test_samples_are_checked():
    clip = make_clip()
    with pytest.raises(ValueError, match=r"masks: expected one per frame \(2\), got 1"):
        dataclasses.replace(clip, masks=clip.masks[:1])
    with pytest.raises(ValueError, match=r"masks: expected \(1, 60, 80\), got \(2, 60, 80\)"):
        dataclasses.replace(clip, labels=clip.labels[:1])
    assert repr(clip) == "Sample('v', frames of 80x60, 80x60, 2 instances)"
