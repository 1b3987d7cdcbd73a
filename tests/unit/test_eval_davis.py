"""J and F of the DAVIS unsupervised task: fast contours equal dense ones, and the rules."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation

from tests.support.random_tracks import random_masks, random_tracks
from tests.unit.test_eval_ytvis import A, B, truth_of, video_of
from vis_core.eval.davis import MOST_OBJECTS, Contours, DavisScore, score_objects, scored_objects
from vis_core.formats.label_maps import LabelMaps, regions
from vis_core.masks import rle


def dense_contour(mask):
    """A pixel is on the contour if the one to the right, below, or both differs."""
    east, south, both = mask.copy(), mask.copy(), mask.copy()
    east[:, :-1] = mask[:, 1:]
    south[:-1] = mask[1:]
    both[:-1, :-1] = mask[1:, 1:]
    both[-1, :-1] = mask[-1, 1:]
    both[:-1, -1] = mask[1:, -1]
    return (mask ^ east) | (mask ^ south) | (mask ^ both)


def disk(radius):
    side = np.arange(-radius, radius + 1)
    return side[:, None] ** 2 + side**2 <= radius**2


def dense_f(a, b, radius):
    ours, theirs = dense_contour(a), dense_contour(b)
    if not ours.any() or not theirs.any():
        return float(ours.any() == theirs.any())
    precision = (ours & binary_dilation(theirs, disk(radius))).sum() / ours.sum()
    recall = (theirs & binary_dilation(ours, disk(radius))).sum() / theirs.sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.tuples(st.integers(1, 24), st.integers(1, 24)), st.integers(1, 6))
def test_contours_equal_dense_ones(seed, size, radius):
    rng = np.random.default_rng(seed)
    masks = random_masks(rng, 5, size)
    dense = rle.decode(masks, size)
    contours = Contours(rle.crops(masks, size), size, radius)
    assert contours.lengths.tolist() == [dense_contour(mask).sum() for mask in dense]
    near = contours.near(contours)
    for i, a in enumerate(dense):
        for j, b in enumerate(dense):
            expected = dense_contour(a) & binary_dilation(dense_contour(b), disk(radius))
            assert near[i, j] == expected.sum()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 5))
def test_scores_equal_dense_ones(seed, num_objects, num_found):
    """One frame, so that the assignment can be tried in full."""
    size = (17, 23)
    truth = random_tracks(seed, num_tracks=num_objects, num_frames=1, size=size)
    found = random_tracks(seed + 1, num_tracks=num_found, num_frames=1, size=size)
    maps = LabelMaps(found, MOST_OBJECTS).frame(0)
    rows = max(num_objects, int(maps.max()))
    table = np.zeros((rows, num_objects, 2))
    dense = np.zeros((num_objects, *size), bool)
    dense[truth.owner] = rle.decode(truth.masks, size)
    for i in range(rows):
        for j, theirs in enumerate(dense):
            ours = maps == i + 1
            union = (ours | theirs).sum()
            table[i, j] = (ours & theirs).sum() / union if union else 1, dense_f(ours, theirs, 1)
    got = score_objects(truth, np.arange(num_objects), found)
    best = max(
        table[list(order), np.arange(num_objects)].sum()
        for order in itertools.permutations(range(rows), num_objects)
    )
    assert got.sum() == pytest.approx(best)
    for j, row in enumerate(got):
        assert any(np.allclose(row, table[i, j]) for i in range(rows))


def result_of(truth, found):
    metric = DavisScore()
    metric.add(0, truth, found)
    return metric.result()


def test_the_truth_itself_is_perfect():
    truth = truth_of([(1, A, A), (1, B, None)])
    assert result_of(truth, truth.tracks) == {"J&F": 100, "J": 100, "F": 100}


def test_nothing_found_is_right_only_where_nothing_is():
    figures = result_of(truth_of([(1, A, None)]), video_of([]))
    assert figures == {"J&F": 50, "J": 50, "F": 50}


def test_extra_predictions_cost_nothing_unless_they_cover():
    truth = truth_of([(1, A, A)])
    beside = video_of([(1, 0.9, B, B), (1, 0.1, A, A)])
    over = video_of([(1, 0.9, (0, 0, 5, 10), (0, 0, 5, 10)), (1, 0.1, A, A)])
    assert result_of(truth, beside)["J"] == 100
    assert result_of(truth, over)["J"] == 50


def test_only_the_best_twenty_count():
    truth = truth_of([(1, A, A)])
    weak = [(1, 0.9, B, B)] * 20
    assert result_of(truth, video_of([*weak[:19], (1, 0.1, A, A)]))["J"] == 100
    assert result_of(truth, video_of([*weak, (1, 0.1, A, A)]))["J"] == 0


def test_objects_count_up_to_the_last_of_the_first_frame(caplog):
    truth = truth_of([(1, None, A), (1, B, B), (1, None, A)])
    assert scored_objects(truth).tolist() == [0, 1]
    result_of(truth, truth.tracks)
    assert "1 truth objects are not scored" in caplog.text


def test_no_object_no_figure():
    assert result_of(truth_of([]), video_of([(1, 0.5, A, A)])) == dict.fromkeys(("J&F", "J", "F"))


def test_label_maps_give_a_pixel_to_the_higher_score_and_ties_to_the_first():
    found = video_of([(1, 0.2, A, None), (1, 0.7, (0, 0, 5, 5), A), (1, 0.2, A, B)])
    maps = LabelMaps(found)
    labels, crops = regions(maps.frame(0))
    assert labels.tolist() == [1, 2]  # the third is hidden by the first, which has its score
    assert [int(crop.mask.sum()) for crop in crops] == [25, 75]
    assert maps.labels.tolist() == [2, 1, 3]
    assert regions(maps.frame(1))[0].tolist() == [1, 3]
