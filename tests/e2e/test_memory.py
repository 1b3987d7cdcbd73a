"""Memory stays within the stated bound, whatever the video's length."""

import pytest

from tests.bench import memory, plan


@pytest.mark.chaos
def test_a_hundred_thousand_frames_stay_within_the_bound():
    found = memory.measure(100_000, 10)
    assert found["masks"] == 1_000_000
    assert found["added_mb"] <= found["bound_mb"], found


@pytest.mark.chaos
def test_a_million_videos_are_planned_in_two_gigabytes():
    """Half of them committed; the rest is subtracted, cut, packed, and a wave made of it."""
    found = plan.measure(1_000_000)
    assert found["first_wave_units"] == plan.WAVE
    assert found["peak_gb"] <= 2.0, found
