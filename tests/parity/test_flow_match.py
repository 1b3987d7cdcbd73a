"""The flow_match linker gives the release's tracks, masks and scores on the golden fixtures."""

from __future__ import annotations

import pytest

from jobs import cli
from tests.support.golden import GoldenCase, assert_same_tracks, read_case, tracks_of_results
from tests.support.reference_flow_match import link_flow_match
from vis_core.systems.flow_match import FLOW_MATCH

CASES = ["duplicates", "gaps", "occluded", "plain", "settings", "ties"]


@pytest.fixture(params=CASES)
def case(request, shared) -> GoldenCase:
    return read_case(shared, "flow_match", request.param)


def test_tracks_are_the_released_ones(case):
    assert_same_tracks(case.link(FLOW_MATCH), case.expected)


def test_the_plain_loops_are_in_parity_too(case):
    """They are what the linker and its speed are held against on other rows."""
    rows = sorted(case.predictions, key=lambda row: row.frame_index)
    assert_same_tracks(link_flow_match(rows, **case.settings), case.expected)


def test_the_command_line_gives_the_released_tracks(case, tmp_path):
    words = ["link", str(case.folder / "input.parquet"), "--system", "flow_match"]
    words += ["--out", str(tmp_path / "out")]
    for name, value in case.settings.items():
        words += ["--set", f"{name}={value}"]
    assert cli.main(words) == 0
    assert_same_tracks(tracks_of_results(tmp_path / "out", case.video.video_id), case.expected)
