"""Memory stays within the stated bound, whatever the video's length."""

import pytest

from tests.bench.memory import measure


@pytest.mark.chaos
def test_a_hundred_thousand_frames_stay_within_the_bound():
    found = measure(100_000, 10)
    assert found["masks"] == 1_000_000
    assert found["added_mb"] <= found["bound_mb"], found
