"""Windows of many clips in one: masks go where their pixels go, and nobody is there twice."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from tests.unit.test_transforms import make_clip
from vis_core.data.mosaic import MosaicConfig, mosaic
from vis_core.data.sample import Sample
from vis_core.errors import UsageError

CONFIG = MosaicConfig(window_px=32, tiles=2)


def made(seed=0, config=CONFIG, **kwargs):
    return mosaic(itertools.repeat(make_clip(**kwargs)), config, np.random.default_rng(seed))


def empty_clip(size=(60, 80), frames=1):
    return Sample(
        video_id="empty",
        frame_index=np.arange(frames),
        frames=[np.full((*size, 3), 7, np.uint8)] * frames,
        masks=[np.zeros((0, *size), bool)] * frames,
        labels=np.zeros(0, int),
        ids=np.zeros(0, int),
        crowd=np.zeros(0, bool),
    )


@pytest.mark.parametrize("seed", range(20))
def test_masks_are_where_their_instance_is(seed):
    found = made(seed)
    colors = np.array([[255, 0, 0], [0, 255, 0]])
    for frame, masks in zip(found.frames, found.masks, strict=True):
        assert frame.shape == (64, 64, 3)
        for label, mask in zip(found.labels.tolist(), masks, strict=True):
            assert (frame[mask] == colors[label]).all()
        # What is coloured and no mask is the sliver of an instance beside the window.
        assert masks.sum() >= 0.7 * (frame > 0).any(-1).sum()


def test_no_instance_is_in_a_mosaic_twice():
    """Windows of 48 pixels around one disc often show the other, which then has none of its own."""
    config, both = MosaicConfig(window_px=48, tiles=2), 0
    for seed in range(20):
        clips = (
            dataclasses.replace(make_clip(), labels=np.array([2 * number, 2 * number + 1]))
            for number in itertools.count()
        )
        labels = mosaic(clips, config, np.random.default_rng(seed)).labels
        assert len(set(labels.tolist())) == len(labels)
        both += len(labels) > 4
    assert both >= 10


@pytest.mark.parametrize("seed", range(20))
def test_every_instance_is_seen_and_slivers_are_not(seed):
    """Each is somewhere; and nowhere with less than 30 % of its pixels."""
    clip, found = make_clip(), made(seed)
    assert found.ids.tolist() == list(range(len(found.labels)))
    whole_LN = np.stack([masks.sum(axis=(1, 2)) for masks in clip.masks])[:, found.labels]
    seen_LN = np.stack([masks.sum(axis=(1, 2)) for masks in found.masks])
    assert (seen_LN > 0).any(axis=0).all()
    assert ((seen_LN == 0) | (seen_LN > 0.3 * whole_LN)).all()


def test_frames_have_their_windows_in_orders_of_their_own():
    """In a clip that stands still the same instance is in other cells."""
    apart = 0
    for seed in range(20):
        found = made(seed, repeated=True)
        first, second = (
            [tuple(np.argwhere(m).mean(0) // 32) for m in masks if m.any()] for masks in found.masks
        )
        apart += first != second
    assert apart >= 15


def test_clips_without_instances_show_background():
    found = mosaic(itertools.repeat(empty_clip()), CONFIG, np.random.default_rng(0))
    assert len(found.labels) == 0 and (found.frames[0] == 7).all()


def test_instances_larger_than_a_window_have_none():
    """Discs of 22 and 18 pixels: only the smaller one fits into 90 % of 22."""
    config = MosaicConfig(window_px=22, tiles=1)
    for seed in range(10):
        found = mosaic([make_clip()], config, np.random.default_rng(seed))
        assert 1 in found.labels


def test_it_is_a_function_of_clips_config_and_generator():
    one, other, third = made(3), made(3), made(4)
    assert all((a == b).all() for a, b in zip(one.frames, other.frames, strict=True))
    assert any((a != b).any() for a, b in zip(one.frames, third.frames, strict=True))


def test_a_window_larger_than_a_frame_is_refused():
    config = MosaicConfig(window_px=61, tiles=2)
    with pytest.raises(UsageError, match=r"window_px: expected at most the shorter side .* got 61"):
        mosaic([make_clip()], config, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"window_px": 8, "tiles": 2}, "window_px: expected 16 to 4096"),
        ({"window_px": 64, "tiles": 0}, "tiles: expected 1 to 64"),
    ],
)
def test_settings_out_of_bounds(values, expected):
    with pytest.raises(ValueError, match=expected):
        MosaicConfig(**values)
