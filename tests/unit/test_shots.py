"""Where shots end."""

from __future__ import annotations

import numpy as np
import pytest

from vis_core.video.shots import LOOKAHEAD, CutFinder, color_histogram, distance


def scene(color, seed=0, noise=6):
    rng = np.random.default_rng(seed)
    frame = np.full((64, 96, 3), color, np.int16) + rng.integers(-noise, noise + 1, (64, 96, 3))
    frame[16:32, 16:48] = 255 - frame[16:32, 16:48]
    return frame.clip(0, 255).astype(np.uint8)


RED, BLUE, GREEN = (200, 40, 40), (40, 60, 190), (50, 180, 60)


def cuts_of(frames, start=0):
    finder, cuts = CutFinder(), []
    for index, frame in enumerate(frames):
        cuts += finder.add(start + index, frame)
    return cuts + finder.finish()


def test_a_cut_is_after_the_last_frame_of_the_old_shot():
    frames = [scene(RED, i) for i in range(6)] + [scene(BLUE, i) for i in range(6)]
    assert cuts_of(frames) == [5]


def test_no_shot_ends_before_a_flash_of_one_frame():
    """Looking ahead only, the way back from the flash looks like a cut; the way in does not."""
    frames = [scene(RED, i) for i in range(12)]
    frames[5] = np.full_like(frames[5], 255)
    assert cuts_of(frames) == [5]


def test_a_slow_fade_is_no_cut():
    mixes = np.linspace(0, 1, 25)
    red, blue = (scene(color, noise=40).astype(float) for color in (RED, BLUE))
    assert cuts_of([((1 - m) * red + m * blue).astype(np.uint8) for m in mixes]) == []


def test_a_fast_pan_is_no_cut():
    rng = np.random.default_rng(1)
    wide = np.repeat(rng.integers(0, 256, (64, 60, 3)), 16, axis=1).astype(np.uint8)
    assert cuts_of([wide[:, x : x + 96] for x in range(0, 800, 32)]) == []


def test_content_that_changes_with_every_frame_has_no_cuts():
    rng = np.random.default_rng(2)
    frames = [np.full((64, 64, 3), rng.integers(0, 256, 3), np.uint8) for _ in range(20)]
    assert [cut for cut in cuts_of(frames) if cut < 18] == []


def test_two_cuts_in_a_row_of_short_shots():
    frames = [scene(c, i) for c in (RED, BLUE, GREEN) for i in range(4)]
    assert cuts_of(frames) == [3, 7]


@pytest.mark.parametrize("left", [1, 2, 3])
def test_a_cut_shortly_before_the_end_is_found_with_the_frames_there_are(left):
    frames = [scene(RED, i) for i in range(5)] + [scene(BLUE, i) for i in range(left)]
    assert cuts_of(frames) == [4]


def test_the_last_frame_ends_no_shot():
    assert cuts_of([scene(RED)]) == []
    assert cuts_of([]) == []


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shard_borders_change_nothing(size):
    """Each shard sees its own frames and LOOKAHEAD more; together they find what one run finds."""
    colors = [RED] * 5 + [BLUE] * 2 + [GREEN] * 6 + [RED] * 1 + [GREEN] * 4 + [BLUE] * 3
    frames = [scene(color, i) for i, color in enumerate(colors)]
    found = []
    for start in range(0, len(frames), size):
        cuts = cuts_of(frames[start : start + size + LOOKAHEAD], start)
        found += [cut for cut in cuts if cut < start + size]
    assert found == cuts_of(frames)
    assert found


def test_histograms_sum_to_one_and_have_the_expected_bin():
    histogram = color_histogram(np.full((40, 40, 3), (255, 0, 32), np.uint8))
    assert histogram[7 * 64 + 0 * 8 + 1] == 1
    assert histogram.sum() == 1


def test_distance_is_the_share_of_changed_pixels():
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, :32] = 255
    assert distance(color_histogram(half), color_histogram(half * 0)) == pytest.approx(0.5)
