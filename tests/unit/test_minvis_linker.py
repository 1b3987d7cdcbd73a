"""The minvis linker chains assignments, averages logits and keeps the best pairs."""

from __future__ import annotations

import dataclasses
import itertools
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.fakes import empty_prediction, fake_video
from tests.support.reference_minvis import link_minvis
from vis_core.association import minvis
from vis_core.system import link
from vis_core.systems.minvis import MinvisLinkConfig, MinvisLinker
from vis_core.types import FramePrediction, Hole, TrackPlan

EVERY_PAIR = 1_000_000
CODES = np.eye(6)


def row(
    frame: int,
    looks: Sequence[Sequence[float]] | np.ndarray,
    shares: Sequence[Sequence[float]] | None = None,
    **fields: object,
) -> FramePrediction:
    num = len(looks)
    if not num:
        return empty_prediction("v", frame)
    scores = np.array(shares or [[0.5, 0.25]] * num, np.float32)
    values = {
        "video_id": "v",
        "frame_index": frame,
        "pts_seconds": 0.0,
        "height": 4,
        "width": 4,
        "scores": scores.max(axis=1),
        "labels": (scores.argmax(axis=1) + 1).astype(np.int32),
        "boxes": np.zeros((num, 4), np.float32),
        "masks": [b""] * num,
        "class_scores": scores,
        "embeddings": np.array(looks, np.float32),
    }
    return FramePrediction(**{**values, **fields})


def linked(rows: Sequence[FramePrediction | Hole], **values: object) -> list[TrackPlan]:
    return link(MinvisLinker(MinvisLinkConfig(**values)), fake_video("v", len(rows)), rows)


def references(plan: TrackPlan) -> tuple[tuple[int, int], ...]:
    return tuple(zip(plan.frame_index.tolist(), plan.instance.tolist(), strict=True))


def chains(rows: Sequence[FramePrediction | Hole]) -> list[tuple[tuple[int, int], ...]]:
    """(frame, query) of every track, in order of the tracks."""
    return sorted(map(references, linked(rows, topk=EVERY_PAIR)))


def chains_of(*orders: Sequence[int]) -> list[tuple[tuple[int, int], ...]]:
    """The tracks when frame t's query i shows object `orders[t][i]`."""
    return [
        tuple((frame, list(order).index(k)) for frame, order in enumerate(orders))
        for k in orders[0]
    ]


# --- scenarios: the chain -------------------------------------------------------------------------


def test_perfect():
    assert chains([row(f, CODES) for f in range(3)]) == chains_of(*[range(6)] * 3)


def test_permutations_are_undone():
    orders = [range(6), [3, 1, 0, 5, 4, 2], [5, 4, 3, 2, 1, 0], [0, 2, 4, 1, 3, 5]]
    assert chains([row(f, CODES[list(o)]) for f, o in enumerate(orders)]) == chains_of(*orders)


def test_crossing():
    """Two queries trade looks by and by: each is followed from frame to frame."""
    rows, orders = [], []
    for frame, angle in enumerate(np.radians(range(0, 91, 15))):
        pair = [[np.cos(angle), np.sin(angle), 0.5], [np.sin(angle), np.cos(angle), 0]]
        orders.append([0, 1] if frame % 2 == 0 else [1, 0])
        rows.append(row(frame, np.array(pair)[orders[-1]]))
    assert chains(rows) == chains_of(*orders)
    assert chains(rows[::6]) == [((0, 0), (6, 1)), ((0, 1), (6, 0))]  # nothing in between


def test_assignment_is_the_best_as_a_whole_not_one_by_one():
    """Track 0 is most like query 0, but leaves it to track 1, which is like no other."""
    before = np.array([[1.0, 0, 0], [0.9, 0, 0.44]])
    after = np.array([[0.95, 0.05, 0.3], [0.8, 0.6, 0]])
    cosines = minvis.directions(before) @ minvis.directions(after).T
    assert cosines[0].argmax() == 0
    assert cosines.max() == cosines[1, 0]
    assert chains([row(0, before), row(1, after)]) == chains_of([0, 1], [1, 0])


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5))
def test_no_other_assignment_costs_less(seed, num_tracks, num_queries):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(num_tracks, 3)), rng.normal(size=(num_queries, 3))
    a, b = minvis.directions(a), minvis.directions(b)
    tracks, queries = minvis.assign(a, b)
    cost = 1 - a @ b.T
    cost = cost if num_tracks <= num_queries else cost.T
    few, many = cost.shape
    least = min(
        sum(cost[i, j] for i, j in enumerate(order))
        for order in itertools.permutations(range(many), few)
    )
    assert len(set(tracks)) == len(set(queries)) == few
    assert (1 - (a[tracks] * b[queries]).sum(axis=1)).sum() == pytest.approx(least, abs=1e-5)


def test_tie():
    """Where all queries look the same, each keeps its place."""
    same = np.ones((6, 3))
    assert chains([row(f, same) for f in range(3)]) == chains_of(*[range(6)] * 3)


def test_lengths_of_embeddings_do_not_matter():
    rows = [row(0, CODES[:2]), row(1, CODES[[1, 0]] * [[100], [0.01]])]
    assert chains(rows) == chains_of([0, 1], [1, 0])


def test_an_embedding_of_zeros_is_like_no_other():
    rows = [row(0, [[1, 0], [0, 0]]), row(1, [[0, 0], [1, 0]]), row(2, [[1, 0], [0, 1]])]
    assert chains(rows) == chains_of([0, 1], [1, 0], [0, 1])


def test_gap():
    """A query that sees nothing for a while keeps its track as long as it looks like itself."""
    seen, unseen = [[0.9, 0.05], [0.01, 0.01]], [[0.05, 0.01], [0.01, 0.01]]
    rows = [row(f, CODES[:2], unseen if f in (1, 2) else seen) for f in range(5)]
    (plan, *_) = linked(rows)
    assert references(plan) == tuple((f, 0) for f in range(5))
    assert plan.label == 1


def test_birth_and_death():
    """Both are only in the class scores: the track is there throughout."""
    scores = [[0.9, 0.05], [0.05, 0.9]]
    faint = [[0.01, 0.01]] * 2
    rows = [row(f, CODES[:2], scores if f in (1, 2) else faint) for f in range(4)]
    plans = linked(rows, topk=2)
    assert [references(plan) for plan in plans] == [tuple((f, k) for f in range(4)) for k in (0, 1)]
    assert [plan.label for plan in plans] == [1, 2]


@pytest.mark.parametrize("rows", [[], [row(0, []), row(1, [])], [Hole(start=0, stop=5)]])
def test_empty_video(rows):
    assert linked(rows) == []
    assert linked(rows, for_fusion=True) == []


def test_empty_frame():
    rows = [row(0, []), row(1, CODES[:2]), row(2, []), row(3, CODES[[1, 0]])]
    assert chains(rows) == [((1, 0), (3, 1)), ((1, 1), (3, 0))]


def test_one_frame():
    (plan,) = linked([row(7, CODES[:1], [[0.25, 0.5]])])
    assert references(plan) == ((7, 0),)
    assert (plan.label, plan.entries[0][0], plan.entries[1][0]) == (2, 2, 1)
    assert plan.class_scores.tolist() == pytest.approx([0.25, 0.5])


def test_500_instances():
    order = np.random.default_rng(0).permutation(500)
    codes = np.eye(500)
    assert chains([row(0, codes), row(1, codes[order])]) == chains_of(range(500), order.tolist())


def test_the_chain_goes_on_across_a_hole():
    rows = [row(0, CODES), row(9, CODES[::-1])]
    assert chains([rows[0], Hole(start=1, stop=9), rows[1]]) == chains(rows)


def test_a_query_that_no_track_is_left_for_starts_one():
    rows = [row(0, CODES[:1]), row(1, CODES[[1, 0]]), row(2, CODES[:2])]
    assert chains(rows) == [((0, 0), (1, 1), (2, 0)), ((1, 0), (2, 1))]


def test_a_track_without_a_query_waits_with_its_last_embedding():
    rows = [row(0, CODES[:3]), row(1, CODES[[2]]), row(2, CODES[[2, 1]]), row(3, CODES[:3])]
    expected = [((0, 0), (3, 0)), ((0, 1), (2, 1), (3, 1)), ((0, 2), (1, 0), (2, 0), (3, 2))]
    assert chains(rows) == expected


def test_scores_of_a_track_are_averaged_over_its_own_frames():
    rows = [row(0, CODES[:2], [[0.5, 0.25], [0.125, 0.5]]), row(1, CODES[:1], [[0.5, 0.25]])]
    plans = {references(plan): plan for plan in linked(rows)}
    assert plans[(0, 1),].class_scores.tolist() == pytest.approx([0.125, 0.5])


def test_a_linker_starts_afresh_with_every_video():
    linker = MinvisLinker(MinvisLinkConfig())
    first = link(linker, fake_video("v", 1), [row(0, CODES, [[0.5]] * 6)])
    second = link(linker, fake_video("w", 1), [row(3, [[1.0]])])
    assert (len(first), [references(plan) for plan in second]) == (6, [((3, 0),)])


# --- prev_query -----------------------------------------------------------------------------------


def test_links_are_composed():
    orders = [[0, 1, 2], [2, 0, 1], [1, 0, 2], [1, 2, 0]]
    rows = [row(0, CODES[:3], embeddings=None)]
    for frame, (before, here) in enumerate(itertools.pairwise(orders), 1):
        prev_query = np.array([before.index(k) for k in here], np.int32)
        rows.append(row(frame, CODES[:3], embeddings=None, prev_query=prev_query))
    assert chains(rows) == chains_of(*orders)


def test_links_win_over_embeddings():
    turned = row(1, CODES[:2], prev_query=np.array([1, 0], np.int32))
    assert chains([row(0, CODES[:2]), turned]) == chains_of([0, 1], [1, 0])


def test_links_of_the_first_row_lead_nowhere():
    """Rows of one shot: the first still names queries of the shot before."""
    first = row(5, CODES[:2], embeddings=None, prev_query=np.array([1, 0], np.int32))
    assert chains([first]) == [((5, 0),), ((5, 1),)]


@pytest.mark.parametrize(
    ("prev_query", "message"),
    [
        ([0, 2], "`prev_query` of query 1 is 2, which is not there; the row before has 2 queries"),
        ([-1, 0], "`prev_query` of query 0 is -1, which is not there"),
        ([1, 1], "`prev_query` of query 1 is 1, which another query names too"),
    ],
)
def test_links_that_lead_nowhere_are_named(prev_query, message):
    second = row(1, CODES[:2], prev_query=np.array(prev_query, np.int32))
    with pytest.raises(ValueError, match=message):
        linked([row(0, CODES[:2]), second])


# --- scores ---------------------------------------------------------------------------------------


def softmax(logits: Sequence[float]) -> np.ndarray:
    weights = np.exp(np.array(logits))
    return weights / weights.sum()


def test_logits_are_averaged_before_the_softmax():
    logits = np.array([[3.0, 0.0, 0.0], [-1.0, 2.0, 1.0]])
    frames = [softmax(row_) for row_ in logits]
    (plan,) = linked([row(f, CODES[:1], [p[:2].tolist()]) for f, p in enumerate(frames)])
    assert plan.class_scores.tolist() == pytest.approx(softmax(logits.mean(axis=0))[:2], abs=1e-6)
    after = np.mean(frames, axis=0)[:2]
    assert np.abs(plan.class_scores - after).max() > 0.01


def test_no_object_logprobs_save_what_float32_sums_lose():
    """Surely visible in half of the frames, surely not in the others."""
    visible, hidden = np.array([20.0, 0.0, 0.0]), np.array([0.0, 0.0, 12.0])
    expected = softmax((visible + hidden) / 2)[:2]
    rows = []
    for frame in range(10):
        logits = visible if frame % 2 else hidden
        rest = np.log(softmax(logits))[-1:].astype(np.float32)
        scores = [softmax(logits)[:2].tolist()]
        rows.append(row(frame, CODES[:1], scores, no_object_logprob=rest))
    assert np.abs(linked(rows)[0].class_scores - expected).max() < 1e-6
    without = [dataclasses.replace(item, no_object_logprob=None) for item in rows]
    assert np.abs(linked(without)[0].class_scores - expected).max() > 1e-3


def test_scores_of_zero_and_sums_above_one_stay_finite():
    (plan, *_) = linked([row(0, CODES[:1], [[0.0, 0.0]]), row(1, CODES[:1], [[0.9, 0.9]])])
    assert np.isfinite(plan.class_scores).all()


def test_one_track_may_stand_under_several_categories():
    scores = [[0.4, 0.3, 0.01], [0.05, 0.2, 0.1]]
    plans = linked([row(0, CODES[:2], scores)], topk=4)
    lines = [(p.instance[0], label, round(s, 4)) for p in plans for label, s in p.entries]
    assert lines == [(0, 1, 0.4), (0, 2, 0.3), (1, 2, 0.2), (1, 3, 0.1)]
    assert [plan.class_scores.tolist() for plan in plans] == [
        pytest.approx(row_) for row_ in scores
    ]


@pytest.mark.parametrize(("topk", "lines"), [(1, 1), (3, 3), (4, 4), (5, 4)])
def test_topk_is_the_number_of_lines(topk, lines):
    plans = linked([row(0, CODES[:2])], topk=topk)
    assert sum(len(plan.entries) for plan in plans) == lines


def test_tied_scores_go_to_the_earlier_track_then_the_lower_category():
    tracks, categories = minvis.best_pairs(np.full((2, 2), 0.25), 3)
    assert (tracks.tolist(), categories.tolist()) == ([0, 0, 1], [0, 1, 0])


@pytest.mark.parametrize(("score", "kept"), [(0.01, True), (0.0099, False)])
def test_for_fusion_keeps_lines_from_one_hundredth(score, kept, monkeypatch):
    monkeypatch.setattr(minvis, "class_scores", lambda _: np.array([[0.5, score], [score, 0.001]]))
    plans = linked([row(0, CODES[:2])], for_fusion=True, topk=1)
    expected = [((1, 0.5), (2, score)), ((1, score),)] if kept else [((1, 0.5),)]
    assert [plan.entries for plan in plans] == expected


def test_topk_below_one_is_refused():
    with pytest.raises(ValueError, match="topk: expected 1 or more, got 0"):
        MinvisLinkConfig(topk=0)


# --- against plain loops --------------------------------------------------------------------------


def random_rows(seed: int, num_rows: int, num_queries: int) -> list[FramePrediction]:
    rng = np.random.default_rng(seed)
    rows = []
    for frame in range(num_rows):
        logits = rng.normal(size=(num_queries, 4)) * 3
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        rest = np.log(shares[:, -1]).astype(np.float32)
        embeddings = rng.normal(size=(num_queries, 5))
        fields = {"no_object_logprob": rest} if seed % 2 else {}
        rows.append(row(frame, embeddings, shares[:, :3].tolist(), **fields))
    return rows


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 8), st.integers(1, 30))
def test_tracks_are_those_of_the_plain_loops(seed, num_rows, num_queries, topk):
    rows = random_rows(seed, num_rows, num_queries)
    expected = link_minvis(rows, topk=topk)
    plans = linked(rows[::-1], topk=topk)
    assert [references(plan) for plan in plans] == [tuple(r.references) for r in expected]
    for plan, result in zip(plans, expected, strict=True):
        assert plan.class_scores.tolist() == pytest.approx(result.class_scores, abs=1e-6)
        assert [label for label, _ in plan.entries] == [label for label, _ in result.entries]


# --- bounds and mistakes --------------------------------------------------------------------------


def test_memory_grows_by_less_than_64_bytes_per_instance():
    one = row(0, CODES)
    linker = MinvisLinker(MinvisLinkConfig(for_fusion=True))

    def peak(num_rows: int) -> int:
        linker.start(fake_video("v", num_rows))
        tracemalloc.start()
        for _ in range(num_rows):
            linker.step(one)
        linker.finish()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(1500) - peak(500) < 64 * len(one) * 1000


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            row(1, CODES, embeddings=None),
            "frame 1 of 'v' has no `prev_query`, and it or the row before no `embedding`, by one "
            "of which minvis links: predict with --system minvis",
        ),
        (
            row(1, CODES, class_scores=None),
            "frame 1 of 'v' has no `class_scores`, which minvis averages over time",
        ),
        (row(1, [[1.0, 2.0]] * 6), "2 embedding values per instance, earlier frames have 6"),
        (row(1, CODES, [[0.5]] * 6), "1 class scores per instance, earlier frames have 2"),
        (row(1, CODES * np.nan), "frame 1 of 'v': an embedding is not finite"),
        (
            row(1, CODES, [[np.nan, 0.5]] * 6),
            "frame 1 of 'v': a class score or logprob is not fini",
        ),
        (
            row(1, CODES, no_object_logprob=np.full(6, -np.inf, np.float32)),
            "frame 1 of 'v': a class score or logprob is not finite",
        ),
    ],
)
def test_rows_that_cannot_be_linked_are_named(second, message):
    with pytest.raises(ValueError, match=message):
        linked([row(0, CODES), second])


def test_embeddings_after_a_row_without_any_are_no_use():
    links = row(1, CODES, embeddings=None, prev_query=np.arange(6, dtype=np.int32))
    with pytest.raises(ValueError, match=r"frame 2 of 'v' has no `prev_query`"):
        linked([row(0, CODES), links, row(2, CODES)])
