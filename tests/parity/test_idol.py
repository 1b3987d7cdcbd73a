"""The idol linker gives the released tracker's ids, masks and scores on the golden fixtures."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from tests.support.golden import GoldenCase, assert_same_tracks, read_case
from vis_core.association import idol
from vis_core.config import build
from vis_core.masks import rle
from vis_core.system import link
from vis_core.systems.idol import IdolLinkConfig, IdolLinker
from vis_core.systems.oracle import ORACLE
from vis_core.types import FramePrediction, TrackPlan

CASES = ["ovis_crowd", "ovis_lookalike", "ytvis_gaps", "ytvis_low", "ytvis_plain", "ytvis_ties"]
IDOL = dataclasses.replace(ORACLE, link_config=IdolLinkConfig, make_linker=IdolLinker)

NO_TRACK, NMS_DROPPED = -1, -3  # in the fixtures' ids


@pytest.fixture(params=CASES)
def case(request, shared) -> GoldenCase:
    return read_case(shared, "idol", request.param)


def expected_json(case: GoldenCase) -> dict[str, Any]:
    return json.loads((case.folder / "expected.json").read_text())


def plans_of(case: GoldenCase, **values: object) -> list[TrackPlan]:
    config = build(IdolLinkConfig, {**case.settings, **values})
    return link(IdolLinker(config), case.video, case.predictions)


def in_order(case: GoldenCase) -> list[FramePrediction]:
    return sorted(case.predictions, key=lambda row: row.frame_index)


def has_a_mask(case: GoldenCase, plan: TrackPlan) -> bool:
    """Tracks without one are in no fixture, and `link` leaves them out."""
    rows = in_order(case)
    taken = zip(plan.frame_index.tolist(), plan.instance.tolist(), strict=True)
    masks = [rows[frame].masks[instance] for frame, instance in taken]
    return bool(rle.areas(masks, (case.video.height, case.video.width)).any())


def test_tracks_are_the_released_ones(case):
    assert_same_tracks(case.link(IDOL), case.expected)


def test_presets_are_the_released_settings(case):
    found = link(
        IdolLinker(IdolLinkConfig(preset=case.meta["preset"])), case.video, case.predictions
    )
    expected = plans_of(case)
    assert [plan.entries for plan in found] == [plan.entries for plan in expected]
    assert [plan.instance.tolist() for plan in found] == [p.instance.tolist() for p in expected]


def test_every_instance_gets_the_released_id(case):
    """Up to renaming, also in tracks that are purged later."""
    released = expected_json(case)["ids"]
    names: dict[int, int] = {}
    taken = set()
    for track, plan in enumerate(plans_of(case, min_len=1, emit=0.0)):
        for frame, instance in zip(plan.frame_index.tolist(), plan.instance.tolist(), strict=True):
            taken.add((frame, instance))
            assert names.setdefault(released[frame][instance], track) == track
    assert len(set(names.values())) == len(names)
    assert min(names) >= 0
    tracked = {(f, i) for f, row in enumerate(released) for i, id_ in enumerate(row) if id_ >= 0}
    assert taken == tracked


def test_mask_nms_drops_what_the_release_drops_on_its_own_grid(case):
    released = expected_json(case)["ids"]
    size = (case.video.height, case.video.width)
    overlap = IdolLinkConfig(preset=case.meta["preset"]).max_overlap
    for row, ids in zip(in_order(case), released, strict=True):
        kept = idol.mask_nms(row.masks, size, overlap)
        assert kept.tolist() == [i for i, id_ in enumerate(ids) if id_ != NMS_DROPPED]


def test_result_lines_are_the_released_ones(case):
    expected = expected_json(case)["entries"]
    lines = sorted(
        line for plan in plans_of(case) for line in plan.entries if has_a_mask(case, plan)
    )
    released = sorted((line["category_id"], line["score"]) for line in expected)
    assert [label for label, _ in lines] == [label for label, _ in released]
    scores = np.array([score for _, score in lines])
    assert np.abs(scores - [score for _, score in released]).max() <= 1e-4


def test_instances_below_the_threshold_change_nothing(case):
    """A predictor stores down to 0.05, so that the linker's 0.1 can be changed later."""
    more = [with_faint(row) for row in case.predictions]
    plans = link(IdolLinker(build(IdolLinkConfig, case.settings)), case.video, more)
    expected = plans_of(case)
    assert [plan.entries for plan in plans] == [plan.entries for plan in expected]
    assert [plan.instance.tolist() for plan in plans] == [p.instance.tolist() for p in expected]


def with_faint(row: FramePrediction) -> FramePrediction:
    """The row with its instances once more at the end, where the best is above the threshold."""
    if row.scores.max() <= np.float32(0.1):
        return row
    return dataclasses.replace(
        row,
        scores=np.append(row.scores, np.full(len(row), 0.1, np.float32)),
        labels=np.append(row.labels, row.labels),
        boxes=np.concatenate([row.boxes, row.boxes]),
        masks=[*row.masks, *row.masks],
        class_scores=np.concatenate([row.class_scores, row.class_scores]),
        embeddings=np.concatenate([row.embeddings, row.embeddings]),
    )
