"""The idol linker follows the released tracker rule by rule, on rows made for each rule."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes import empty_prediction, fake_video
from tests.support.reference_idol import link_idol
from vis_core.association import idol
from vis_core.masks import rle
from vis_core.system import link
from vis_core.systems.idol import IdolLinkConfig, IdolLinker
from vis_core.types import FramePrediction, Hole, TrackPlan

SIZE = (4, 512)
A, B, C = [4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]
EVERY_TRACK = {"min_len": 1, "emit": 0.0}  # nothing is purged or left out
ABOVE = np.nextafter(np.float32(1), np.float32(2))  # times this, a float32 is the next larger one


@dataclasses.dataclass(frozen=True)
class Seen:
    """An instance; its mask is columns [left, right), by default one of its own."""

    embedding: Sequence[float]
    score: float = 0.9
    columns: tuple[int, int] | None = None
    class_scores: Sequence[float] | None = None


def row(frame: int, *instances: Seen) -> FramePrediction:
    num = len(instances)
    if not num:
        return empty_prediction("v", frame)
    columns = [seen.columns or (i, i + 1) for i, seen in enumerate(instances)]
    inside = [i for i, (left, right) in enumerate(columns) if right > left]
    edges = np.array([columns[i] for i in inside]).reshape(-1, 2) * SIZE[0]
    class_scores = [seen.class_scores or [seen.score] for seen in instances]
    return FramePrediction(
        video_id="v",
        frame_index=frame,
        pts_seconds=0.0,
        height=SIZE[0],
        width=SIZE[1],
        scores=np.array([seen.score for seen in instances], np.float32),
        labels=np.ones(num, np.int32),
        boxes=np.zeros((num, 4), np.float32),
        masks=rle.encode_intervals(inside, edges[:, 0], edges[:, 1], num, SIZE),
        class_scores=np.array(class_scores, np.float32),
        embeddings=np.array([seen.embedding for seen in instances], np.float32),
    )


def linked(rows: Sequence[FramePrediction | Hole], **values: object) -> list[TrackPlan]:
    video = fake_video("v", len(rows), height=SIZE[0], width=SIZE[1])
    return link(IdolLinker(IdolLinkConfig(**values)), video, rows)


def references(plan: TrackPlan) -> tuple[tuple[int, int], ...]:
    return tuple(zip(plan.frame_index.tolist(), plan.instance.tolist(), strict=True))


def ids(rows: Sequence[FramePrediction | Hole], **values: object) -> list[list[int]]:
    """Per row, each instance's track in order of birth; -1 for none."""
    frames = [item for item in rows if isinstance(item, FramePrediction)]
    found = {item.frame_index: [-1] * len(item) for item in frames}
    for track, plan in enumerate(linked(rows, **{**EVERY_TRACK, **values})):
        for frame, instance in references(plan):
            found[frame][instance] = track
    return list(found.values())


# --- the golden vectors of the tracker ------------------------------------------------------------


def test_vector_a_the_only_track_goes_to_the_best_instance_whatever_it_looks_like():
    rows = [row(0, Seen(A)), row(1, Seen(B, 0.8), Seen(A, 0.7))]
    assert ids(rows) == [[0], [0, 1]]


def test_vector_b_the_only_instance_takes_a_track_whatever_it_looks_like():
    rows = [row(0, Seen(A), Seen(B, 0.8)), row(1, Seen([-4, -4, 0], 0.05))]
    assert ids(rows) == [[0, 1], [0]]


def test_vector_c_order_does_not_matter_to_clear_matches():
    rows = [row(0, Seen(A), Seen(B, 0.8)), row(1, Seen(B, 0.8), Seen(A, 0.7))]
    assert ids(rows) == [[0, 1], [1, 0]]


def test_vector_d_memory_is_a_mean_weighted_by_score_and_age():
    bank = idol.MemoryBank.empty(3, 1)
    bank.add(np.array([[1.0]]), np.array([0.9]), 0)
    for frame, (x, score) in enumerate([(2.0, 0.5), (3.0, 0.7), (4.0, 0.6)], 1):
        bank.update(np.array([0]), np.array([[x]]), np.array([score]), frame)
    assert bank.recall()[0, 0] == pytest.approx(3.201754, abs=1e-6)
    assert bank.num_matched.tolist() == [4]
    assert sorted(bank.scores_MT[0].tolist()) == [0.5, 0.6, 0.7]


@pytest.mark.parametrize(("gap", "again"), [(10, 1), (11, 2)], ids=["exactly 10", "11"])
def test_vector_e_an_unseen_track_can_be_matched_for_ten_frames(gap, again):
    rows = [row(0, Seen(A), Seen(B, 0.8)), *(row(f, Seen(A)) for f in range(1, gap))]
    assert ids([*rows, row(gap, Seen(A), Seen(B, 0.8))])[-1] == [0, again]


def test_vector_f_of_two_similar_tracks_the_longer_one_wins():
    rows = [row(f, Seen([3, 0])) for f in range(5)]
    rows += [row(5, Seen([3, 0]), Seen([2, 2], 0.8)), row(6, Seen([3, 2.5]))]
    assert ids(rows)[5:] == [[0, 1], [0]]
    bank = idol.MemoryBank.empty(3, 2)
    bank.add(np.array([[3.0, 0], [2, 2]]), np.array([0.9, 0.8]), 5)
    similar = idol.similarity(np.array([[3, 2.5]]), bank.recall())
    assert similar[0].tolist() == pytest.approx([0.5596, 0.9404], abs=1e-4)
    assert idol.assign(similar, np.array([1, 1]), 0.5).tolist() == [1]


# --- scenarios ------------------------------------------------------------------------------------


def test_perfect():
    assert ids([row(f, Seen(A), Seen(B, 0.8)) for f in range(4)]) == [[0, 1]] * 4


def test_birth():
    rows = [row(0, Seen(A)), row(1, Seen(A), Seen(B, 0.8)), row(2, Seen(B), Seen(A, 0.8))]
    assert ids(rows) == [[0], [0, 1], [1, 0]]


def test_death():
    rows = [row(0, Seen(A), Seen(B, 0.8)), row(1, Seen(A)), row(2, Seen(A))]
    assert [plan.frame_index.tolist() for plan in linked(rows, **EVERY_TRACK)] == [[0, 1, 2], [0]]


def test_gap_and_return():
    rows = [row(f, Seen(A), Seen(B, 0.8)) for f in (0, 1, 2)]
    rows += [row(f, Seen(A)) for f in range(3, 8)] + [row(8, Seen(A), Seen(B, 0.8))]
    assert ids(rows)[-1] == [0, 1]


def test_crossing():
    """Masks change places, and for a moment one hides the other."""
    left, right = (0, 2), (2, 4)
    rows = [
        row(0, Seen(A, 0.9, left), Seen(B, 0.8, right)),
        row(1, Seen(A, 0.9, (1, 3)), Seen(B, 0.8, (1, 3))),
        row(2, Seen(A, 0.8, right), Seen(B, 0.9, left)),
    ]
    assert ids(rows) == [[0, 1], [0, -1], [0, 1]]


def test_tied_scores_keep_the_order_of_the_list():
    rows = [row(0, Seen(A, 0.5), Seen(B, 0.5)), row(1, Seen(C, 0.5), Seen(C, 0.5))]
    assert ids(rows)[0] == [0, 1]
    assert idol.select(np.array([0.3, 0.5, 0.3, 0.5], np.float32), 0.1).tolist() == [1, 3, 0, 2]


def test_tied_similarities_are_no_match():
    """Two tracks and two instances that all look the same: every similarity is exactly 1/2."""
    rows = [row(f, Seen(A), Seen(A, 0.8)) for f in range(2)]
    assert ids(rows) == [[0, 1], [2, 3]]


def test_tied_tracks_go_to_the_older_one():
    similar = np.array([[0.75, 0.75], [0.75, 0.75]], np.float32)
    assert idol.assign(similar, np.array([2, 2]), 0.5).tolist() == [0, 1]


def test_saturated_similarity_is_no_match():
    """An instance like one track only, which is far more like another instance: 1/2 in float32."""
    similar = idol.similarity(np.array([[5.0, 0], [10, 0]]), np.array([[5.0, 0], [-5, 0]]))
    assert similar[0, 0] == np.float32(0.5)
    assert idol.assign(similar, np.array([9, 1]), 0.5).tolist() == [-1, 0]


@pytest.mark.parametrize("rows", [[], [row(0), row(1)], [Hole(start=0, stop=5)]])
def test_empty_video(rows):
    assert linked(rows) == []


def test_empty_frame():
    rows = [row(0, Seen(A), Seen(B, 0.8)), row(1), row(2, Seen(B), Seen(A, 0.8))]
    assert ids(rows) == [[0, 1], [], [1, 0]]


def test_empty_first_frames():
    assert ids([row(0), row(1), row(2, Seen(A)), row(3, Seen(A))]) == [[], [], [0], [0]]


def test_one_frame():
    (plan,) = linked([row(7, Seen(A, 0.75))])
    assert references(plan) == ((7, 0),)
    assert (plan.label, plan.score, plan.entries) == (1, 0.75, ((1, 0.75),))


def test_500_instances():
    order = np.random.default_rng(0).permutation(500)
    codes = np.eye(500) * 5
    rows = [row(0, *map(Seen, codes.tolist())), row(1, *map(Seen, codes[order].tolist()))]
    assert ids(rows) == [list(range(500)), order.tolist()]


def test_holes_age_no_track():
    rows = [row(0, Seen(A), Seen(B, 0.8)), row(50, Seen(A)), row(51, Seen(B), Seen(A, 0.8))]
    assert ids([rows[0], Hole(start=1, stop=50), *rows[1:]]) == ids(rows) == [[0, 1], [0], [1, 0]]


def test_sampled_frames_count_as_one_each():
    rows = [row(0, Seen(A), Seen(B, 0.8)), row(20, Seen(A)), row(40, Seen(A), Seen(B, 0.8))]
    assert ids(rows)[-1] == [0, 1]


def test_a_linker_starts_afresh_with_every_video():
    linker = IdolLinker(IdolLinkConfig(**EVERY_TRACK))
    first = link(linker, fake_video("v", 1), [row(0, Seen(A))])
    second = link(linker, fake_video("w", 1), [row(3, Seen([4.0, 0], class_scores=[0.5, 0.25]))])
    assert [plan.frame_index.tolist() for plan in (*first, *second)] == [[0], [3]]


# --- thresholds -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "born"), [(1, False), (ABOVE, True)])
def test_exactly_add_new_starts_no_track(factor, born):
    """The first instance takes the only track; the second looks like nothing."""
    rows = [row(0, Seen(A)), row(1, Seen(A), Seen(B, np.float32(0.2) * factor))]
    assert ids(rows) == [[0], [0, 1 if born else -1]]


@pytest.mark.parametrize(("factor", "born"), [(1, False), (ABOVE, True)])
def test_exactly_init_score_starts_no_track_in_an_empty_memory(factor, born):
    score = np.float32(0.2) * factor
    assert ids([row(0, Seen(A, score))], preset="ovis") == [[0 if born else -1]]


@pytest.mark.parametrize(("factor", "taken"), [(1, -1), (ABOVE, 1)])
def test_exactly_min_score_is_no_candidate(factor, taken):
    score = np.float32(0.1) * factor
    rows = [row(0, Seen(A), Seen(B, 0.8)), row(1, Seen(A), Seen(B, score))]
    assert ids(rows) == [[0, 1], [0, taken]]


def test_the_best_instance_is_a_candidate_however_low():
    rows = [row(0, Seen(A)), row(1, Seen(B, 0.01), Seen(A, 0.02))]
    assert ids(rows) == [[0], [-1, 0]]


@pytest.mark.parametrize(
    ("similar", "expected"), [(0.5, idol.UNMATCHED), (np.float32(0.5) * ABOVE, 0)]
)
def test_exactly_the_match_threshold_is_no_match(similar, expected):
    assert idol.assign(np.array([[similar]], np.float32), np.array([1]), 0.5).tolist() == [expected]


@pytest.mark.parametrize(("width", "stays"), [(4, False), (7, False), (8, True), (100, True)])
def test_a_mask_exactly_at_the_nms_threshold_goes_below_32_common_pixels(width, stays):
    rows = [row(0, Seen(A, 0.9, (0, 2 * width)), Seen(B, 0.8, (0, width)))]
    assert ids(rows) == [[0, 1 if stays else -1]]


@pytest.mark.parametrize(("preset", "expected"), [("ytvis", [0, 1]), ("ovis", [0, -1])])
def test_presets_differ_in_nms(preset, expected):
    """Overlap 0.4."""
    rows = [row(0, Seen(A, 0.9, (0, 14)), Seen(B, 0.8, (6, 20)))]
    assert ids(rows, preset=preset) == [expected]


@pytest.mark.parametrize(("preset", "expected"), [("ytvis", [0, 1]), ("ovis", [0, -1])])
def test_presets_differ_in_add_new(preset, expected):
    rows = [row(0, Seen(A)), row(1, Seen(A), Seen(B, 0.25))]
    assert ids(rows, preset=preset)[1] == expected


def test_what_is_given_wins_over_the_preset():
    config = IdolLinkConfig(preset="ovis", nms_pre=0.6)
    assert (config.max_overlap, config.new_score) == (0.6, 0.3)
    assert (IdolLinkConfig().max_overlap, IdolLinkConfig().new_score) == (0.5, 0.2)


def test_a_suppressed_mask_suppresses_none():
    masks = [(0, 10), (3, 13), (6, 16)]
    rows = [row(0, *(Seen(v, 0.9, m) for v, m in zip((A, B, C), masks, strict=True)))]
    assert ids(rows) == [[0, -1, 1]]


def test_two_empty_masks_suppress_each_other():
    rows = [row(0, Seen(A, 0.9, (3, 3)), Seen(B, 0.8, (5, 5)), Seen(C, 0.7))]
    assert ids(rows) == [[0, -1, 1]]


# --- options --------------------------------------------------------------------------------------


def test_min_cosine_keeps_the_only_track_for_what_looks_like_it():
    rows = [row(0, Seen(A)), row(1, Seen(B, 0.8), Seen(A, 0.7))]
    assert ids(rows, min_cosine=0.5) == [[0], [1, 0]]


def test_min_cosine_is_met_exactly():
    rows = [row(0, Seen(A)), row(1, Seen([3.0, 4.0, 0.0]))]
    assert ids(rows, min_cosine=0.6) == [[0], [0]]
    assert ids(rows, min_cosine=0.61) == [[0], [1]]


def test_assoc_report_gives_a_track_to_the_first_that_chose_it_and_none_to_the_others():
    similar = np.array([[0.9, 0.6], [0.8, 0.7], [0.5, 0.5]], np.float32)
    often = np.array([1, 9])
    code = idol.assign(similar, often, 0.5, "code").tolist()
    assert code == [1, 0, idol.UNMATCHED]
    report = idol.assign(similar, often, 0.5, "report").tolist()
    assert report == [0, idol.DUPLICATE, idol.UNMATCHED]


def test_assoc_report_starts_no_track_for_a_duplicate():
    rows = [row(0, Seen(A), Seen(B, 0.8)), row(1, Seen([4, 0, 1], 0.9), Seen([4, 0, 0.9], 0.8))]
    assert ids(rows, assoc="report") == [[0, 1], [0, -1]]
    assert ids(rows, assoc="code") == [[0, 1], [0, 2]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nms_pre": 1.5}, "nms_pre: expected 0 to 1, got 1.5"),
        ({"emit": float("nan")}, "emit: expected 0 to 1"),
        ({"min_cosine": -2.0}, "min_cosine: expected -1 to 1, got -2"),
        ({"memory": 0}, "memory: expected 1 or more, got 0"),
        ({"forget": 0}, "forget: expected 1 or more"),
        ({"min_len": 0}, "min_len: expected 1 or more"),
    ],
)
def test_senseless_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        IdolLinkConfig(**values)


# --- from frames to results -----------------------------------------------------------------------


def brief_track(num_rows: int, seen: Sequence[int], **values: object) -> list[list[int]]:
    """Frames of the tracks other than the one that is seen throughout."""
    rows = [row(f, Seen(A), *([Seen(B, 0.8)] if f in seen else [])) for f in range(num_rows)]
    return [plan.frame_index.tolist() for plan in linked(rows, **values)[1:]]


@pytest.mark.parametrize(
    ("num_rows", "seen", "kept"),
    [
        (9, (0, 1), [[0, 1]]),
        (10, (0, 1), []),
        (10, (0, 1, 2), [[0, 1, 2]]),
        (30, (20, 21), []),
        (30, (28, 29), [[28, 29]]),
        (30, (28,), [[28]]),
        (30, (27,), []),
        (30, (20, 22, 24), [[20, 22, 24]]),
        (30, (20, 23, 25, 27), [[23, 25, 27]]),
        (30, (0, 8, 9), [[0, 8, 9]]),
        (30, (0, 9, 10), [[0, 9, 10]]),
        (30, (0, 10, 11, 12), [[10, 11, 12]]),
        (30, (0, 4, 5, 12), [[0, 4, 5, 12]]),
    ],
    ids=[
        "short, but the video ends before the first purge",
        "short",
        "three frames",
        "short, later",
        "short at the end",
        "last seen a frame before the end",
        "unseen for the last two frames",
        "gaps of one frame",
        "returns after the purge, without what was lost",
        "returns in the ninth frame",
        "returns in the frame of the first purge",
        "returns after the first purge",
        "three frames are enough for ever",
    ],
)
def test_short_tracks_are_purged(num_rows, seen, kept):
    assert brief_track(num_rows, seen) == kept


def test_no_track_is_too_short_at_min_len_1():
    assert brief_track(30, (0, 20), min_len=1) == [[0], [20]]


def test_a_track_forgotten_before_the_first_purge_is_purged_all_the_same():
    assert brief_track(9, (0, 1), forget=3) == [[0, 1]]
    assert brief_track(10, (0, 1), forget=3) == []
    assert brief_track(10, (0, 1, 2, 6), forget=3) == [[0, 1, 2]]


CLASSES = [[0.75, 0.25, 0.0625], [0.25, 0.5, 0.0]]


def test_scores_are_means_over_the_frames_a_track_was_matched_in():
    rows = [row(f, Seen(A, 0.75, None, c)) for f, c in zip((0, 5), CLASSES, strict=True)]
    (plan,) = linked(rows)
    assert plan.class_scores.tolist() == [0.5, 0.375, 0.03125]
    assert (plan.label, plan.score, plan.mask_scores) == (1, 0.5, None)
    assert plan.entries == ((1, 0.5), (2, 0.375))


@pytest.mark.parametrize(
    ("values", "entries"),
    [
        ({"score": "max"}, ((1, 0.75), (2, 0.5), (3, 0.0625))),
        ({"multi_class": False}, ((1, 0.5),)),
        ({"for_fusion": True}, ((1, 0.5), (2, 0.375), (3, 0.03125))),
        ({"for_fusion": True, "multi_class": False}, ((1, 0.5),)),
        ({"emit": 0.375}, ((1, 0.5),)),
    ],
    ids=str,
)
def test_output_rules(values, entries):
    rows = [row(f, Seen(A, 0.75, None, c)) for f, c in enumerate(CLASSES)]
    (plan,) = linked(rows, **values)
    assert plan.entries == entries
    assert (plan.label, plan.score) == entries[0]


@pytest.mark.parametrize(("factor", "lines"), [(1, 1), (ABOVE, 2)])
def test_exactly_the_emission_threshold_is_no_line(factor, lines):
    scores = [0.75, float(np.float32(0.05) * factor)]
    (plan,) = linked([row(0, Seen(A, 0.75, None, scores))])
    assert len(plan.entries) == lines


def test_a_track_without_a_line_is_left_out():
    assert linked([row(0, Seen(A, 0.75, None, [0.01, 0.02]))]) == []


def test_a_matched_frame_with_an_empty_mask_counts():
    rows = [row(0, Seen(A, 0.75)), row(1, Seen(A, 0.25, (3, 3)))]
    (plan,) = linked(rows)
    assert (plan.frame_index.tolist(), plan.score) == ([0, 1], 0.5)


# --- against plain loops --------------------------------------------------------------------------


def random_rows(seed: int, num_rows: int, num_objects: int) -> list[FramePrediction]:
    """Objects that come and go, look alike, overlap, and have tied and low scores."""
    rng = np.random.default_rng(seed)
    looks = rng.normal(size=(num_objects, 3)) * rng.choice([0.5, 2, 6])
    rows = []
    for frame in range(num_rows):
        objects = np.flatnonzero(rng.random(num_objects) < 0.6)
        left = rng.integers(0, 20, len(objects)).tolist()
        widths = rng.integers(0, 8, len(objects)).tolist()
        scores = rng.choice([0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 0.9], (len(objects), 2))
        seen = looks[objects] + rng.normal(size=(len(objects), 3)) * rng.choice([0, 0.5])
        instances = [
            Seen(e.round(2).tolist(), float(s.max()), (x, x + w), s.tolist())
            for e, s, x, w in zip(seen, scores, left, widths, strict=True)
        ]
        rows.append(row(frame, *instances))
    return rows


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 25), st.integers(1, 7), st.booleans())
def test_tracks_are_those_of_the_plain_loops(seed, num_rows, num_objects, ovis):
    rows = random_rows(seed, num_rows, num_objects)
    values = {"nms_pre": 0.3, "add_new": 0.3} if ovis else {}
    expected = {tuple(r.references): r for r in link_idol(rows, **values)}
    plans = {references(plan): plan for plan in linked(rows[::-1], **values)}
    assert set(plans) == set(expected)
    for key, plan in plans.items():
        assert np.array_equal(plan.class_scores, expected[key].class_scores)
        assert list(plan.entries) == expected[key].entries


# --- bounds and mistakes --------------------------------------------------------------------------


def test_memory_grows_by_less_than_64_bytes_per_instance():
    rows = [row(0, *(Seen(v) for v in np.eye(8).tolist()))]
    linker = IdolLinker(IdolLinkConfig())

    def peak(num_rows: int) -> int:
        linker.start(fake_video("v", num_rows))
        tracemalloc.start()
        for _ in range(num_rows):
            linker.step(rows[0])
        linker.finish()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(1500) - peak(500) < 64 * 8 * 1000


def changed(prediction: FramePrediction, **fields: object) -> FramePrediction:
    return dataclasses.replace(prediction, **fields)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            changed(row(1, Seen(A)), embeddings=None),
            r"frame 1 of 'v' has no `embedding`, by which idol links: predict with --system idol",
        ),
        (changed(row(1, Seen(A)), class_scores=None), "frame 1 of 'v' has no `class_scores`"),
        (row(1, Seen([1.0, 2.0])), "2 embedding values and 1 class scores per instance, earlier"),
        (row(1, Seen(A, 0.5, None, [0.5, 0.5])), "3 embedding values and 2 class scores per"),
        (row(1, Seen([np.nan, 0, 0])), "frame 1 of 'v': an embedding or class score is not finite"),
        (row(1, Seen(A, 0.5, None, [np.inf])), "an embedding or class score is not finite"),
    ],
)
def test_rows_that_cannot_be_linked_are_named(second, message):
    with pytest.raises(ValueError, match=message):
        linked([row(0, Seen(A)), second])
