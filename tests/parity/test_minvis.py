"""The minvis linker gives the release's tracks, scores and masks on the golden fixtures."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from tests.support.golden import GoldenCase, assert_same_tracks, read_case
from vis_core.config import build
from vis_core.system import link
from vis_core.systems.minvis import MinvisLinkConfig, MinvisLinker
from vis_core.systems.oracle import ORACLE
from vis_core.types import FramePrediction, TrackPlan

CASES = ["births", "drift", "flat", "plain", "resized"]
MINVIS = dataclasses.replace(ORACLE, link_config=MinvisLinkConfig, make_linker=MinvisLinker)
EVERY_PAIR = 1_000_000


@pytest.fixture(params=CASES)
def case(request, shared) -> GoldenCase:
    return read_case(shared, "minvis", request.param)


def expected_json(case: GoldenCase) -> dict[str, Any]:
    return json.loads((case.folder / "expected.json").read_text())


def plans_of(case: GoldenCase, rows: list[FramePrediction], **values: object) -> list[TrackPlan]:
    config = build(MinvisLinkConfig, {**case.settings, **values})
    return link(MinvisLinker(config), case.video, rows)


def with_links(case: GoldenCase) -> list[FramePrediction]:
    """The same rows with `prev_query` from the released permutations, without embeddings."""
    rows = sorted(case.predictions, key=lambda row: row.frame_index)
    rows = [dataclasses.replace(row, embeddings=None) for row in rows]
    permutation = np.array(expected_json(case)["permutation"])
    for frame in range(1, len(rows)):
        prev_query = np.empty(len(rows[frame]), np.int32)
        prev_query[permutation[frame]] = permutation[frame - 1]
        rows[frame] = dataclasses.replace(rows[frame], prev_query=prev_query)
    return rows


@pytest.mark.parametrize("stored", ["embeddings", "links"])
def test_tracks_are_the_released_ones(case, stored):
    if stored == "links":
        case = dataclasses.replace(case, predictions=with_links(case))
    assert_same_tracks(case.link(MINVIS), case.expected)


def test_every_query_of_every_frame_is_where_the_release_has_it(case):
    released = expected_json(case)
    plans = plans_of(case, case.predictions, topk=EVERY_PAIR)
    permutation = np.array(released["permutation"])
    by_first = {int(plan.instance[0]): plan for plan in plans}
    assert sorted(by_first) == list(range(permutation.shape[1]))
    for query, plan in by_first.items():
        assert plan.frame_index.tolist() == list(range(len(permutation)))
        assert plan.instance.tolist() == permutation[:, query].tolist()
        assert np.abs(plan.class_scores - released["track_scores"][query]).max() <= 1e-6


def test_result_lines_are_the_ten_released_ones(case):
    expected = expected_json(case)["entries"]
    plans = plans_of(case, case.predictions)
    lines = sorted((p.instance[0], *line) for p in plans for line in p.entries)
    released = sorted((e["query"], e["category_id"], e["score"]) for e in expected)
    assert [line[:2] for line in lines] == [line[:2] for line in released]
    assert np.abs(np.array(lines) - np.array(released)).max() <= 1e-6


def test_stored_no_object_logprobs_give_the_released_scores(case):
    """What the release's logits say of "no object", instead of 1 minus the other scores."""
    logits = np.load(case.folder / "raw.npz", allow_pickle=False)["pred_logits"][0]
    logits = logits.astype(np.float64)
    rest = (logits[..., -1] - np.log(np.exp(logits).sum(axis=-1))).astype(np.float32)
    rows = [
        dataclasses.replace(row, no_object_logprob=rest[row.frame_index])
        for row in case.predictions
    ]
    assert_same_tracks(dataclasses.replace(case, predictions=rows).link(MINVIS), case.expected)


def test_for_fusion_keeps_every_track_that_scores(case):
    scores = np.array(expected_json(case)["track_scores"])
    plans = plans_of(case, case.predictions, for_fusion=True)
    assert len(plans) == (scores.max(axis=1) >= 0.01).sum()
    assert sum(len(plan.entries) for plan in plans) == (scores >= 0.01).sum()
