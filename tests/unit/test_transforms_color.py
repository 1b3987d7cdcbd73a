"""Changes of colour."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from vis_core.data.transforms.color import ColorChange, change_colors, draw_change

PICTURE = np.random.default_rng(3).integers(0, 256, (8, 9, 3)).astype(np.uint8)


def test_neutral_is_the_picture_itself():
    assert change_colors(PICTURE, ColorChange()) is PICTURE
    assert change_colors(PICTURE, ColorChange(contrast_first=False)) is PICTURE
    assert draw_change(np.random.default_rng(0), 0.0, 0.0) in (
        ColorChange(),
        ColorChange(contrast_first=False),
    )


def test_brightness_then_contrast():
    changed = change_colors(PICTURE, ColorChange(brightness=10.0, contrast=1.5))
    expected = np.clip(np.rint((PICTURE + 10.0) * 1.5), 0, 255)
    np.testing.assert_array_equal(changed, expected)


@pytest.mark.parametrize("contrast_first", [True, False])
def test_saturation_and_hue_by_definition(contrast_first):
    """As Python's own colorsys has it, within a grey level; 9 is 18 of 360 degrees."""
    picture = (PICTURE // 2 + 40).astype(np.uint8)  # nothing is cut off on the way
    change = ColorChange(
        saturation=1.2, hue=9.0, contrast=1.1, contrast_first=contrast_first, brightness=5.0
    )
    changed = change_colors(picture, change)
    for old, new in zip(picture.reshape(-1, 3), changed.reshape(-1, 3), strict=True):
        values = (old + 5.0) * (1.1 if contrast_first else 1.0)
        hue, saturation, value = colorsys.rgb_to_hsv(*np.clip(values / 255, 0, 1))
        expected = np.array(
            colorsys.hsv_to_rgb((hue + 18 / 360) % 1, min(1, saturation * 1.2), value)
        )
        expected = 255 * expected * (1.0 if contrast_first else 1.1)
        assert np.abs(np.clip(expected, 0, 255) - new).max() <= 1


def test_gamma_by_its_table():
    changed = change_colors(PICTURE, ColorChange(gamma=0.8))
    np.testing.assert_array_equal(changed, np.rint(255 * (PICTURE / 255) ** (1 / 0.8)))


def test_draws_stay_within_their_ranges():
    """SSD's: 32 grey levels, half as much again, 18 degrees; each about half the time."""
    draws = [draw_change(np.random.default_rng(seed), 1.0, 0.2) for seed in range(400)]
    for name, neutral, reach in (
        ("brightness", 0, 32),
        ("contrast", 1, 0.5),
        ("saturation", 1, 0.5),
        ("hue", 0, 9),
    ):
        values = np.array([getattr(draw, name) for draw in draws]) - neutral
        assert 0.9 * reach < np.abs(values).max() <= reach
        assert 150 < (values == 0).sum() < 250
    gammas = [draw.gamma for draw in draws]
    assert 0.8 <= min(gammas) < 0.82 and 1.18 < max(gammas) <= 1.2
