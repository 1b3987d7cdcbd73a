"""The propose_reduce linker: reduction rule by rule, and what happens where windows meet."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pytest

from tests.support import reference_sequences as reference
from tests.support.fakes import empty_prediction, fake_video
from tests.support.rows import Box, box_masks, row
from vis_core.association import mask_file
from vis_core.association.mask_file import MaskFile
from vis_core.association.propose_reduce import hard_nms, per_category, soft_nms
from vis_core.association.sequence_iou import Overlaps, OverlapSums
from vis_core.config import build
from vis_core.errors import UsageError
from vis_core.masks import rle
from vis_core.system import link
from vis_core.systems.propose_reduce import ProposeReduceLinkConfig, ProposeReduceLinker
from vis_core.types import FramePrediction, Hole, TrackPlan
from vis_core.windows import WindowSpec, window_ranges

SIZE = (8, 200)
EMPTY = (0, 0, 0, 0)


@dataclasses.dataclass(frozen=True)
class Seen:
    """A proposed sequence: its box by frame, and class scores, the same in every frame."""

    boxes: Mapping[int, Box]
    scores: Sequence[float] = (0.9,)


def still(frames: Iterable[int], left: int, width: int = 8) -> dict[int, Box]:
    """A box that stays where it is."""
    return dict.fromkeys(frames, (left, 0, left + width, 8))


def rows(
    sequences: Mapping[int, Seen], frames: Iterable[int], window: int = 0
) -> list[FramePrediction]:
    """One row per frame; instances in descending order of proposal, which must not matter."""
    found = []
    for frame in frames:
        here = [k for k in sorted(sequences, reverse=True) if frame in sequences[k].boxes]
        if not here:
            empty = empty_prediction("v", frame)
            found.append(dataclasses.replace(empty, window=window, height=SIZE[0], width=SIZE[1]))
            continue
        masks = box_masks([sequences[k].boxes[frame] for k in here], SIZE)
        found.append(
            row(
                frame,
                masks,
                SIZE,
                class_scores=[sequences[k].scores for k in here],
                proposals=np.array(here, np.int32),
                window=window,
            )
        )
    return found


def linked(predictions: Sequence[FramePrediction | Hole], **values: object) -> list[TrackPlan]:
    video = fake_video("v", 100, height=SIZE[0], width=SIZE[1])
    return link(ProposeReduceLinker(ProposeReduceLinkConfig(**values)), video, predictions)


def tracks(
    predictions: Sequence[FramePrediction | Hole], **values: object
) -> list[list[tuple[int, int, int]]]:
    """Window, frame and proposal of each mask, track by track."""
    by_row = {(p.window, p.frame_index): p for p in predictions if isinstance(p, FramePrediction)}
    found = []
    for plan in linked(predictions, **values):
        windows = plan.window if plan.window is not None else np.zeros_like(plan.frame_index)
        triples = zip(
            windows.tolist(), plan.frame_index.tolist(), plan.instance.tolist(), strict=True
        )
        found.append([(w, f, int(by_row[w, f].proposals[i])) for w, f, i in triples])
    return found


def kept(sequences: Mapping[int, Seen], num_frames: int = 4, **values: object) -> list[int]:
    """Proposals in the order of selection, of one window."""
    return [track[0][2] for track in tracks(rows(sequences, range(num_frames)), **values)]


# --- scenarios ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([0, 1, 2, 3, 4, 5], id="always there"),
        pytest.param([3, 4, 5], id="birth"),
        pytest.param([0, 1, 2], id="death"),
        pytest.param([0, 1, 4, 5], id="gap"),
        pytest.param([2], id="a single frame"),
    ],
)
def test_a_sequence_is_there_where_its_masks_are(frames):
    sequences = {0: Seen(still(range(6), 0)), 1: Seen(still(frames, 50))}
    assert tracks(rows(sequences, range(6)))[1] == [(0, frame, 1) for frame in frames]


def test_sequences_that_cross_stay_two():
    there = {t: (10 * t, 0, 10 * t + 10, 8) for t in range(9)}
    back = {t: (80 - 10 * t, 0, 90 - 10 * t, 8) for t in range(9)}
    found = tracks(rows({0: Seen(there), 1: Seen(back, (0.8,))}, range(9)))
    assert found == [[(0, t, k) for t in range(9)] for k in (0, 1)]


def test_of_equal_scores_the_earlier_proposal_wins():
    copies = {k: Seen(still(range(4), 0)) for k in (7, 3, 5)}
    assert kept(copies) == [3]


def test_an_overlap_exactly_at_the_threshold_suppresses():
    whole, half, less = still(range(4), 0, 8), still(range(4), 4, 4), still(range(4), 5, 3)
    assert kept({0: Seen(whole), 1: Seen(half, (0.8,))}, nms=0.5) == [0]
    assert kept({0: Seen(whole), 1: Seen(less, (0.8,))}, nms=0.5) == [0, 1]


def test_overlap_counts_all_frames_of_both():
    """Half of the frames overlap wholly, half not at all: one third."""
    early, late = still(range(4), 0), still(range(2, 6), 0)
    sequences = {0: Seen(early), 1: Seen(late, (0.8,))}
    assert kept(sequences, 6, nms=0.34) == [0, 1]
    assert kept(sequences, 6, nms=1 / 3) == [0]


@pytest.mark.parametrize(
    ("score", "expected"), [(0.05, [0, 1]), (np.nextafter(np.float32(0.05), np.float32(0)), [0])]
)
def test_a_score_exactly_at_the_threshold_is_selected(score, expected):
    sequences = {0: Seen(still(range(4), 0)), 1: Seen(still(range(4), 50), (score,))}
    assert kept(sequences, emit=0.0) == expected


def test_the_best_is_kept_however_low_it_scores():
    sequences = {0: Seen(still(range(4), 0), (0.01,)), 1: Seen(still(range(4), 50), (0.02,))}
    assert kept(sequences, emit=0.0) == [1]
    assert kept(sequences) == []  # but written only from 0.05


def test_frames_without_instances_are_no_end():
    sequences = {0: Seen(still([0, 1, 5, 6], 0))}
    assert tracks(rows(sequences, range(8))) == [[(0, t, 0) for t in (0, 1, 5, 6)]]


@pytest.mark.parametrize("predictions", [[], [Hole(start=0, stop=9)], rows({}, range(3))])
def test_a_video_without_instances_has_no_tracks(predictions):
    assert linked(predictions) == []


def test_a_video_of_one_frame():
    assert tracks(rows({4: Seen(still([0], 0))}, [0])) == [[(0, 0, 4)]]


def test_a_hole_leaves_a_gap():
    predictions = rows({0: Seen(still(range(6), 0))}, range(6))
    del predictions[2:4]
    found = tracks([*predictions, Hole(start=2, stop=4)])
    assert found == [[(0, t, 0) for t in (0, 1, 4, 5)]]


def test_five_hundred_instances_in_a_frame():
    """Groups of five near copies at 100 places: the best of each group stays."""
    scores = np.random.default_rng(0).permutation(500) / 1000 + 0.4
    sequences = {k: Seen(still(range(3), 2 * (k // 5), 2), (float(scores[k]),)) for k in range(500)}
    best = scores.reshape(100, 5).argmax(axis=1) + 5 * np.arange(100)
    assert kept(sequences, 3) == sorted(best.tolist(), key=lambda k: -scores[k])


# --- scores ---------------------------------------------------------------------------------------


def varying(scores_by_frame: Mapping[int, Sequence[float]], left: int = 0) -> list[FramePrediction]:
    """One proposal; a frame with scores of None is there with an empty mask."""
    found = []
    for frame, scores in scores_by_frame.items():
        box = (left, 0, left + 8, 8) if scores else EMPTY
        masks = box_masks([box], SIZE)
        table = [scores or (0.9, 0.9)]
        found.append(row(frame, masks, SIZE, class_scores=table, proposals=np.array([0], np.int32)))
    return found


def test_the_score_is_the_mean_over_visible_frames():
    (plan,) = linked(varying({0: (0.2, 0.6), 1: None, 2: (0.4, 0.5), 3: None}))
    assert plan.class_scores == pytest.approx([0.3, 0.55])
    assert (plan.label, plan.score) == (2, pytest.approx(0.55))
    assert plan.frame_index.tolist() == [0, 2]


def test_the_papers_score_is_the_mean_over_all_frames():
    (plan,) = linked(varying({0: (0.2, 0.6), 1: None, 2: (0.4, 0.5), 3: None}), score_norm="all")
    assert plan.class_scores == pytest.approx([0.15, 0.275])


def test_a_sequence_is_written_under_every_category_it_scores_in():
    sequence = {0: Seen(still(range(3), 0), (0.05, 0.7, 0.04, 0.2))}
    (plan,) = linked(rows(sequence, range(3)))
    assert [label for label, _ in plan.entries] == [1, 2, 4]
    (plan,) = linked(rows(sequence, range(3)), for_fusion=True)
    assert [label for label, _ in plan.entries] == [1, 2, 3, 4]


def test_what_is_never_visible_is_no_track():
    sequences = {0: Seen(dict.fromkeys(range(3), EMPTY)), 1: Seen(still(range(3), 0), (0.3,))}
    assert kept(sequences, 3) == [1]
    assert kept({0: sequences[0]}, 3) == []


def test_soft_nms_lowers_what_overlaps_again_and_again():
    """Three copies at IoU 1: each selection multiplies the rest by exp(-1 / sigma)."""
    sequences = {k: Seen(still(range(4), 0), (0.8,)) for k in range(3)}
    plans = linked(rows(sequences, range(4)), reduce="soft")
    factor = np.exp(-2)
    assert [plan.score for plan in plans] == pytest.approx([0.8, 0.8 * factor, 0.8 * factor**2])
    assert [plan.class_scores for plan in plans] == [None] * 3


def test_soft_nms_ends_at_its_cap_and_below_its_least_score():
    apart = {k: Seen(still(range(2), 8 * k), (0.9 - k / 100,)) for k in range(24)}
    assert kept(apart, 2, reduce="soft") == list(range(20))
    assert kept(apart, 2, reduce="soft", max_tracks=3) == [0, 1, 2]
    faint = {0: Seen(still(range(2), 0)), 1: Seen(still(range(2), 50), (0.0009,))}
    assert kept(faint, 2, reduce="soft") == [0]
    assert kept({1: faint[1]}, 2, reduce="soft") == []


def test_a_near_copy_stays_for_the_category_in_which_it_is_best():
    wide = Seen(still(range(4), 0, 10), (0.9, 0.0))
    narrow = Seen(still(range(4), 0, 8), (0.3, 0.6))
    first, second = linked(rows({0: wide, 1: narrow}, range(4)), reduce="category_aware")
    assert first.class_scores == pytest.approx([0.9, -1])
    assert second.class_scores == pytest.approx([0.3 * np.exp(-(0.8**2) / 0.5), 0.6])
    assert (second.label, second.score) == (2, pytest.approx(0.6))


# --- against plain loops --------------------------------------------------------------------------


def random_sequences(seed: int, num: int, num_frames: int, num_categories: int) -> dict[int, Seen]:
    """Boxes that drift; several follow one object, some are hidden for a while."""
    rng = np.random.default_rng(seed)
    left = rng.integers(0, 120, 5)[rng.integers(0, 5, num)] + rng.integers(-6, 7, num)
    found = {}
    for k in range(num):
        boxes = {}
        for frame in range(num_frames):
            if rng.random() < 0.85:
                x0 = int(np.clip(left[k] + frame + rng.integers(-1, 2), 0, 150))
                boxes[frame] = (x0, 0, x0 + int(rng.integers(0, 40)), 8)
        scores = rng.integers(0, 33, num_categories) / 32  # exact sums, and ties
        found[k] = Seen(boxes, tuple(scores.tolist()))
    return found


def as_proposed(sequences: Mapping[int, Seen]) -> list[reference.Proposed]:
    found = []
    for k in sorted(sequences):
        boxes = {f: box for f, box in sequences[k].boxes.items() if box[2] > box[0]}
        masks = dict(zip(boxes, box_masks([*boxes.values()], SIZE), strict=True))
        found.append(
            reference.Proposed(masks=masks, scores=dict.fromkeys(boxes, sequences[k].scores))
        )
    return found


@pytest.fixture(params=range(6))
def case(request):
    """Random sequences, their overlaps by plain loops, and their mean scores."""
    sequences = random_sequences(request.param, num=24, num_frames=7, num_categories=3)
    proposed = as_proposed(sequences)
    scores = np.array([one.mean(3) for one in proposed], np.float32)
    return sequences, scores, reference.all_ious(proposed, SIZE)


def overlaps_of(sequences: Mapping[int, Seen], num_frames: int = 7) -> Overlaps:
    sums = OverlapSums()
    for item in rows(sequences, range(num_frames)):
        if len(item):
            sums.add(item.proposals, item.masks, SIZE)
    return sums.overlaps(len(sequences))


def test_overlaps_are_those_of_plain_loops(case):
    sequences, _, ious = case
    overlaps = overlaps_of(sequences)
    found = np.zeros_like(ious)
    for k in range(len(overlaps)):
        other, iou = overlaps.of(k)
        found[k, other] = iou
    assert np.abs(found - ious).max() == 0


def test_hard_nms_is_that_of_plain_loops(case):
    sequences, scores, ious = case
    found = hard_nms(scores, overlaps_of(sequences), iou=0.5, min_score=0.3)
    assert found.kept.tolist() == reference.hard(scores, ious, 0.5, 0.3)
    assert np.array_equal(found.scores, scores[found.kept])


def test_soft_nms_is_that_of_plain_loops(case):
    sequences, scores, ious = case
    best = scores.max(axis=1)
    found = soft_nms(best, overlaps_of(sequences), sigma=0.5, min_score=0.05, max_kept=15)
    expected = reference.soft(best.tolist(), ious, 0.5, 0.05, 15)
    assert found.kept.tolist() == [*expected]
    assert found.scores == pytest.approx([*expected.values()], abs=1e-6)


def test_category_aware_is_that_of_plain_loops(case):
    sequences, scores, ious = case
    overlaps = overlaps_of(sequences)
    first = hard_nms(scores, overlaps, iou=0.9, min_score=0.05)
    found = per_category(first, overlaps, sigma=0.5, min_score=0.001, max_kept=100)
    kept_there, expected = reference.category_aware(scores, ious)
    assert found.kept.tolist() == kept_there
    assert found.scores == pytest.approx(expected, abs=1e-6)


def test_pairs_are_summed_up_whenever_many_wait(case, monkeypatch):
    sequences, _, _ = case
    expected = overlaps_of(sequences)
    monkeypatch.setattr("vis_core.association.sequence_iou._MERGE_PAIRS", 10)
    found = overlaps_of(sequences)
    assert np.array_equal(found.other, expected.other) and np.array_equal(found.iou, expected.iou)


def test_a_decay_to_nothing_is_no_error():
    copies = {k: Seen(still(range(2), 0)) for k in range(3)}
    assert kept(copies, 2, reduce="soft", sigma=1e-6) == [0]


# --- original size against the network's grid -----------------------------------------------------


def test_the_reduction_at_original_size_decides_as_on_the_networks_grid():
    """The release reduces on its padded grid; IoU moves little when masks are resized.

    720p masks against the same on 640 x 360: 200 pairs of discs from 20 px across upwards.
    """
    rng = np.random.default_rng(5)
    worst, num_flips, near = 0.0, 0, []
    for _ in range(200):
        radius = rng.uniform(10, 120)
        away = radius * rng.uniform(0, 1.5, 2)
        center = rng.uniform(250, 450, 2)
        discs = [disc(center, radius), disc(center + away, radius * rng.uniform(0.7, 1.3))]
        original = reduced_iou(discs, 1)
        network = reduced_iou(discs, 2)
        worst = max(worst, abs(original - network))
        if (original >= 0.5) != (network >= 0.5):
            num_flips += 1
            near.append(abs(original - 0.5))
    assert worst < 0.02, f"IoU moves by up to {worst:.4f}"
    assert max(near, default=0.0) < 0.02 and num_flips <= 4, (num_flips, near)


def disc(center, radius):
    y, x = np.ogrid[:720, :1280]
    return (y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2


def reduced_iou(discs, step):
    masks = rle.encode(np.stack([mask[::step, ::step] for mask in discs]))
    sums = OverlapSums()
    sums.add(np.arange(2), masks, (720 // step, 1280 // step))
    _, iou = sums.overlaps(2).of(0)
    return float(iou.sum())


# --- windows --------------------------------------------------------------------------------------


def in_windows(
    *sequences: Mapping[int, Seen], ranges: Sequence[tuple[int, int]]
) -> list[FramePrediction]:
    """Rows of one window after the other, each with its own proposals."""
    found = []
    for window, (mine, (start, stop)) in enumerate(zip(sequences, ranges, strict=True)):
        found += rows(mine, range(start, stop), window)
    return found


def test_an_object_in_two_windows_is_one_track_with_one_mask_per_frame():
    """Frames 4 to 7 are in both: the seam lies in their middle."""
    sequence = Seen(still(range(12), 0))
    found = tracks(in_windows({5: sequence}, {2: sequence}, ranges=[(0, 8), (4, 12)]))
    assert found == [[(0, t, 5) for t in range(6)] + [(1, t, 2) for t in range(6, 12)]]


def test_a_single_shared_frame_is_the_earlier_windows():
    sequence = Seen(still(range(9), 0))
    found = tracks(in_windows({0: sequence}, {0: sequence}, ranges=[(0, 5), (4, 9)]))
    assert found == [[(0, t, 0) for t in range(5)] + [(1, t, 0) for t in range(5, 9)]]


def test_where_one_window_sees_nothing_the_others_mask_is_taken():
    before, after = Seen(still([0, 1, 2, 3, 6, 7], 0)), Seen(still([4, 5, 7, 8, 9], 0))
    found = tracks(in_windows({0: before}, {0: after}, ranges=[(0, 8), (4, 12)]), stitch=0.2)
    expected = [(0, t, 0) for t in range(4)]
    expected += [(1, 4, 0), (1, 5, 0), (0, 6, 0), (1, 7, 0), (1, 8, 0), (1, 9, 0)]
    assert found == [expected]


@pytest.mark.parametrize(("stitch", "num_tracks"), [(0.5, 1), (0.51, 2)])
def test_an_overlap_exactly_at_the_threshold_joins(stitch, num_tracks):
    """Half the size on both shared frames: IoU 1/2."""
    before, after = Seen(still(range(6), 0, 8)), Seen(still(range(4, 10), 4, 4))
    predictions = in_windows({0: before}, {0: after}, ranges=[(0, 6), (4, 10)])
    assert len(tracks(predictions, stitch=stitch)) == num_tracks


def test_only_shared_frames_decide():
    """Equal where both windows look, and apart elsewhere."""
    before = Seen({**still(range(5), 100), **still([5, 6], 0)})
    after = Seen({**still([5, 6], 0), **still(range(7, 12), 60)})
    assert len(tracks(in_windows({0: before}, {0: after}, ranges=[(0, 7), (5, 12)]))) == 1


def test_a_frame_that_is_a_hole_in_one_window_decides_nothing():
    before, after = Seen(still(range(8), 0)), Seen({**still([4, 5], 0), **still(range(6, 12), 90)})
    predictions = in_windows({0: before}, {0: after}, ranges=[(0, 8), (4, 12)])
    assert len(tracks(predictions)) == 2  # equal on two of four shared frames: IoU 1/3
    without = [p for p in predictions if (p.window, p.frame_index) not in ((0, 6), (0, 7))]
    assert len(tracks([*without, Hole(start=6, stop=8)])) == 1


def test_what_is_hidden_on_the_shared_frames_is_two_tracks():
    before, after = Seen(still(range(3), 0)), Seen(still(range(9, 12), 0))
    found = tracks(in_windows({0: before}, {0: after}, ranges=[(0, 8), (4, 12)]))
    assert found == [[(0, t, 0) for t in range(3)], [(1, t, 0) for t in range(9, 12)]]


def test_joining_is_one_to_one_and_the_largest_overlap_comes_first():
    before = {0: Seen(still(range(6), 0, 10))}
    close, closer = Seen(still(range(4, 10), 4, 6)), Seen(still(range(4, 10), 0, 9), (0.8,))
    predictions = in_windows(before, {0: close, 1: closer}, ranges=[(0, 6), (4, 10)])
    found = tracks(predictions, nms=0.9)
    assert found[0] == [(0, t, 0) for t in range(5)] + [(1, t, 1) for t in range(5, 10)]
    assert found[1] == [(1, t, 0) for t in range(4, 10)]


def test_of_equal_overlaps_the_better_selected_are_joined():
    before = {0: Seen(still(range(6), 0, 8))}
    after = {0: Seen(still(range(4, 10), 0, 4), (0.6,)), 1: Seen(still(range(4, 10), 4, 4))}
    first, _ = tracks(in_windows(before, after, ranges=[(0, 6), (4, 10)]))
    assert first[-1] == (1, 9, 1)


def test_what_is_half_another_object_does_not_take_the_next_windows_sequence():
    """It covers the object best where both windows look, but its scores are not the object's."""
    its_own = Seen(still(range(8), 0, 8), (0.8, 0.1)), Seen(still(range(4, 12), 0, 7), (0.7, 0.1))
    mixed_before = Seen({**still(range(4), 60), **still(range(4, 8), 0, 7)}, (0.2, 0.3))
    mixed_after = Seen({**still(range(4, 8), 0, 8), **still(range(8, 12), 60)}, (0.1, 0.4))
    before, after = {0: its_own[0], 1: mixed_before}, {0: mixed_after, 1: its_own[1]}
    found = tracks(in_windows(before, after, ranges=[(0, 8), (4, 12)]))
    assert found == [
        [(0, t, 0) for t in range(6)] + [(1, t, 1) for t in range(6, 12)],
        [(0, t, 1) for t in range(6)] + [(1, t, 0) for t in range(6, 12)],
    ]


def test_sequences_that_were_reduced_away_join_nothing():
    near = {0: Seen(still(range(6), 0, 10)), 1: Seen(still(range(6), 0, 9), (0.5,))}
    after = {0: Seen(still(range(4, 10), 0, 9)), 1: Seen(still(range(4, 10), 0, 8), (0.5,))}
    found = tracks(in_windows(near, after, ranges=[(0, 6), (4, 10)]))
    assert found == [[(0, t, 0) for t in range(5)] + [(1, t, 0) for t in range(5, 10)]]


def test_birth_and_death_in_the_middle_of_a_window():
    stays = Seen(still(range(20), 0))
    dies, is_born = Seen(still(range(11), 60), (0.7,)), Seen(still(range(13, 20), 120), (0.8,))
    ranges = [(0, 8), (6, 14), (12, 20)]
    found = tracks(
        in_windows(
            {0: stays, 1: dies},
            {0: dies, 1: stays, 2: is_born},
            {0: is_born, 1: stays},
            ranges=ranges,
        )
    )
    frames = {(track[0][1], track[-1][1]): [f for _, f, _ in track] for track in found}
    assert frames == {(0, 19): [*range(20)], (0, 10): [*range(11)], (13, 19): [*range(13, 20)]}


@pytest.mark.parametrize("num_frames", [10, 26, 27, 33])
@pytest.mark.parametrize("overlap", [1, 2, 6])
def test_windows_of_any_overlap_give_the_tracks_of_one_window(num_frames, overlap):
    """The last window is moved back, so it may share frames with more than its neighbour."""
    spec = WindowSpec(num_frames=10, overlap=overlap, whole_windows=True)
    ranges = window_ranges(num_frames, spec)
    objects = {
        0: Seen({t: (t, 0, t + 20, 8) for t in range(num_frames)}),
        1: Seen({t: (150 - 2 * t, 0, 180 - 2 * t, 8) for t in range(num_frames)}, (0.8,)),
        2: Seen(dict.fromkeys(range(num_frames), (60, 0, 75, 4)), (0.7,)),
    }
    windowed = tracks(in_windows(*[objects] * len(ranges), ranges=ranges))
    assert [[(f, k) for _, f, k in track] for track in windowed] == [
        [(f, k) for f in range(num_frames)] for k in range(3)
    ]


def test_the_score_of_a_track_is_weighted_by_the_frames_of_its_windows():
    before, after = Seen(still(range(6), 0), (0.9, 0.1)), Seen(still(range(4, 6), 0), (0.1, 0.3))
    (plan,) = linked(in_windows({0: before}, {0: after}, ranges=[(0, 6), (4, 10)]))
    assert plan.class_scores == pytest.approx([(6 * 0.9 + 2 * 0.1) / 8, (6 * 0.1 + 2 * 0.3) / 8])
    predictions = in_windows({0: before}, {0: after}, ranges=[(0, 6), (4, 10)])
    (plan,) = linked(predictions, score_norm="all")
    assert plan.score == pytest.approx((6 * 0.9 + 2 * 0.1) / 12)


def test_a_category_is_dropped_only_if_all_windows_dropped_it():
    best = Seen(still(range(10), 0, 10), (0.9, 0.0))
    near = Seen(still(range(10), 0, 8), (0.5, 0.6))
    plans = linked(
        in_windows({0: best, 1: near}, {0: best, 1: near}, ranges=[(0, 6), (4, 10)]),
        reduce="category_aware",
    )
    assert plans[0].class_scores == pytest.approx([0.9, -1])
    changed = Seen(best.boxes, (0.9, 0.4))
    plans = linked(
        in_windows({0: best, 1: near}, {0: changed, 1: near}, ranges=[(0, 6), (4, 10)]),
        reduce="category_aware",
    )
    decayed = 0.4 * np.exp(-(0.8**2) / 0.5)
    assert plans[0].class_scores == pytest.approx([0.9, decayed / 2])


def test_the_window_of_each_mask_is_told():
    sequence = Seen(still(range(12), 0))
    (plan,) = linked(in_windows({0: sequence}, {0: sequence}, ranges=[(0, 8), (4, 12)]))
    assert plan.window.tolist() == [0] * 6 + [1] * 6
    (plan,) = linked(rows({0: sequence}, range(12)))
    assert plan.window is None


def test_masks_that_wait_for_the_next_window_may_go_to_disk(monkeypatch):
    sequences = random_sequences(3, num=12, num_frames=12, num_categories=2)
    predictions = in_windows(*[sequences] * 2, ranges=[(0, 8), (4, 12)])
    expected = tracks(predictions)
    monkeypatch.setattr(mask_file, "_MEMORY_BYTES", 1)
    assert tracks(predictions) == expected and len(expected) > 2


@pytest.mark.parametrize("memory_bytes", [1 << 20, 1])
def test_a_mask_file_gives_back_what_it_was_given(memory_bytes, monkeypatch):
    monkeypatch.setattr(mask_file, "_MEMORY_BYTES", memory_bytes)
    masks = [bytes(f"mask {i}" * (i % 4), "ascii") for i in range(50)]
    file = MaskFile()
    file.add(masks[:20])
    assert file.read(np.array([3, 4, 5, 0, 19])) == [masks[i] for i in (3, 4, 5, 0, 19)]
    file.add(masks[20:])
    assert file.read(np.arange(50)) == masks
    assert file.read(np.array([], int)) == []
    file.close()


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("field", "column"), [("proposals", "proposal"), ("class_scores",) * 2])
def test_rows_without_what_it_links_by_name_the_system_that_has_it(field, column):
    (item,) = rows({0: Seen(still([0], 0))}, [0])
    with pytest.raises(ValueError, match=f"no `{column}`.*--system propose_reduce"):
        linked([dataclasses.replace(item, **{field: None})])


def test_two_instances_of_a_proposal_in_a_frame_are_an_error():
    (item,) = rows({0: Seen(still([0], 0)), 1: Seen(still([0], 50))}, [0])
    with pytest.raises(ValueError, match="frame 0 of 'v' has two instances of one proposal"):
        linked([dataclasses.replace(item, proposals=np.zeros(2, np.int32))])


def test_another_number_of_categories_is_an_error():
    two = rows({0: Seen(still([0], 0), (0.5, 0.4))}, [0])
    one = rows({0: Seen(still([1], 0), (0.5,))}, [1])
    with pytest.raises(ValueError, match="frame 1 of 'v' has 1 class scores per instance"):
        linked([*two, *one])


@pytest.mark.parametrize(
    "values",
    [
        {"reduce": "soft", "nms": 0.5},
        {"reduce": "hard", "sigma": 0.5},
        {"nms": 0},
        {"nms": 1.5},
        {"reduce": "soft", "max_tracks": 0},
        {"stitch": 0},
        {"emit": -1},
        {"reduce": "soft", "min_soft_score": 0},
        {"reduce": "softest"},
    ],
)
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(UsageError):
        build(ProposeReduceLinkConfig, values)


# --- memory ---------------------------------------------------------------------------------------


def test_memory_stays_within_64_bytes_per_instance(monkeypatch):
    monkeypatch.setattr(mask_file, "_MEMORY_BYTES", 1)
    short, long = (peak_bytes(num_frames) for num_frames in (100, 600))
    assert short[1] < long[1]
    assert (long[0] - short[0]) / (long[1] - short[1]) < 64


def peak_bytes(num_frames: int) -> tuple[int, int]:
    """Largest allocation while linking, and the number of instances."""
    item = rows({k: Seen(still([0], 8 * k)) for k in range(20)}, [0])[0]
    linker = ProposeReduceLinker(ProposeReduceLinkConfig())
    linker.start(fake_video("v", num_frames, height=SIZE[0], width=SIZE[1]))
    tracemalloc.start()
    try:
        for frame in range(num_frames):
            linker.step(dataclasses.replace(item, frame_index=frame))
        assert len(linker.finish()) == 20
        return tracemalloc.get_traced_memory()[1], 20 * num_frames
    finally:
        tracemalloc.stop()
