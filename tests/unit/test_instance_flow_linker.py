"""Instance flow: grouping of pixels, matching with references, votes, and the paper's baselines."""

from __future__ import annotations

import dataclasses
import itertools
import tracemalloc
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from tests.support.fakes import empty_prediction, fake_video
from tests.support.reference_instance_flow import link_instance_flow
from tests.support.rows import box_masks, row
from vis_core.association.instance_flow import Candidates, centroids, resolve
from vis_core.association.instance_grouping import (
    find_centers,
    group_instances,
    group_pixels,
    label_iou,
    means_over_masks,
    path_affinity,
    sampled,
)
from vis_core.columns import offsets_of
from vis_core.config import build
from vis_core.errors import UsageError
from vis_core.masks import rle
from vis_core.system import link
from vis_core.systems.instance_flow import InstanceFlowLinkConfig, InstanceFlowLinker
from vis_core.systems.oracle import OraclePredictConfig
from vis_core.systems.oracle.predictor import OraclePredictor
from vis_core.types import (
    FrameBatch,
    FramePrediction,
    Hole,
    RefAffinity,
    RefFlow,
    TrackPlan,
)
from vis_core.windows import ShardWindow

SIZE = (100, 100)  # so that epsilon is a share of 100 pixels
Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Seen:
    """An instance: its centre, where it says it was in other frames, and what it looks like."""

    center: Point
    was: Mapping[int, Point] = dataclasses.field(default_factory=dict)
    scores: Sequence[float] = (0.8,)
    peak: float = 0.5


def frame(frame_index: int, *instances: Seen) -> FramePrediction:
    if not instances:
        empty = empty_prediction("v", frame_index)
        return dataclasses.replace(empty, height=SIZE[0], width=SIZE[1])
    centers = np.array([seen.center for seen in instances], np.float32)
    entries = [(r, np.subtract(p, s.center)) for s in instances for r, p in s.was.items()]
    corner = [(int(min(x, 98)), int(min(y, 98))) for y, x in (s.center for s in instances)]
    return row(
        frame_index,
        box_masks([(x, y, x + 2, y + 2) for x, y in corner], SIZE),
        SIZE,
        class_scores=[seen.scores for seen in instances],
        scores=np.array([seen.peak for seen in instances], np.float32),
        centers=centers,
        mean_offsets=np.zeros_like(centers),
        ref_flow=RefFlow(
            offsets=offsets_of([len(seen.was) for seen in instances]),
            frame_index=np.array([r for r, _ in entries], np.int32),
            dydx=np.array([d for _, d in entries], np.float32).reshape(-1, 2),
        ),
    )


def moving(
    paths: Mapping[str, Mapping[int, Point]],
    num_frames: int,
    references: int = 3,
    hidden: Sequence[int] = (),
) -> list[FramePrediction]:
    """Objects at given places, with true flow to the first frame and the ones before."""
    rows, there = [], [t for t in range(num_frames) if t not in hidden]
    for position, t in enumerate(there):
        before = {there[0], *there[max(0, position - references) : position]} - {t}
        instances = [
            Seen(path[t], {r: path[r] for r in sorted(before) if r in path})
            for path in paths.values()
            if t in path
        ]
        rows.append(frame(t, *instances))
    return rows


def linked(rows: Sequence[FramePrediction | Hole], **values: object) -> list[TrackPlan]:
    video = fake_video("v", 100, height=SIZE[0], width=SIZE[1])
    return link(InstanceFlowLinker(InstanceFlowLinkConfig(**values)), video, rows)


def ids(rows: Sequence[FramePrediction | Hole], **values: object) -> list[list[int]]:
    """The track of each instance, row by row; tracks count in the order of birth."""
    frames = [item for item in rows if isinstance(item, FramePrediction)]
    found = {item.frame_index: [-1] * len(item) for item in frames}
    for track, plan in enumerate(linked(rows, **values)):
        for t, instance in zip(plan.frame_index.tolist(), plan.instance.tolist(), strict=True):
            found[t][instance] = track
    return list(found.values())


def still(y: float, x: float, frames: Sequence[int]) -> dict[int, Point]:
    return dict.fromkeys(frames, (y, x))


# --- scenarios ------------------------------------------------------------------------------------


def test_an_object_that_moves_is_one_track():
    """The flow leads back in time: of one that moves by +10 it is -10 to the frame before."""
    rows = moving({"a": {t: (5 + 10.0 * t, 50.0) for t in range(9)}}, 9)
    assert rows[5].ref_flow.dydx.tolist() == [[-50, 0], [-30, 0], [-20, 0], [-10, 0]]
    assert ids(rows) == [[0]] * 9


def test_birth_and_death():
    paths = {"a": still(20, 20, range(3)), "b": still(20, 80, range(2, 6))}
    assert ids(moving(paths, 6)) == [[0], [0], [0, 1], [1], [1], [1]]


@pytest.mark.parametrize(("gap", "expected"), [(2, [0, 0]), (3, [0, 1])])
def test_a_gap_is_bridged_while_a_reference_remembers(gap, expected):
    """Three rows back: two missing rows are bridged, three are not."""
    paths = {"a": still(20, 20, range(9)), "b": still(20, 80, [1, 2, 3 + gap])}
    found = ids(moving(paths, 9))
    assert [found[2][1] - 1, found[3 + gap][1] - 1] == expected


def test_an_object_of_the_first_frame_returns_after_any_gap():
    paths = {"a": still(20, 20, [0, 1, 30]), "b": still(20, 80, [1, 2, 30])}
    rows = moving(paths, 31)
    assert ids(rows)[30] == [0, 2]
    assert ids(rows, first=False)[30] == [2, 3]


def test_objects_that_cross_keep_their_tracks():
    paths = {
        "a": {t: (50.0, 10.0 + 10 * t) for t in range(9)},
        "b": {t: (50.0, 90.0 - 10 * t) for t in range(9)},
    }
    assert ids(moving(paths, 9)) == [[0, 1]] * 9


def test_frames_without_instances_count_as_references():
    paths = {"b": still(20, 80, [1, 5])}
    assert ids(moving(paths, 6)) == [[], [0], [], [], [], [1]]
    assert ids(moving(paths, 6, references=4), references=4) == [[], [0], [], [], [], [0]]


@pytest.mark.parametrize("rows", [[], [frame(0), frame(1)], [Hole(start=0, stop=5)]])
def test_a_video_without_instances_has_no_tracks(rows):
    assert linked(rows) == []


def test_a_video_of_one_frame():
    assert ids([frame(0, Seen((5, 5)), Seen((50, 50)))]) == [[0, 1]]


@pytest.mark.parametrize(("x", "expected"), [(56.0, 0), (56.001, 1)])
def test_a_distance_exactly_at_epsilon_links(x, expected):
    rows = [frame(0, Seen((50, 50))), frame(1, Seen((20, 20), {0: (50, x)}))]
    assert ids(rows, epsilon=0.06)[1] == [expected]


def test_of_equal_distances_the_more_recent_reference_wins():
    """Two tracks 4 px to either side: one of them was seen later."""
    rows = [
        frame(0, Seen((50, 46))),
        frame(1, Seen((50, 54))),
        frame(2, Seen((50, 50), {0: (50, 50), 1: (50, 50)})),
    ]
    assert ids(rows) == [[0], [1], [1]]


def test_of_equal_distances_in_one_reference_the_older_track_wins():
    rows = [frame(0, Seen((50, 54)), Seen((50, 46))), frame(1, Seen((50, 50), {0: (50, 50)}))]
    assert ids(rows) == [[0, 1], [0]]


def test_of_two_instances_at_equal_distance_the_first_wins():
    rows = [
        frame(0, Seen((50, 50))),
        frame(1, Seen((10, 10), {0: (50, 48)}), Seen((90, 90), {0: (50, 52)})),
    ]
    assert ids(rows) == [[0], [0, 1]]


def test_five_hundred_instances_keep_their_tracks():
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(25) * 4, np.arange(20) * 5), axis=-1).reshape(-1, 2)
    paths = {
        str(k): {t: tuple(grid[k] + rng.normal(0, 0.1, 2)) for t in range(4)} for k in range(500)
    }
    assert ids(moving(paths, 4)) == [[*range(500)]] * 4


def test_matching_spans_all_of_the_frame_if_it_may():
    rows = [frame(0, Seen((0, 0))), frame(1, Seen((99, 99)), Seen((9, 9), {0: (99, 99)}))]
    assert ids(rows, epsilon=10.0)[1] == [1, 0]


def test_from_the_oracle_it_follows_every_object():
    config = OraclePredictConfig(truth="formula:9", centers=True, ref_flow=3)
    video = fake_video("v", 40, height=96, width=128)
    batch = FrameBatch(
        video_id="v",
        frame_index=np.arange(40),
        pts_seconds=np.arange(40) / 25,
        frames=np.zeros((40, 96, 128, 3), np.uint8),
        rank=np.arange(40),
    )
    window = ShardWindow(video=video, start=0, stop=40)
    rows = list(OraclePredictor(config).predict(iter([batch]), window))
    found = ids(rows)
    assert found == [item.proposals.tolist() for item in rows] == [[*range(9)]] * 40


# --- references -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("references", "first", "expected"),
    [
        (3, True, {1: [0], 2: [0, 1], 3: [0, 1, 2], 4: [0, 1, 2, 3], 6: [0, 3, 4, 5]}),
        (1, True, {1: [0], 2: [0, 1], 6: [0, 5]}),
        (1, False, {1: [0], 2: [1], 6: [5]}),
        (0, True, {1: [0], 6: [0]}),
    ],
)
def test_references_are_the_first_row_and_the_last_ones(references, first, expected):
    """Each row has an object of its own; row t asks for them all, and gets those it remembers."""
    for t, remembered in expected.items():
        for asked in range(t):
            rows = [frame(r, Seen((3 + 10 * r, 50))) for r in range(t)]
            rows.append(frame(t, Seen((95, 95), {asked: (3 + 10 * asked, 50)})))
            found = ids(rows, references=references, first=first, epsilon=0.01)
            assert (found[t] == [asked]) == (asked in remembered), (t, asked)


def test_a_hole_uses_up_no_reference():
    """The predictor skips frames it cannot decode: rows on both sides compare with each other."""
    rows = moving({"a": still(20, 20, range(20))}, 20, hidden=range(4, 17))
    assert ids([*rows, Hole(start=4, stop=17)]) == [[0]] * 7


def test_what_the_predictor_did_not_compare_is_not_matched():
    """Rows behind a hole that was given up only later lead to frames that have no row."""
    rows = [item for item in moving({"a": still(20, 20, range(9))}, 9) if item.frame_index > 0]
    assert ids([Hole(start=0, stop=1), *rows]) == [[0]] * 8
    rows = [item for item in rows if item.frame_index not in (2, 3, 4)]
    assert ids(rows) == [[0], [1], [1], [1], [1]]


def test_a_video_in_which_nothing_compares_is_told(caplog):
    rows = [frame(t, Seen((20, 20), {99: (20, 20)})) for t in range(3)]
    assert ids(rows) == [[0], [1], [2]]
    assert "v: no row compares its instances with rows that references=3" in caplog.text


# --- conflicts ------------------------------------------------------------------------------------

# Both want track 0; the second is nearer. Track 1 is within reach of the first as well.
WANTED = [
    frame(0, Seen((50, 50)), Seen((50, 55))),
    frame(1, Seen((50, 52), {0: (50, 52)}), Seen((50, 49), {0: (50, 49)})),
]


def test_the_nearest_keeps_a_track_and_others_take_their_second_choice():
    assert ids(WANTED) == [[0, 1], [1, 0]]


def test_without_a_second_choice_within_reach_a_track_begins():
    assert ids(WANTED, epsilon=0.025) == [[0, 1], [2, 0]]


def test_hungarian_takes_the_least_total():
    """Greedy takes the pair at distance 4 and leaves one at 15, or none; 6 + 5 is less."""
    rows = [
        frame(0, Seen((50, 50)), Seen((50, 60))),
        frame(1, Seen((9, 9), {0: (50, 54)}), Seen((90, 90), {0: (50, 45)})),
    ]
    assert ids(rows, epsilon=0.2) == [[0, 1], [0, 1]]
    assert ids(rows, epsilon=0.1) == [[0, 1], [0, 2]]
    for epsilon in (0.2, 0.1):
        assert ids(rows, epsilon=epsilon, conflict="hungarian") == [[0, 1], [1, 0]]


def test_hungarian_links_at_the_threshold_too():
    rows = [frame(0, Seen((50, 50))), frame(1, Seen((20, 20), {0: (50, 56)}))]
    assert ids(rows, epsilon=0.06, conflict="hungarian")[1] == [0]
    assert ids(rows, epsilon=0.0599, conflict="hungarian")[1] == [1]


def test_allowed_conflicts_become_one_mask():
    rows = [
        frame(0, Seen((50, 50))),
        frame(1, Seen((50, 50), {0: (50, 50)}, peak=0.4), Seen((50, 53), {0: (50, 53)}, peak=0.7)),
        frame(2, Seen((50, 51), {0: (50, 51)})),
    ]
    (plan,) = linked(rows, conflict="allow")
    assert plan.frame_index.tolist() == [0, 2] and plan.instance.tolist() == [0, 0]
    (merged,) = plan.carried
    assert (merged.frame_index, merged.score) == (1, pytest.approx(0.7))
    assert merged.mask == rle.union(rows[1].masks, SIZE)
    assert plan.score == pytest.approx(0.8 * (0.5 + 0.4 + 0.7 + 0.5) / 4)


# --- votes and scores -----------------------------------------------------------------------------


def test_soft_votes_count_not_the_majority_of_frames():
    """Three frames prefer category 1 by little, one prefers 2 by much."""
    scores = [(0.4, 0.35)] * 3 + [(0.0, 0.99)]
    rows = [
        frame(t, Seen((50, 50), dict.fromkeys(range(t), (50, 50)), scores=s))
        for t, s in enumerate(scores)
    ]
    (plan,) = linked(rows)
    assert plan.label == 2
    assert plan.entries == ((2, plan.score),)


SCORED = [
    frame(0, Seen((50, 50), scores=(0.8, 0.1), peak=0.5)),
    frame(1, Seen((50, 50), {0: (50, 50)}, scores=(0.4, 0.3), peak=1.5)),
]


@pytest.mark.parametrize(
    ("score", "expected", "class_scores"),
    [
        ("product", (0.8 * 0.5 + 0.4 * 1.5) / 2, [0.5, (0.1 * 0.5 + 0.3 * 1.5) / 2]),
        ("semantic", 0.6, [0.6, 0.2]),
        ("center", 1.0, None),
    ],
)
def test_the_score_is_the_mean_over_frames_of_class_score_and_peak(score, expected, class_scores):
    (plan,) = linked(SCORED, score=score)
    assert (plan.label, plan.score) == (1, pytest.approx(expected))
    if class_scores is None:
        assert plan.class_scores is None
    else:
        assert plan.class_scores == pytest.approx(class_scores)


def test_of_equal_votes_the_lowest_category_wins():
    (plan,) = linked([frame(0, Seen((5, 5), scores=(0.1, 0.4, 0.4)))])
    assert plan.label == 2


# --- baselines of Table IV ------------------------------------------------------------------------


def with_affinity(
    item: FramePrediction, entries: Sequence[Sequence[tuple[int, int, float, float]]]
) -> FramePrediction:
    flat = [entry for own in entries for entry in own]
    columns = [np.array([entry[k] for entry in flat]) for k in range(4)]
    found = RefAffinity(
        offsets=offsets_of([len(own) for own in entries]),
        frame_index=columns[0].astype(np.int32),
        instance=columns[1].astype(np.int32),
        iou=columns[2].astype(np.float32),
        affinity=columns[3].astype(np.float32),
    )
    return dataclasses.replace(item, ref_affinity=found)


AFFINITY = [
    frame(0, Seen((10, 10)), Seen((90, 90))),
    with_affinity(
        frame(1, Seen((90, 90)), Seen((10, 10)), Seen((50, 50))),
        [[(0, 0, 0.6, 0.2), (0, 1, 0.5, 0.9)], [(0, 1, 0.3, 0.1)], [(0, 1, 0.7, -1.0)]],
    ),
]


def test_inter_iou_links_by_overlap():
    assert ids(AFFINITY, flow_mode="inter_iou")[1] == [0, 2, 1]


def test_affinity_links_by_the_field_along_the_way():
    assert ids(AFFINITY, flow_mode="affinity")[1] == [1, 2, 3]


@pytest.mark.parametrize(("least", "expected"), [(0.7, [2, 3, 1]), (0.71, [2, 3, 4])])
def test_a_similarity_exactly_at_the_threshold_links(least, expected):
    assert ids(AFFINITY, flow_mode="inter_iou", min_similarity=least)[1] == expected


def test_inter_avg_starts_from_the_masks_centroid():
    """Centroid + mean offset to the reference centre; right only while the mask is whole."""
    there = frame(0, Seen((50.5, 50.5)))
    here = frame(1, Seen((70.5, 70.5), {0: (50.5, 50.5)}))
    assert ids([there, here], flow_mode="inter_avg", epsilon=0.001) == [[0], [0]]
    half = dataclasses.replace(here, masks=box_masks([(70, 40, 72, 72)], SIZE))
    assert ids([there, half], flow_mode="inter_avg") == [[0], [1]]
    assert ids([there, half], flow_mode="residual") == [[0], [0]]


def test_the_centre_stands_in_for_an_empty_masks_centroid():
    there = frame(0, Seen((50, 50)))
    here = frame(1, Seen((70, 70), {0: (50, 50)}))
    here = dataclasses.replace(here, masks=[rle.empty_mask(SIZE)])
    assert ids([there, here], flow_mode="inter_avg", epsilon=0.001)[1] == [0]


# --- against plain loops --------------------------------------------------------------------------


def random_rows(seed: int, num_frames: int = 12) -> list[FramePrediction]:
    """Centres on a coarse grid, so that distances tie; flows to some earlier frames, some wrong."""
    rng = np.random.default_rng(seed)
    rows: list[FramePrediction] = []
    for t in range(num_frames):
        num = int(rng.integers(0, 7))
        if not num:
            rows.append(frame(t))
            continue
        centers = rng.integers(2, 24, (num, 2)) * 4.0
        asked = [sorted({*[0][: t > 0], *range(max(0, t - 4), t)}) for _ in range(num)]
        instances = [
            Seen(
                (float(c[0]), float(c[1])),
                {r: tuple(rng.integers(2, 24, 2) * 4.0) for r in mine if rng.random() < 0.8},
                scores=tuple(rng.random(3).tolist()),
                peak=float(rng.random()),
            )
            for c, mine in zip(centers, asked, strict=True)
        ]
        entries = [
            [
                (r, n, float(rng.integers(0, 9)) / 8, float(rng.integers(-8, 9)) / 8)
                for r in mine
                for n in range(len(rows[r]))
                if rng.random() < 0.5
            ]
            for mine in asked
        ]
        item = with_affinity(frame(t, *instances), entries)
        offsets = rng.integers(-4, 5, (num, 2)).astype(np.float32)
        rows.append(dataclasses.replace(item, mean_offsets=offsets))
    return rows


@pytest.mark.parametrize("flow_mode", ["residual", "inter_avg", "inter_iou", "affinity"])
@pytest.mark.parametrize("settings", [{}, {"references": 1, "first": False}, {"epsilon": 0.2}])
def test_it_links_as_plain_loops_do(flow_mode, settings):
    for seed in range(6):
        rows = random_rows(seed)
        expected = link_instance_flow(rows, flow_mode=flow_mode, **settings)
        assert ids(rows, flow_mode=flow_mode, **settings) == expected


def test_it_shares_tracks_as_plain_loops_do():
    num_merged = 0
    for seed in range(6):
        rows = random_rows(seed)
        expected = link_instance_flow(rows, conflict="allow", epsilon=0.2)
        plans = linked(rows, conflict="allow", epsilon=0.2)
        for t, tracks in enumerate(expected):
            for track in set(tracks):
                members = [m for m, other in enumerate(tracks) if other == track]
                plan = plans[track]
                if len(members) == 1:
                    at = plan.frame_index.tolist().index(t)
                    assert int(plan.instance[at]) == members[0]
                else:
                    (merged,) = [c for c in plan.carried if c.frame_index == t]
                    assert merged.mask == rle.union([rows[t].masks[m] for m in members], SIZE)
                    num_merged += 1
    assert num_merged > 5


def test_hungarian_is_the_best_of_all_assignments():
    rng = np.random.default_rng(2)
    for _ in range(30):
        num, num_tracks, limit = 4, 3, 5.0
        cost = rng.integers(0, 9, (num, num_tracks)).astype(float)
        i, t = np.indices(cost.shape)
        found = resolve(
            Candidates(cost.ravel(), i.ravel(), t.ravel(), np.zeros(cost.size, int)),
            num,
            limit=limit,
            conflict="hungarian",
        )
        options = itertools.product([-1, *range(num_tracks)], repeat=num)
        totals = [
            sum(limit if k < 0 else cost[m, k] for m, k in enumerate(option))
            for option in options
            if len({k for k in option if k >= 0}) == sum(k >= 0 for k in option)
            and all(k < 0 or cost[m, k] <= limit for m, k in enumerate(option))
        ]
        mine = sum(limit if k < 0 else cost[m, k] for m, k in enumerate(found.tolist()))
        assert mine == min(totals)
        linked_costs = [cost[m, k] for m, k in enumerate(found.tolist()) if k >= 0]
        assert all(value <= limit for value in linked_costs)


@pytest.mark.parametrize("seed", range(5))
def test_centroids_from_runs_are_those_of_pixels(seed):
    rng = np.random.default_rng(seed)
    dense = rng.random((7, 13, 9)) < rng.random((7, 1, 1))
    dense[3], dense[4] = False, True
    found = centroids(rle.encode(dense), (13, 9))
    for mask, center in zip(dense, found, strict=True):
        if mask.any():
            assert center == pytest.approx(np.argwhere(mask).mean(axis=0))
        else:
            assert np.isnan(center).all()


# --- grouping -------------------------------------------------------------------------------------


def maps_of(centers: Sequence[Point], radius: float = 9.0, size: tuple[int, int] = (80, 96)):
    """True maps of discs: label map, heatmap, offsets to the own centre."""
    y, x = np.mgrid[: size[0], : size[1]].astype(float)
    ids_HW = np.zeros(size, np.int32)
    heat = np.zeros(size)
    offsets = np.zeros((2, *size))
    for k, (cy, cx) in enumerate(centers, 1):
        squares = (y - cy) ** 2 + (x - cx) ** 2
        inside = squares <= radius**2
        ids_HW[inside] = k
        heat = np.maximum(heat, np.exp(-squares / 18))
        offsets[:, inside] = np.stack([cy - y, cx - x])[:, inside]
    return ids_HW, heat, offsets


CENTERS = [(14.0, 15.0), (20.0, 70.0), (60.0, 40.0)]


def test_true_maps_give_the_true_instances():
    ids_HW, heat, offsets = maps_of(CENTERS)
    found = group_instances(ids_HW > 0, heat, offsets)
    assert found.centers.tolist() == [list(center) for center in CENTERS]
    assert found.peaks == pytest.approx([1, 1, 1])
    assert np.array_equal(found.ids_HW, ids_HW)


def test_what_the_maps_say_about_the_background_changes_nothing():
    ids_HW, heat, offsets = maps_of(CENTERS)
    rng = np.random.default_rng(0)
    noise = rng.random(heat.shape) * 5
    strewn = rng.normal(0, 50, offsets.shape)
    inside = ids_HW > 0
    found = group_instances(
        inside, np.where(inside, heat, noise), np.where(inside, offsets, strewn)
    )
    assert np.array_equal(found.ids_HW, ids_HW)
    assert found.centers.tolist() == [list(center) for center in CENTERS]


def test_a_peak_exactly_at_the_threshold_is_none():
    ids_HW, heat, offsets = maps_of(CENTERS)
    heat = np.where(ids_HW == 2, heat * 0.15, heat)
    assert len(group_instances(ids_HW > 0, heat, offsets).centers) == 2
    assert len(group_instances(ids_HW > 0, heat, offsets, threshold=0.149).centers) == 3


def test_within_a_window_only_the_largest_is_a_centre():
    heat = np.zeros((50, 50))
    heat[10, 10], heat[10, 30], heat[10, 31] = 0.9, 0.8, 0.7
    everywhere = np.ones(heat.shape, bool)
    found = find_centers(everywhere, heat, threshold=0.15, window_px=41, max_centers=9)
    assert found.tolist() == [[10, 10]]
    found = find_centers(everywhere, heat, threshold=0.15, window_px=39, max_centers=9)
    assert found.tolist() == [[10, 10], [10, 30]]


def test_of_a_plateau_one_centre_stays_and_of_too_many_the_highest():
    heat = np.zeros((40, 40))
    heat[5:7, 5:7] = 0.5
    heat[30, 3], heat[30, 33] = 0.6, 0.7
    everywhere = np.ones(heat.shape, bool)
    found = find_centers(everywhere, heat, threshold=0.15, window_px=9, max_centers=9)
    assert found.tolist() == [[5, 5], [30, 3], [30, 33]]
    found = find_centers(everywhere, heat, threshold=0.15, window_px=9, max_centers=2)
    assert found.tolist() == [[30, 3], [30, 33]]


def test_a_centre_to_which_no_pixel_points_is_no_instance():
    ids_HW, heat, offsets = maps_of(CENTERS)
    offsets = np.where(ids_HW == 2, 0, offsets)
    y, x = np.nonzero(ids_HW == 2)
    offsets[:, y, x] = np.stack([14.0 - y, 15.0 - x])  # all of it points to the first
    found = group_instances(ids_HW > 0, heat, offsets)
    assert found.centers.tolist() == [[14, 15], [60, 40]]
    assert np.array_equal(found.ids_HW, np.array([0, 1, 1, 2])[ids_HW])


def test_a_frame_without_centres_is_empty():
    ids_HW, heat, offsets = maps_of(CENTERS)
    found = group_instances(ids_HW > 0, heat * 0.1, offsets)
    assert len(found.centers) == 0 and not found.ids_HW.any()


def test_pixels_are_grouped_in_pieces_as_in_one(monkeypatch):
    ids_HW, _, offsets = maps_of(CENTERS)
    offsets = offsets + np.random.default_rng(1).normal(0, 15, offsets.shape)
    whole = group_pixels(ids_HW > 0, offsets, np.array(CENTERS))
    monkeypatch.setattr("vis_core.association.instance_grouping._DISTANCES_AT_ONCE", 100)
    assert np.array_equal(group_pixels(ids_HW > 0, offsets, np.array(CENTERS)), whole)


def test_small_instances_are_sampled_whole_and_others_on_the_grid():
    ids_HW = np.zeros((64, 64), np.int32)
    ids_HW[0:20, 0:20], ids_HW[40:50, 40:50] = 1, 2  # 25 and 9 points of the grid
    found = sampled(ids_HW, 2)
    assert np.count_nonzero(found == 1) == 25 and np.count_nonzero(found == 2) == 100
    assert np.argwhere(found == 1).max(axis=0).tolist() == [16, 16]


@pytest.mark.parametrize("shift", [(0.0, -10.0), (7.0, 3.0)])
def test_the_residual_survives_half_a_mask_and_the_plain_average_does_not(shift):
    """Eq. 3 with the left half of each mask gone: the flow of the centre is right to half a pixel.

    The mean offset to the reference centre alone is off by as much as the centroid has moved.
    """
    ids_HW, _, own = maps_of(CENTERS, radius=12)
    to_reference = own + np.array(shift)[:, None, None] * (ids_HW > 0)
    noisy = to_reference + np.random.default_rng(0).normal(0, 0.5, own.shape)
    left = np.arange(ids_HW.shape[1]) < np.append(0, np.array(CENTERS)[:, 1])[ids_HW]
    half = sampled(np.where(left, 0, ids_HW), 3)
    assert np.abs(means_over_masks(half, noisy - own, 3) - shift).max() < 0.5
    assert np.abs(means_over_masks(half, noisy, 3) - shift).min(axis=0)[1] > 3


def test_means_are_over_each_mask():
    ids_HW = np.array([[1, 1, 0], [2, 0, 0]], np.int32)
    values = np.arange(12, dtype=float).reshape(2, 2, 3)
    assert means_over_masks(ids_HW, values, 3).tolist() == [[0.5, 6.5], [3, 9], [0, 0]]


def test_label_iou_is_that_of_the_masks():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (20, 30)), rng.integers(0, 3, (20, 30))
    found = label_iou(a.astype(np.int32), b.astype(np.int32), 4, 2)
    expected = [[(i == a) & (j == b) for j in (1, 2)] for i in range(1, 5)]
    union = [[(i == a) | (j == b) for j in (1, 2)] for i in range(1, 5)]
    assert found == pytest.approx(np.sum(expected, axis=(2, 3)) / np.sum(union, axis=(2, 3)))


def test_the_affinity_is_the_field_along_the_way():
    field = np.zeros((2, 50, 50))
    field[1] = 1.0  # everything moves to the right
    centers, ends = np.array([[25.0, 10.0]]), np.array([[25, 30], [25, 2], [45, 10], [25, 10]])
    assert path_affinity(centers, ends.astype(float), field)[0] == pytest.approx([1, -1, 0, 0])
    assert path_affinity(centers, ends.astype(float), 0 * field)[0, 3] == 1


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "column", "flow_mode"),
    [
        ("centers", "center", "residual"),
        ("class_scores", "class_scores", "residual"),
        ("ref_flow", "ref_flow", "residual"),
        ("mean_offsets", "mean_offset", "inter_avg"),
        ("ref_affinity", "ref_affinity", "inter_iou"),
        ("ref_affinity", "ref_affinity", "affinity"),
    ],
)
def test_rows_without_what_it_links_by_name_the_system_that_has_it(field, column, flow_mode):
    rows = moving({"a": still(20, 20, range(2))}, 2)
    rows = [dataclasses.replace(item, **{field: None}) for item in rows]
    match = f"no `{column}`.*flow_mode={flow_mode}.*--system instance_flow"
    with pytest.raises(ValueError, match=match):
        linked(rows, flow_mode=flow_mode)


def test_an_instance_that_is_not_there_is_an_error():
    rows = [frame(0, Seen((9, 9))), with_affinity(frame(1, Seen((9, 9))), [[(0, 1, 0.5, 0.5)]])]
    with pytest.raises(ValueError, match="names instance 1 of frame 0, which has 1"):
        linked(rows, flow_mode="affinity")


def test_another_number_of_categories_is_an_error():
    rows = [frame(0, Seen((9, 9), scores=(0.5, 0.4))), frame(1, Seen((9, 9)))]
    with pytest.raises(ValueError, match="1 class scores per instance, expected 2"):
        linked(rows)


@pytest.mark.parametrize(
    "values",
    [
        {"references": -1},
        {"references": 0, "first": False},
        {"epsilon": -0.1},
        {"min_similarity": 2},
        {"conflict": "fight"},
        {"flow_mode": "guess"},
        {"score": "best"},
    ],
)
def test_settings_that_make_no_sense_are_refused(values):
    with pytest.raises(UsageError):
        build(InstanceFlowLinkConfig, values)


# --- memory ---------------------------------------------------------------------------------------


def test_memory_stays_within_64_bytes_per_instance():
    short, long = peak_bytes(100), peak_bytes(500)
    assert (long - short) / (400 * 20) < 64


def peak_bytes(num_frames: int) -> int:
    """Largest allocation while 20 tracks that are always there are linked."""
    places = [(5.0 + 4 * k, 50.0) for k in range(20)]
    items = [frame(0, *(Seen(p) for p in places)), frame(1, *(Seen(p, {0: p}) for p in places))]
    linker = InstanceFlowLinker(InstanceFlowLinkConfig())
    linker.start(fake_video("v", num_frames, height=SIZE[0], width=SIZE[1]))
    tracemalloc.start()
    try:
        for t in range(num_frames):
            linker.step(dataclasses.replace(items[t > 0], frame_index=t))
        assert len(linker.finish()) == 20
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
