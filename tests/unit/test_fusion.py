"""Fusion of several members' tracks: what it must leave alone, and what it must bring together."""

from __future__ import annotations

import dataclasses
import itertools
import tracemalloc
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pytest

from tests.support import reference_fusion as reference
from tests.support.rows import Box, box_masks
from vis_core.association import mask_file, sequence_iou, track_pool
from vis_core.association.fusion import (
    FusedTrack,
    FusionConfig,
    MemberTrack,
    check_label_maps,
    fuse_tracks,
)
from vis_core.association.mask_mean import mean_mask
from vis_core.config import build
from vis_core.errors import UsageError
from vis_core.masks import rle
from vis_core.types import Category

SIZE = (40, 120)


def track(
    member: str,
    track_id: int,
    boxes: Mapping[int, Box],
    scores: Sequence[float] = (0.9,),
    **fields: object,
) -> MemberTrack:
    frames = sorted(boxes)
    values = {
        "label": int(np.argmax(scores)) + 1,
        "score": max(scores),
        "class_scores": np.array(scores, np.float32),
        "frame_index": np.array(frames, np.int32),
        "masks": box_masks([boxes[frame] for frame in frames], SIZE),
    }
    return MemberTrack(member=member, track_id=track_id, **{**values, **fields})


def still(frames: Iterable[int], left: int, width: int = 20, top: int = 10) -> dict[int, Box]:
    return dict.fromkeys(frames, (left, top, left + width, top + 20))


def fused(
    tracks: Iterable[MemberTrack], weights: Mapping[str, float], **values: object
) -> list[FusedTrack]:
    return list(fuse_tracks(tracks, weights, SIZE, FusionConfig(**values)))


def as_plain(results: Sequence[FusedTrack]) -> list[tuple]:
    """All that a result says, to compare with ==."""
    return [
        (
            found.label,
            found.score,
            found.class_scores.tolist(),
            found.entries,
            found.members,
            found.frame_index.tolist(),
            found.masks,
        )
        for found in results
    ]


def random_members(seed: int, num_members: int, num_categories: int = 3) -> list[MemberTrack]:
    """Each member sees most of six objects in most frames, a little off, with scores of its own."""
    rng = np.random.default_rng(seed)
    tracks = []
    for run in range(num_members):
        for number in range(6):
            boxes = {}
            for frame in range(5):
                if rng.random() < 0.8:
                    x0 = int(18 * number + frame + rng.integers(0, 3))
                    y0 = int(5 + rng.integers(0, 4))
                    width, height = (int(v) for v in rng.integers(8, 22, 2))
                    boxes[frame] = (x0, y0, x0 + width, y0 + height)
            if rng.random() < 0.8:
                scores = rng.random(num_categories) * rng.random()
                tracks.append(track(f"m{run}", number, boxes, scores.tolist()))
    return tracks


MODES = [{"mode": "cluster"}, {"mode": "nms"}, {"mode": "cluster", "mask_mean": "vote"}]


# --- what the result must not depend on, and what it must keep ------------------------------------


@pytest.mark.parametrize("settings", MODES)
@pytest.mark.parametrize("seed", range(3))
def test_a_single_member_comes_out_as_it_went_in(settings, seed):
    tracks = random_members(seed, 1)
    tracks.append(track("m0", 77, still(range(3), 0), (0.5, 0.2, 0.1)))
    tracks.append(track("m0", 78, still(range(3), 1), (0.6, 0.2, 0.1)))  # overlaps its neighbour
    found = fused(tracks, {"m0": 0.7}, **settings)
    shown = [one for one in tracks if len(one.masks) and max(one.class_scores) > 0.01]
    expected = sorted(shown, key=lambda one: -one.score)
    assert len(found) == len(expected) >= 4
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.label == theirs.label and mine.members == ("m0",)
        assert mine.score == pytest.approx(theirs.score, rel=1e-7)
        assert np.array_equal(mine.class_scores, theirs.class_scores)
        assert np.array_equal(mine.frame_index, theirs.frame_index)
        assert mine.masks == theirs.masks


@pytest.mark.parametrize("settings", MODES)
def test_a_member_and_its_exact_copy_give_the_member(settings):
    tracks = [track("a", k, still(range(k, 6), 25 * k), (0.9 - k / 10, 0.3)) for k in range(4)]
    copies = [dataclasses.replace(one, member="b") for one in tracks]
    alone, both = (
        fused(tracks, {"a": 1.0}),
        fused([*tracks, *copies], {"a": 1.0, "b": 1.0}, **settings),
    )
    assert [plain[:4] + plain[5:] for plain in as_plain(both)] == [
        plain[:4] + plain[5:] for plain in as_plain(alone)
    ]
    if settings["mode"] == "cluster":
        assert {one.members for one in both} == {("a", "b")}


@pytest.mark.parametrize("settings", MODES)
@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_members_and_tracks_changes_nothing(settings, seed):
    tracks = random_members(seed, 3)
    weights = {"m0": 1.0, "m1": 0.5, "m2": 2.0}
    expected = as_plain(fused(tracks, weights, **settings))
    assert len(expected) > 3
    rng = np.random.default_rng(seed)
    for names in itertools.permutations(weights):
        shuffled = [tracks[i] for i in rng.permutation(len(tracks))]
        found = as_plain(fused(shuffled, {name: weights[name] for name in names}, **settings))
        assert [(*one[:4], sorted(one[4]), *one[5:]) for one in found] == [
            (*one[:4], sorted(one[4]), *one[5:]) for one in expected
        ]


def test_a_member_without_tracks_scales_every_score():
    tracks = random_members(0, 2)
    weights = {"m0": 1.0, "m1": 2.0}
    before = fused(tracks, weights, min_line_score=0.0)
    after = fused(tracks, {**weights, "nothing": 1.5}, min_line_score=0.0)
    assert [one.score for one in after] == pytest.approx([one.score * 3 / 4.5 for one in before])
    assert [one.masks for one in after] == [one.masks for one in before]


def test_what_one_of_three_members_saw_keeps_a_third_of_its_score():
    boxes = still(range(4), 0)
    (found,) = fused([track("b", 0, boxes, (0.9, 0.3))], {"a": 1.0, "b": 1.0, "c": 1.0})
    assert found.class_scores == pytest.approx([0.3, 0.1])
    assert found.members == ("b",) and found.masks == box_masks([*boxes.values()], SIZE)


@pytest.mark.parametrize(("alpha", "factor"), [(1.0, 1 / 2), (0.5, np.sqrt(1 / 2)), (0.0, 1.0)])
def test_alpha_says_how_much_absent_members_cost(alpha, factor):
    (found,) = fused([track("a", 0, still(range(4), 0))], {"a": 1.0, "b": 1.0}, alpha=alpha)
    assert found.score == pytest.approx(0.9 * factor)


@pytest.mark.parametrize("mode", ["cluster", "nms"])
def test_tracks_that_are_never_there_at_once_do_not_overlap(mode):
    tracks = [track("a", 0, still([0, 1], 0)), track("b", 0, still([2, 3], 0), (0.8,))]
    found = fused(tracks, {"a": 1.0, "b": 1.0}, mode=mode, tau=1e-9)
    assert [one.frame_index.tolist() for one in found] == [[0, 1], [2, 3]]


# --- clusters -------------------------------------------------------------------------------------


def test_scores_are_weighted_means_over_the_members():
    tracks = [
        track("a", 0, still(range(4), 0), (0.8, 0.2)),
        track("b", 0, still(range(4), 1), (0.5, 0.6)),
    ]
    (found,) = fused(tracks, {"a": 3.0, "b": 1.0})
    assert found.class_scores == pytest.approx([(3 * 0.8 + 0.5) / 4, (3 * 0.2 + 0.6) / 4])
    assert found.entries == ((1, pytest.approx(0.725)), (2, pytest.approx(0.3)))
    assert found.members == ("a", "b")


@pytest.mark.parametrize(("tau", "num_tracks"), [(0.5, 1), (0.51, 2)])
def test_an_overlap_exactly_at_tau_joins(tau, num_tracks):
    tracks = [track("a", 0, still(range(2), 0, 20)), track("b", 0, still(range(2), 0, 10), (0.8,))]
    assert len(fused(tracks, {"a": 1.0, "b": 1.0}, tau=tau)) == num_tracks


def test_a_track_joins_the_cluster_it_overlaps_most():
    tracks = [
        track("a", 0, still(range(3), 0), (0.9,)),
        track("a", 1, still(range(3), 8), (0.8,)),
        track("b", 0, still(range(3), 5), (0.7,)),  # 15/25 of the first, 17/23 of the second
    ]
    found = fused(tracks, {"a": 1.0, "b": 1.0})
    assert [one.members for one in found] == [("a", "b"), ("a",)]
    assert found[0].score == pytest.approx(0.75) and found[1].score == pytest.approx(0.45)


def test_a_member_has_one_track_in_a_cluster_and_a_second_one_is_suppressed():
    tracks = [
        track("a", 0, still(range(4), 0), (0.9,)),
        track("b", 0, still(range(4), 1), (0.8,)),
        track("b", 1, still(range(4), 2), (0.7,)),
    ]
    (found,) = fused(tracks, {"a": 1.0, "b": 1.0})
    assert found.score == pytest.approx(0.85)


def test_what_is_suppressed_in_one_category_stays_in_another():
    tracks = [
        track("a", 0, still(range(4), 0), (0.9, 0.1)),
        track("a", 1, still(range(4), 1), (0.3, 0.8)),
    ]
    first, second = fused(tracks, {"a": 1.0, "b": 1.0})
    assert first.class_scores == pytest.approx([0.45, -1])
    assert second.class_scores == pytest.approx([-1, 0.4])
    assert (second.label, second.entries) == (2, ((2, pytest.approx(0.4)),))


def test_an_overlap_exactly_at_tau_is_not_suppressed():
    tracks = [track("a", 0, still(range(2), 0, 20)), track("a", 1, still(range(2), 0, 10), (0.8,))]
    assert len(fused(tracks, {"a": 1.0, "b": 1.0}, tau=0.5)) == 2
    assert len(fused(tracks, {"a": 1.0, "b": 1.0}, tau=0.49)) == 1


def test_objects_that_cross_stay_two():
    there = {t: (10 * t, 10, 10 * t + 10, 30) for t in range(9)}
    back = {t: (80 - 10 * t, 10, 90 - 10 * t, 30) for t in range(9)}
    tracks = [
        track(name, k, boxes, (0.9 - k / 10 - run / 100,))
        for run, name in enumerate("ab")
        for k, boxes in enumerate((there, back))
    ]
    found = fused(tracks, {"a": 1.0, "b": 1.0})
    assert [one.members for one in found] == [("a", "b")] * 2
    assert found[0].masks == box_masks([*there.values()], SIZE)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        pytest.param(
            [[0, 1, 2, 3], [1, 2, 3]], [0, 1, 2, 3], id="birth: half the weight is enough"
        ),
        pytest.param([[0, 1, 2], [0, 1, 2, 3]], [0, 1, 2, 3], id="death"),
        pytest.param([[0, 1, 3, 4], [0, 1, 2, 3, 4]], [0, 1, 2, 3, 4], id="gap in one"),
        pytest.param([[0, 1, 2], [0, 1, 2], [0, 1, 2, 3]], [0, 1, 2], id="one of three is not"),
        pytest.param([[2], [2]], [2], id="a single frame"),
    ],
)
def test_a_frame_is_kept_if_members_of_half_the_weight_are_there(frames, expected):
    tracks = [track("abc"[k], 0, still(mine, 0)) for k, mine in enumerate(frames)]
    (found,) = fused(tracks, {"abc"[k]: 1.0 for k in range(len(frames))})
    assert found.frame_index.tolist() == expected


def test_half_the_weight_is_half_whatever_the_sum_rounds_to():
    tracks = [
        track("a", 0, still(range(4), 0)),
        track("b", 0, still(range(4), 0)),
        track("c", 0, still(range(6), 0)),
    ]
    (found,) = fused(tracks, {"a": 0.1, "b": 0.2, "c": 0.3})
    assert found.frame_index.tolist() == [*range(6)]


def test_of_equal_scores_the_earlier_member_and_the_lower_id_come_first():
    tracks = [
        track("a", 1, still(range(2), 0), (0.5,)),
        track("a", 0, still(range(2), 60), (0.5,)),
        track("b", 0, still(range(2), 90), (0.5,)),
    ]
    for weights in ({"a": 1.0, "b": 1.0}, {"b": 1.0, "a": 1.0}):
        found = fused(tracks, weights)
        lefts = [int(rle.boxes(one.masks, SIZE)[0, 0]) for one in found]
        assert lefts == ([60, 0, 90] if [*weights] == ["a", "b"] else [90, 60, 0])


# --- masks ----------------------------------------------------------------------------------------


def disc(radius: float, x: float = 60.0) -> np.ndarray:
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    return (rows - 20) ** 2 + (columns - x) ** 2 <= radius**2


def mean_of(masks: Sequence[np.ndarray], weights: Sequence[float], **values: object) -> np.ndarray:
    found = mean_mask(rle.encode(np.stack(masks)), np.array(weights, float), SIZE, **values)
    return rle.decode([found], SIZE)[0] if isinstance(found, bytes) else rle.paste(found, SIZE)


def strip(left: int, right: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[:, left:right] = True
    return mask


@pytest.mark.parametrize(
    ("weights", "expected"), [((1, 1), (12, 32)), ((3, 1), (11, 31)), ((1, 3), (13, 33))]
)
def test_the_mean_of_two_outlines_lies_between_them_by_weight(weights, expected):
    found = mean_of([strip(10, 30), strip(14, 34)], weights)
    assert np.array_equal(found, strip(*expected))


def test_the_mean_of_two_discs_is_a_disc_between_them():
    between = mean_of([disc(8.2), disc(12.2)], [1, 1])
    assert not (disc(9.5) & ~between).any() and not (between & ~disc(10.9)).any()


def test_a_vote_of_two_copies_the_stronger():
    masks = [disc(8.2), disc(12.2)]
    for weights, expected in (([2, 1], masks[0]), ([1, 2], masks[1]), ([1, 1], masks[1])):
        assert np.array_equal(mean_of(masks, weights, by="vote"), expected)


def test_a_mask_far_off_bends_a_majority_no_more_than_the_band():
    """Two against one keep the object; its outline moves until twice its distance is the band."""
    found = mean_of([disc(10, 30), disc(10, 30), disc(10, 90)], [1, 1, 1], band_px=4)
    assert not (found & ~disc(10, 30)).any() and not (disc(7.9, 30) & ~found).any()


@pytest.mark.parametrize("seed", range(8))
def test_the_mean_near_the_masks_is_that_over_the_whole_frame(seed):
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(3):
        mask = np.zeros(SIZE, bool)
        for _ in range(3):
            y, x = rng.integers(0, SIZE[0]), rng.integers(0, 60)
            mask[y : y + rng.integers(1, 25), x : x + rng.integers(1, 30)] = True
        masks.append(mask)
    weights = rng.integers(1, 5, 3).tolist()
    total = sum(w * reference.signed_distance(m) for w, m in zip(weights, masks, strict=True))
    assert np.array_equal(mean_of(masks, weights), total >= 0)


def test_a_mask_that_fills_the_frame_has_no_outline():
    full = np.ones(SIZE, bool)
    assert np.array_equal(mean_of([full, disc(10)], [1, 1]), full)
    assert np.array_equal(mean_of([full, full], [1, 1]), full)


def test_members_without_detection_leave_the_score_of_a_mask_open():
    boxes = still(range(3), 0)
    scores = {"a": [0.5, np.nan, np.nan], "b": [0.8, 0.6, np.nan]}
    tracks = [track(k, 0, boxes, mask_scores=np.array(v, np.float32)) for k, v in scores.items()]
    (found,) = fused(tracks, {"a": 2.0, "b": 1.0})
    assert found.mask_scores == pytest.approx([0.6, 0.6, np.nan], nan_ok=True)


def test_a_frame_whose_mean_is_empty_is_left_out():
    """Three slivers apart from each other: no pixel is near enough to most of them."""
    boxes = [{0: (30, 10, 50, 30), 1: (40 * k, 0, 40 * k + 1, 40)} for k in range(3)]
    tracks = [track("abc"[k], 0, mine) for k, mine in enumerate(boxes)]
    (found,) = fused(tracks, dict.fromkeys("abc", 1.0))
    assert found.frame_index.tolist() == [0]


# --- nms ------------------------------------------------------------------------------------------


def test_nms_keeps_the_best_track_as_it_is():
    best = track("b", 0, still(range(4), 0), (0.9, 0.1))
    tracks = [track("a", 0, still(range(4), 2), (0.8, 0.05)), best]
    (found,) = fused(tracks, {"a": 1.0, "b": 1.0}, mode="nms")
    assert found.masks == best.masks and found.members == ("b",)
    assert np.array_equal(found.class_scores, best.class_scores)


def test_nms_trusts_members_by_weight_and_leaves_scores_alone():
    tracks = [track("a", 0, still(range(4), 2), (0.8,)), track("b", 0, still(range(4), 0), (0.9,))]
    (found,) = fused(tracks, {"a": 2.0, "b": 1.0}, mode="nms")
    assert found.members == ("a",) and found.score == pytest.approx(0.8)


def test_nms_also_suppresses_within_a_member_and_by_category():
    tracks = [
        track("a", 0, still(range(4), 0), (0.9, 0.1)),
        track("a", 1, still(range(4), 2), (0.3, 0.8)),
    ]
    first, second = fused(tracks, {"a": 1.0, "b": 1.0}, mode="nms")
    assert first.class_scores == pytest.approx([0.9, -1])
    assert second.class_scores == pytest.approx([-1, 0.8])


# --- against plain loops --------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [*MODES, {"alpha": 0.3}, {"tau": 0.3}], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_it_gives_what_plain_loops_give(settings, seed):
    tracks = random_members(seed, 3)
    weights = {"m0": 1.0, "m1": 0.5, "m2": 2.0}
    dense = [
        reference.DenseTrack(
            run=[*weights].index(one.member),
            track_id=one.track_id,
            scores=one.class_scores,
            masks=dict(zip(one.frame_index.tolist(), rle.decode(one.masks, SIZE), strict=True)),
        )
        for one in tracks
    ]
    expected = reference.fuse(dense, [*weights.values()], **settings)
    found = fused(tracks, weights, **settings)
    assert len(found) == len(expected) > 3
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.class_scores == pytest.approx(theirs.scores, rel=1e-6)
        assert [label for label, _ in mine.entries] == [label for label, _ in theirs.entries]
        assert mine.members == tuple(f"m{run}" for run in sorted(theirs.runs))
        assert mine.frame_index.tolist() == [*theirs.masks]
        assert np.array_equal(rle.decode(mine.masks, SIZE), np.stack([*theirs.masks.values()]))


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["cluster", "nms"])
def test_a_video_without_tracks_gives_none(mode):
    assert fused([], {"a": 1.0, "b": 1.0}, mode=mode) == []


def test_tracks_without_masks_or_score_are_left_out():
    tracks = [
        track("a", 0, dict.fromkeys(range(3), (0, 0, 0, 0))),
        track("a", 1, still(range(3), 0), (0.0099,)),
        track("a", 2, {**still([0], 0), 1: (0, 0, 0, 0)}, (0.5,)),
    ]
    (found,) = fused(tracks, {"a": 1.0})
    assert found.frame_index.tolist() == [0]


@pytest.mark.parametrize(("score", "num_tracks"), [(0.02, 0), (0.0201, 1)])
def test_a_line_must_score_above_the_least(score, num_tracks):
    """The score is halved, since one of two members saw it."""
    tracks = [track("a", 0, still(range(3), 0), (score,))]
    assert len(fused(tracks, {"a": 1.0, "b": 1.0}, min_line_score=0.01)) == num_tracks


def test_only_the_best_lines_of_a_video_are_written():
    scores = [(0.9, 0.5), (0.8, 0.2), (0.3, 0.1)]
    tracks = [track("a", k, still(range(2), 30 * k), s) for k, s in enumerate(scores)]
    found = fused(tracks, {"a": 1.0}, max_lines=3)
    assert [one.entries for one in found] == [
        ((1, pytest.approx(0.9)), (2, pytest.approx(0.5))),
        ((1, pytest.approx(0.8)),),
    ]


def test_a_track_with_a_label_only_counts_at_its_label():
    tracks = [
        track("a", 0, still(range(3), 0), (0.4,), class_scores=None, label=2, score=0.4),
        track("b", 0, still(range(3), 0), (0.1, 0.6, 0.0)),
    ]
    (found,) = fused(tracks, {"a": 1.0, "b": 1.0})
    assert found.class_scores == pytest.approx([0.05, 0.5, 0])


def test_a_category_that_a_member_dropped_counts_as_zero():
    tracks = [
        track("a", 0, still(range(3), 0), (0.8, -1.0)),
        track("b", 0, still(range(3), 0), (0.6, 0.4)),
    ]
    (found,) = fused(tracks, {"a": 1.0, "b": 1.0})
    assert found.class_scores == pytest.approx([0.7, 0.2])


def test_five_hundred_instances_in_a_frame():
    lefts = np.arange(250) % 60 * 2
    tops = np.arange(250) // 60 * 8
    tracks = [
        track(
            name,
            k,
            {0: (int(lefts[k]), int(tops[k]), int(lefts[k]) + 2, int(tops[k]) + 8)},
            (0.9 - k / 1000 - run / 10_000,),
        )
        for run, name in enumerate("ab")
        for k in range(250)
    ]
    found = fused(tracks, {"a": 1.0, "b": 1.0}, max_lines=1000)
    assert [one.members for one in found] == [("a", "b")] * 250


# --- bad input ------------------------------------------------------------------------------------


def test_members_need_equal_label_maps():
    cats = [Category(label=1, name="person"), Category(label=2, name="dog")]
    check_label_maps({"a": cats, "b": list(reversed(cats)), "c": cats})
    check_label_maps({})
    with pytest.raises(UsageError, match="label 2 is 'dog' to member 'a' but 'cat' to 'b'"):
        check_label_maps({"a": cats, "b": [cats[0], Category(label=2, name="cat")]})
    with pytest.raises(UsageError, match="label 2 is 'dog' to member 'a' but unknown to 'b'"):
        check_label_maps({"a": cats, "b": cats[:1]})


@pytest.mark.parametrize(
    ("tracks", "weights", "message"),
    [
        ([track("x", 3, still([0], 0))], {"a": 1.0}, "track 3 is of member 'x'"),
        ([], {"a": 0.0}, "weight of member 'a'"),
        ([], {"a": float("nan")}, "weight of member 'a'"),
        (
            [track("a", 0, still([0], 0), (0.5, 0.4)), track("b", 0, still([0], 0), (0.5,))],
            {"a": 1.0, "b": 1.0},
            "1 of 'b', 2 of 'a'",
        ),
        (
            [
                track("a", 0, still([0], 0), (0.5,)),
                track("b", 0, still([0], 0), class_scores=None, label=4),
            ],
            {"a": 1.0, "b": 1.0},
            "label 4, but others have class scores for 1",
        ),
    ],
)
def test_members_that_do_not_fit_together_are_refused(tracks, weights, message):
    with pytest.raises(UsageError, match=message):
        fused(tracks, weights)


@pytest.mark.parametrize(
    "fields",
    [
        {"frame_index": np.array([1, 0], np.int32)},
        {"frame_index": np.array([0, 0], np.int32)},
        {"frame_index": np.array([0], np.int32)},
        {"class_scores": np.array([np.nan], np.float32)},
    ],
)
def test_a_broken_track_is_an_error(fields):
    with pytest.raises(ValueError, match="track 5 of member 'a'"):
        fused([track("a", 5, still([0, 1], 0), **fields)], {"a": 1.0})


@pytest.mark.parametrize(
    "values",
    [
        {"tau": 0},
        {"tau": 1.1},
        {"alpha": 2},
        {"band_px": 0},
        {"min_line_score": -1},
        {"max_lines": 0},
        {"mode": "mean"},
    ],
)
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(UsageError):
        build(FusionConfig, values)


# --- memory ---------------------------------------------------------------------------------------


def test_masks_are_made_one_track_at_a_time(monkeypatch):
    made = []
    real = track_pool.mean_mask

    def spy(masks, *args, **values):
        made.append(len(masks))
        return real(masks, *args, **values)

    monkeypatch.setattr(track_pool, "mean_mask", spy)
    tracks = [track(m, k, still(range(3), 30 * k)) for m in "ab" for k in range(3)]
    results = fuse_tracks(iter(tracks), {"a": 1.0, "b": 1.0}, SIZE, FusionConfig())
    assert made == []
    next(results)
    assert made == [2, 2, 2]


def test_memory_stays_within_64_bytes_per_mask(monkeypatch):
    monkeypatch.setattr(mask_file, "_MEMORY_BYTES", 1)
    monkeypatch.setattr(sequence_iou, "_MERGE_PAIRS", 1000)
    short, long = peak_bytes(200), peak_bytes(1200)
    assert (long - short) / (1000 * 20) < 64


def peak_bytes(num_frames: int) -> int:
    """Largest allocation while 2 x 10 tracks are fused; a track's own masks are counted too."""
    (mask,) = box_masks([(0, 0, 8, 8)], SIZE)

    def members():
        for name in "ab":
            for k in range(10):
                yield MemberTrack(
                    member=name,
                    track_id=k,
                    label=1,
                    score=0.5,
                    class_scores=None,
                    frame_index=np.arange(k % 2, 2 * num_frames, 2, dtype=np.int32),
                    masks=[mask] * num_frames,
                )

    tracemalloc.start()
    try:
        pool = track_pool.TrackPool(members(), {"a": 1.0, "b": 1.0}, SIZE, 0.01)
        assert len(pool.overlaps()) == 20
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
