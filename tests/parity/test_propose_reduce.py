"""The sequence reduction against the released code of Propose-Reduce (golden fixtures)."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support.golden import assert_same_tracks, read_case
from vis_core.config import build
from vis_core.system import link
from vis_core.systems.propose_reduce import ProposeReduceLinkConfig, ProposeReduceLinker

CASES = ["hard_random", "hard_ties", "soft_crowd", "soft_ties", "cate_random", "cate_low"]
SYSTEM = SimpleNamespace(link_config=ProposeReduceLinkConfig, make_linker=ProposeReduceLinker)


def plans_of(case):
    linker = ProposeReduceLinker(build(ProposeReduceLinkConfig, case.settings))
    return link(linker, case.video, case.predictions)


def proposal_of(case, plan):
    rows = {item.frame_index: item for item in case.predictions}
    first = rows[int(plan.frame_index[0])]
    return int(first.proposals[plan.instance[0]])


@pytest.mark.parametrize("name", CASES)
def test_the_same_tracks_as_the_release(shared, name):
    case = read_case(shared, "propose_reduce", name)
    assert_same_tracks(case.link(SYSTEM), case.expected)


@pytest.mark.parametrize("name", CASES)
def test_selected_in_the_order_of_the_release(shared, name):
    case = read_case(shared, "propose_reduce", name)
    expected = json.loads((case.folder / "expected.json").read_text())
    written = set(expected["track_proposal"].values())
    order = [proposal for proposal in expected["kept"] if proposal in written]
    assert [proposal_of(case, plan) for plan in plans_of(case)] == order


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("soft")])
def test_result_lines_are_those_of_the_release(shared, name):
    case = read_case(shared, "propose_reduce", name)
    expected = json.loads((case.folder / "expected.json").read_text())
    lines = {
        (expected["track_proposal"][str(line["track_id"])], line["category_id"]): line["score"]
        for line in expected["entries"]
    }
    found = {
        (proposal_of(case, plan), label): score
        for plan in plans_of(case)
        for label, score in plan.entries
    }
    assert found.keys() == lines.keys()
    assert max(abs(found[key] - lines[key]) for key in lines) <= 1e-4


@pytest.mark.parametrize("name", ["soft_crowd", "soft_ties"])
def test_flattened_by_rank_they_are_the_davis_masks_of_the_release(shared, name):
    case = read_case(shared, "propose_reduce", name)
    tracks = case.link(SYSTEM)
    found = np.zeros((case.meta["frames"], case.video.height, case.video.width), np.uint8)
    for rank, track in reversed(list(enumerate(tracks, 1))):
        for frame, mask in track.masks.items():
            found[frame][mask] = rank
    with np.load(case.folder / "expected_labels.npz") as file:
        (labels,) = (file[name] for name in file.files)
    assert np.array_equal(found, labels)
