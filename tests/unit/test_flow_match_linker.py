"""The flow_match linker, scenario by scenario, and against plain loops."""

from __future__ import annotations

import dataclasses
import pickle
from collections.abc import Sequence

import numpy as np
import pytest

from tests.support.fakes import fake_video
from tests.support.golden import GoldenTrack, assert_same_tracks, tracks_of_plans
from tests.support.reference_flow_match import link_flow_match
from tests.support.rows import Box, box_masks
from vis_core.association.flow_match import match, overlaps, suppress
from vis_core.config import build
from vis_core.errors import UsageError
from vis_core.masks import rle
from vis_core.system import link
from vis_core.systems.flow_match import FlowMatchLinkConfig, FlowMatchLinker
from vis_core.types import FlowField, FramePrediction, Hole, TrackPlan

SIZE = (40, 80)
A: Box = (5, 10, 25, 20)
B: Box = (50, 10, 70, 20)


def frame(
    index: int,
    boxes: Sequence[Box] = (),
    scores: Sequence[float] | None = None,
    *,
    flow: tuple[float, float] | None = (0, 0),
    labels: Sequence[int] | None = None,
    size: rle.Size = SIZE,
) -> FramePrediction:
    """Boxes found in a frame whose pixels all move by `flow` (dx, dy) to the next one."""
    masks = box_masks(boxes, size)
    field = None
    if flow is not None:
        field = FlowField(dxdy=np.tile(np.float16(flow)[:, None, None], (1, 5, 10)))
    return FramePrediction(
        video_id="v",
        frame_index=index,
        pts_seconds=index / 25,
        height=size[0],
        width=size[1],
        scores=np.array([0.5] * len(boxes) if scores is None else scores, np.float32),
        labels=np.array([1] * len(boxes) if labels is None else labels, np.int32),
        boxes=rle.boxes(masks, size),
        masks=masks,
        flow=field,
    )


def moved(box: Box, dx: int, dy: int = 0) -> Box:
    return box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy


def plans_of(rows: Sequence[FramePrediction | Hole], **settings: object) -> list[TrackPlan]:
    linker = FlowMatchLinker(FlowMatchLinkConfig(**{"min_len": 1, **settings}))
    video = fake_video("v", len(rows), height=SIZE[0], width=SIZE[1])
    return sorted(link(linker, video, rows), key=lambda plan: (-plan.score, plan.frame_index[0]))


def frames_of(plan: TrackPlan) -> tuple[list[int], list[int]]:
    """Frames with a detection, and frames with a mask made for them."""
    return plan.frame_index.tolist(), [mask.frame_index for mask in plan.carried]


def box_of(mask: bytes) -> tuple[int, ...]:
    return tuple(rle.boxes([mask], SIZE)[0].astype(int).tolist())


# --- births, deaths, gaps -------------------------------------------------------------------------


def test_one_object_seen_throughout_is_one_track():
    rows = [frame(t, [moved(A, 3 * t)], flow=(3, 0)) for t in range(10)]
    (plan,) = plans_of(rows)
    assert frames_of(plan) == (list(range(10)), [])
    assert plan.score == pytest.approx(10 * 10 * 0.5) and plan.label == 1


def test_without_the_flow_a_fast_object_breaks():
    """12 of 20 pixels a frame: what overlaps is only there because masks are moved first."""
    size = (40, 400)
    rows = [frame(t, [moved(A, 12 * t)], flow=(12, 0), size=size) for t in range(10)]
    video = fake_video("v", 10, height=size[0], width=size[1])

    def num_tracks(rows):
        return len(link(FlowMatchLinker(FlowMatchLinkConfig(min_len=1)), video, rows))

    assert num_tracks(rows) == 1
    assert num_tracks([dataclasses.replace(row, flow=None) for row in rows]) == 10


def test_a_birth_starts_a_track_in_its_frame():
    rows = [frame(t, [A, B] if t >= 4 else [A]) for t in range(8)]
    first, second = plans_of(rows)
    assert frames_of(first) == (list(range(8)), []) and frames_of(second) == ([4, 5, 6, 7], [])


def test_a_death_ends_a_track_at_its_last_match():
    """Warped masks behind the last match are never part of it."""
    rows = [frame(t, [A, B] if t < 4 else [A]) for t in range(20)]
    _, second = plans_of(rows)
    assert frames_of(second) == ([0, 1, 2, 3], []) and second.score == pytest.approx(4 * 4 * 0.5)


@pytest.mark.parametrize("gap", [1, 5])
def test_a_gap_within_the_patience_is_filled_with_warped_masks(gap):
    seen = [0, 1, 2, *range(3 + gap, 12)]
    rows = [frame(t, [moved(A, 2 * t)] if t in seen else [], flow=(2, 0)) for t in range(12)]
    (plan,) = plans_of(rows)
    assert frames_of(plan) == (seen, list(range(3, 3 + gap)))
    for mask in plan.carried:
        assert box_of(mask.mask) == moved(A, 2 * mask.frame_index) and mask.score is None
    assert plan.score == pytest.approx(12 * 0.5 * len(seen)), "gaps count in the length"


def test_a_gap_beyond_the_patience_ends_the_track():
    seen = [0, 1, 2, *range(9, 12)]
    plans = plans_of([frame(t, [A] if t in seen else []) for t in range(12)])
    assert [frames_of(plan) for plan in plans] == [([0, 1, 2], []), ([9, 10, 11], [])]


def test_in_the_paper_a_track_ends_one_frame_earlier():
    for gap, num_tracks in ((4, 1), (5, 2)):
        seen = [0, 1, 2, *range(3 + gap, 12)]
        rows = [frame(t, [A] if t in seen else []) for t in range(12)]
        assert len(plans_of(rows, preset="paper")) == num_tracks
    assert len(plans_of(rows, preset="release")) == 1


def test_short_tracks_are_dropped():
    rows = [frame(t, [A, B] if 2 <= t < 6 else [A]) for t in range(8)]
    assert len(plans_of(rows, min_len=4)) == 2
    assert [len(plan.frame_index) for plan in plans_of(rows, min_len=5)] == [8]


def test_a_mask_that_leaves_the_frame_is_a_miss_without_a_mask():
    seen = [t for t in range(9) if t not in (3, 4)]
    rows = [frame(t, [A] if t in seen else [], flow=(100, 0)) for t in range(9)]
    assert all(not plan.carried for plan in plans_of(rows))


# --- who takes which ------------------------------------------------------------------------------


def test_crossing_objects_keep_their_ids():
    """Two boxes pass each other; the flow has a value of its own where each of them is."""
    rows = []
    for t in range(17):
        boxes = [moved((4, 6, 24, 16), 3 * t), moved((56, 18, 76, 28), -3 * t)]
        dxdy = np.zeros((2, *SIZE), np.float16)
        dxdy[0, :17], dxdy[0, 17:] = 3, -3
        rows.append(dataclasses.replace(frame(t, boxes), flow=FlowField(dxdy=dxdy)))
    plans = plans_of(rows)
    assert [plan.instance.tolist() for plan in plans] in (
        [[0] * 17, [1] * 17],
        [[1] * 17, [0] * 17],
    )


def test_the_first_of_equal_overlaps_is_taken():
    """Equal overlaps, equal scores: the earlier in the list; else the better score."""
    left, right = (10, 10, 22, 20), (18, 10, 30, 20)
    for scores, chosen in (((0.5, 0.5), 0), ((0.5, 0.75), 1)):
        rows = [frame(0, [(10, 10, 30, 20)], [0.9]), frame(1, [left, right], scores)]
        first = next(plan for plan in plans_of(rows) if plan.frame_index[0] == 0)
        assert first.instance.tolist() == [0, chosen]


def test_an_overlap_exactly_at_the_threshold_is_no_match():
    half, more = (5, 10, 15, 20), (5, 10, 16, 20)
    assert len(plans_of([frame(0, [A]), frame(1, [half])])) == 2
    assert len(plans_of([frame(0, [A]), frame(1, [more])])) == 1


def test_an_overlap_exactly_at_the_threshold_suppresses_nothing():
    """7 of 10 columns in common."""
    part, more = (5, 10, 19, 20), (5, 10, 20, 20)
    assert len(plans_of([frame(0, [A, part], [0.9, 0.8])])) == 2
    assert len(plans_of([frame(0, [A, more], [0.9, 0.8])])) == 1


def test_of_tracks_that_share_a_detection_the_longest_stays():
    """The other loses this frame and the one before it, as released; the paper, this one alone."""
    near = (30, 10, 43, 20)
    rows = [
        frame(0, [(30, 10, 50, 20)]),
        frame(1, [(30, 10, 50, 20)]),
        *[frame(t, [(30, 10, 46, 20), (30, 10, 41, 20)], [0.9, 0.8]) for t in (2, 3, 4)],
        *[frame(t, [near], [0.9]) for t in (5, 6, 7)],
    ]
    long, short = plans_of(rows)
    assert frames_of(long) == (list(range(8)), [])
    assert frames_of(short) == ([2, 3], []), "born in 2, shared in 5, cut from 4 on"
    assert short.score == pytest.approx(2 * (3 * 0.8 + 0.9)), "the score keeps what was cut"
    _, short = plans_of(rows, preset="paper")
    assert frames_of(short) == ([2, 3, 4], [])


def test_one_to_one_gives_each_detection_to_one_track():
    """Both tracks overlap the right detection most; the best assignment sends one to the left."""
    first, second = (10, 10, 30, 20), (14, 10, 36, 20)
    left, right = (8, 10, 25, 20), (12, 10, 34, 20)
    rows = [frame(0, [first, second], [0.9, 0.8]), frame(1, [left, right], [0.9, 0.8])]
    taken = [plan.instance.tolist() for plan in plans_of(rows, one_to_one=True)]
    assert sorted(taken) == [[0, 0], [1, 1]]
    assert all(len(plan.frame_index) < 2 for plan in plans_of(rows)[1:])


def test_the_number_of_masks_is_capped_best_first():
    boxes = [(8 * i, 0, 8 * i + 6, 8) for i in range(10)]
    scores = [0.1 * (i + 1) for i in range(10)]
    rows = [frame(t, boxes, scores) for t in range(3)]
    assert sorted(plan.instance[0] for plan in plans_of(rows, max_masks=3)) == [7, 8, 9]


def test_the_label_is_the_one_with_most_score_behind_it():
    rows = [
        frame(t, [A], [score], labels=[label])
        for t, (label, score) in enumerate([(7, 0.9), (3, 0.5), (3, 0.5), (2, 0.1)])
    ]
    assert [plan.label for plan in plans_of(rows)] == [3]
    tie = [frame(t, [A], [0.5], labels=[label]) for t, label in enumerate([7, 3])]
    assert [plan.label for plan in plans_of(tie)] == [3]


# --- holes, and nothing at all --------------------------------------------------------------------


def test_a_short_hole_is_bridged_and_no_mask_is_made_in_it():
    rows = [*[frame(t, [A]) for t in range(4)], Hole(start=4, stop=7)]
    rows += [frame(t, [A]) for t in range(7, 10)]
    rows[3] = dataclasses.replace(rows[3], flow=None)
    (plan,) = plans_of(rows)
    assert frames_of(plan) == ([0, 1, 2, 3, 7, 8, 9], [])
    assert plan.score == pytest.approx(7 * 7 * 0.5), "only rows count"


def test_a_long_hole_ends_every_track():
    rows = [*[frame(t, [A]) for t in range(4)], Hole(start=4, stop=10)]
    rows += [frame(t, [A]) for t in range(10, 13)]
    assert [frames_of(plan)[0] for plan in plans_of(rows)] == [[0, 1, 2, 3], [10, 11, 12]]


def test_a_hole_in_sampled_rows_counts_sampled_frames():
    """Every tenth frame: 30 frames are 3 misses, not 30."""
    rows = [*[frame(10 * t, [A]) for t in range(4)], Hole(start=40, stop=70)]
    rows += [frame(10 * t, [A]) for t in range(7, 10)]
    assert len(plans_of(rows)) == 1


def test_the_flow_into_a_hole_moves_nothing():
    """A foreign table may hold a flow there; it leads to a frame that nobody saw."""
    rows = [frame(0, [A], flow=(40, 0)), Hole(start=1, stop=2), frame(2, [A])]
    assert len(plans_of(rows)) == 1


def test_an_empty_frame_is_a_miss_for_all():
    rows = [frame(t, [] if t in (0, 3) else [A, B]) for t in range(6)]
    assert [frames_of(plan) for plan in plans_of(rows)] == [([1, 2, 4, 5], [3])] * 2


@pytest.mark.parametrize(
    "rows", [[], [frame(0)], [frame(t) for t in range(9)], [Hole(start=0, stop=9)]]
)
def test_nothing_found_gives_no_tracks(rows):
    assert plans_of(rows) == []


def test_one_frame_gives_one_track_per_mask():
    assert [frames_of(plan) for plan in plans_of([frame(0, [A, B])])] == [([0], [])] * 2


def test_empty_masks_start_no_tracks():
    empty: Box = (0, 0, 0, 0)
    assert len(plans_of([frame(0, [A, empty]), frame(1, [empty, A])])) == 1


def test_500_instances_in_a_frame():
    """All small and apart: 100 of them are followed, with ids that never mix."""
    size = (200, 400)
    boxes = [(8 * (i % 50), 8 * (i // 50), 8 * (i % 50) + 6, 8 * (i // 50) + 6) for i in range(500)]
    order = np.random.default_rng(2).permutation(500)
    scores = 0.5 + order / 1000
    rows = [frame(t, boxes, scores, size=size) for t in range(3)]
    video = fake_video("v", 3, height=size[0], width=size[1])
    plans = link(FlowMatchLinker(FlowMatchLinkConfig(min_len=3)), video, rows)
    assert sorted(p.instance.tolist() for p in plans) == sorted(
        [[i] * 3 for i in np.argsort(-scores)[:100].tolist()]
    )


# --- what is not in the paper ---------------------------------------------------------------------


def test_a_lost_track_is_found_again_only_when_asked():
    """Unseen for 10 frames, back nearby with the same shape; far away it is another object."""
    back = moved(A, 15, 8)
    seen = {**dict.fromkeys(range(4), A), **dict.fromkeys(range(14, 18), back)}
    rows = [frame(t, [seen[t]] if t in seen else []) for t in range(18)]
    assert len(plans_of(rows)) == 2
    (plan,) = plans_of(rows, reid_frames=20)
    assert frames_of(plan) == (sorted(seen), []), "no masks are made while it was lost"
    assert plan.score == pytest.approx(8 * 8 * 0.5)
    assert len(plans_of(rows, reid_frames=3)) == 2, "too late"
    other = [
        frame(t, [(5, 10, 9, 38)] if t > 9 else [seen[t]] if t in seen else []) for t in range(18)
    ]
    assert len(plans_of(other, reid_frames=20)) == 2, "another shape"
    far = [
        frame(t, [moved(A, 52, 15)] if t > 9 else [seen[t]] if t in seen else []) for t in range(18)
    ]
    assert len(plans_of(far, reid_frames=20)) == 2, "too far away"


def test_for_fusion_scores_are_shares_in_the_same_order_and_short_tracks_stay():
    rows = [frame(t, [A, B] if t < 2 else [A], [0.9, 0.5][: 2 if t < 2 else 1]) for t in range(8)]
    released = plans_of(rows, min_len=5)
    plans = plans_of(rows, min_len=5, for_fusion=True)
    assert len(released) == 1 and len(plans) == 2
    assert plans[0].score == pytest.approx(np.sqrt(8 * 8 * 0.9) / 8)
    assert plans[1].score == pytest.approx(np.sqrt(2 * 2 * 0.5) / 8)


# --- against plain loops --------------------------------------------------------------------------


def wild_rows(seed: int, num_frames: int = 24) -> list[FramePrediction]:
    """Ragged blobs that move, vanish, overlap and double, with a flow that is roughly right."""
    rng = np.random.default_rng(seed)
    size, rows = (48, 72), []
    middles = rng.uniform((8, 8), (40, 64), (6, 2))
    speeds, radii = rng.uniform(-2, 2, (6, 2)), rng.uniform(4, 11, (6, 2))
    shape = [(48, 72), (6, 9), (7, 5), (1, 1)][seed % 4]
    y, x = np.indices(size)
    for t in range(num_frames):
        masks = []
        for middle, radius in zip(middles, radii, strict=True):
            if rng.random() < 0.25:
                continue
            for _ in range(1 + (rng.random() < 0.2)):
                edge = 1 + 0.3 * rng.random(size)
                jitter = rng.uniform(-1, 1, 2)
                off = ((y - middle[0] - jitter[0]) / radius[0]) ** 2
                masks.append(off + ((x - middle[1] - jitter[1]) / radius[1]) ** 2 < edge)
        texts = rle.encode(np.array(masks, bool).reshape(-1, *size))
        flow = (
            np.rint(8 * (speeds.mean(axis=0)[::-1, None, None] + rng.normal(0, 1, (2, *shape)))) / 8
        )
        rows.append(
            FramePrediction(
                video_id="v",
                frame_index=2 * t,
                pts_seconds=t / 25,
                height=size[0],
                width=size[1],
                scores=np.float32(rng.integers(1, 9, len(texts)) / 8),
                labels=np.ones(len(texts), np.int32),
                boxes=rle.boxes(texts, size),
                masks=texts,
                flow=FlowField(dxdy=flow.astype(np.float16)),
            )
        )
        middles = middles + speeds
    return rows


@pytest.mark.parametrize("seed", range(12))
def test_tracks_masks_and_scores_equal_those_of_the_plain_loops(seed):
    rows = wild_rows(seed)
    settings = [{}, {"nms": 0.4, "match": 0.3, "patience": 2, "min_len": 2, "max_masks": 4}][
        seed % 2
    ]
    video = fake_video("v", 48, height=48, width=72)
    plans = link(FlowMatchLinker(FlowMatchLinkConfig(**settings)), video, rows)
    expected: list[GoldenTrack] = link_flow_match(rows, **settings)
    assert_same_tracks(tracks_of_plans(plans, rows, video), expected)
    assert expected and any(plan.carried for plan in plans)


# --- state, memory, settings ----------------------------------------------------------------------


def test_a_second_video_knows_nothing_of_the_first():
    linker = FlowMatchLinker(FlowMatchLinkConfig(min_len=1))
    video = fake_video("v", 4, height=SIZE[0], width=SIZE[1])
    rows = [frame(t, [A, B]) for t in range(4)]
    first, second = link(linker, video, rows), link(linker, video, rows)
    assert [frames_of(p) for p in first] == [frames_of(p) for p in second] and len(second) == 2


def test_memory_is_a_few_bytes_per_instance():
    """64 are allowed; masks that were matched are not among them."""

    def held(num_frames):
        linker = FlowMatchLinker(FlowMatchLinkConfig())
        linker.start(fake_video("v", num_frames, height=SIZE[0], width=SIZE[1]))
        row = frame(0, [(8 * i, 4, 8 * i + 7, 30) for i in range(10)])
        for t in range(num_frames):
            linker.step(dataclasses.replace(row, frame_index=t))
        return len(pickle.dumps(linker))

    per_instance = (held(300) - held(100)) / (200 * 10)
    assert 8 <= per_instance <= 9


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"nms": "1.5"}, "nms: expected 0 to 1, got 1.5"),
        ({"match": "-0.1"}, "match: expected 0 to 1, got -0.1"),
        ({"patience": "-1"}, "patience: expected 0 or more, got -1"),
        ({"min_len": "0"}, "min_len: expected 1 or more, got 0"),
        ({"preset": "papre"}, "preset: expected one of release, paper, got 'papre'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting, message):
    with pytest.raises(UsageError, match=message):
        build(FlowMatchLinkConfig, setting)


def test_patience_0_allows_no_miss_in_either_preset():
    rows = [frame(t, [A] if t != 3 else []) for t in range(8)]
    for preset in ("release", "paper"):
        plans = plans_of(rows, patience=0, preset=preset)
        assert [frames_of(plan)[0] for plan in plans] == [[4, 5, 6, 7], [0, 1, 2]]


def test_a_video_without_any_flow_is_said_once(caplog):
    plans_of([frame(t, [A], flow=None) for t in range(5)])
    assert [record.getMessage() for record in caplog.records] == [
        "v has no flow: masks were compared where they are"
    ]


# --- the pure functions ---------------------------------------------------------------------------


def test_overlaps_divide_as_the_release_does():
    """1e-6 in the union: of equal ratios the larger masks win, and 0 / 0 is 0."""
    found = overlaps(np.array([[1, 2], [0, 0]]), np.array([2, 0]), np.array([1, 4]))
    assert found[0, 0] < found[0, 1] < 0.5 and found[1].tolist() == [0, 0]


def test_suppress_is_greedy_in_the_order_given():
    overlap = np.array([[1, 0.8, 0.0], [0.8, 1, 0.8], [0.0, 0.8, 1]])
    assert suppress(overlap, 0.7).tolist() == [0, 2]
    assert suppress(overlap, 0.8).tolist() == [0, 1, 2], "strictly above"
    assert suppress(overlap, 0.7, limit=1).tolist() == [0]
    assert suppress(np.zeros((0, 0)), 0.7).tolist() == []


@pytest.mark.parametrize("shape", [(0, 0), (3, 0), (0, 3)])
def test_matching_nothing(shape):
    found = match(np.zeros(shape), 0.5)
    assert found.tracks.tolist() == [] == found.detections.tolist()
    assert found.unmatched_tracks.tolist() == list(range(shape[0]))
    assert found.unmatched_detections.tolist() == list(range(shape[1]))


def test_best_assignment_and_plain_maxima_differ_where_tracks_compete():
    overlap = np.array([[0.9, 0.8], [0.85, 0.2], [0.4, 0.4]])
    plain, best = match(overlap, 0.5), match(overlap, 0.5, one_to_one=True)
    assert plain.detections.tolist() == [0, 0] and plain.unmatched_detections.tolist() == [1]
    assert (best.tracks.tolist(), best.detections.tolist()) == ([0, 1], [1, 0])
    assert plain.unmatched_tracks.tolist() == best.unmatched_tracks.tolist() == [2]
