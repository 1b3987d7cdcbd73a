"""Each preset is as hard as it says: measured on truth, held inside stated ranges.

The clips are those of consecutive seeds; quotas are dealt, so that a few dozen show them.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vis_core.data.synth import PRESETS, SynthConfig, measured_truth, summarize
from vis_core.data.synth.difficulty import ClipMeasures, ObjectMeasures

NUM_CLIPS = 24
FIRST_SEED = 2_000_100

# What every preset promises: lowest and highest value.
COMMON = {
    "late_birth_share": (0.40, 0.60),
    "fast_share": (0.30, 0.55),
    "concave_share": (0.25, 0.90),
    "gone_early_share": (0.12, 0.50),
    "objects_per_frame": (2.2, 4.0),
    "half_seen_mask_share": (0.08, 0.42),
    "sqrt_area.p10": (13, 26),
    "sqrt_area.p50": (36, 54),
    "sqrt_area.p90": (74, 110),
    "objects_per_video.min": (2, 2),
    "objects_per_video.median": (4, 4),
    "objects_per_video.max": (7, 8),
    "lifetime.min": (8, 14),
    "lifetime.max": (36, 36),
}
RANGES = {
    "plain": {
        **COMMON,
        "look_alike_share": (0.45, 0.75),
        "resting_share": (0.08, 0.3),
        "hidden_share": (0.03, 0.2),
        "hidden_lengths.1-3": (0.8, 1.0),
        "return_share": (0.04, 0.17),
        "touching_look_alike_pairs": (8, 200),
    },
    "occluded": {
        **COMMON,
        "look_alike_share": (0.7, 1.0),
        "hidden_share": (0.42, 0.62),
        "hidden_lengths.1-3": (0.2, 0.4),
        "hidden_lengths.4-9": (0.4, 0.6),
        "hidden_lengths.10-16": (0.1, 0.3),
        "return_share": (0.02, 0.15),
        "look_alike_crossing_share": (0.4, 1.0),
        "crossings_per_video": (1.2, 4.0),
    },
    "open_world": {
        **COMMON,
        "look_alike_share": (0.35, 0.65),
        "resting_share": (0.08, 0.3),
        "hidden_share": (0.1, 0.3),
        "return_share": (0.04, 0.17),
    },
}


def value(found, name):
    for part in name.split("."):
        found = found[part]
    return found


@pytest.mark.parametrize("preset", PRESETS)
def test_difficulty_lies_in_its_stated_range(preset):
    config = SynthConfig(preset=preset, height=180, width=320)
    clips = [measured_truth(config, FIRST_SEED + i)[1] for i in range(NUM_CLIPS)]
    found = summarize(preset, clips)
    wrong = {
        name: (value(found, name), limits)
        for name, limits in RANGES[preset].items()
        if not limits[0] <= value(found, name) <= limits[1]
    }
    assert not wrong
    assert min(found["late_births_by_third"]) > 0  # births are spread over the clip
    assert min(found["objects_by_family"].values()) > 0
    assert sum(found["objects_by_family"].values()) == found["num_objects"]


def test_longer_clips_have_longer_lives():
    config = SynthConfig(num_frames=72, height=180, width=320)
    measures = [measured_truth(config, FIRST_SEED + i)[1] for i in range(6)]
    found = summarize("plain", measures)
    assert found["lifetime"]["max"] > 36
    assert {clip.num_frames for clip in measures} == {72}


# --- the measures themselves ----------------------------------------------------------------------


def an_object(**changes):
    item = ObjectMeasures(
        label=1,
        family="hexagon",
        concave=False,
        look_alike=False,
        start=0,
        stop=36,
        sides=[40.0] * 36,
        step=0.1,
        own_step=0.1,
        hidden=[],
        away=[],
        half_seen=0,
    )
    return dataclasses.replace(item, **changes)


def a_clip(*objects, **changes):
    clip = ClipMeasures(
        num_frames=36,
        objects=objects,
        crossings=0,
        twin_crossings=0,
        touching=0,
        twin_touching=0,
        overlap_frames=0,
        present=[len(objects)] * 36,
    )
    return dataclasses.replace(clip, **changes)


def test_shares_are_of_objects_and_lengths_of_absences():
    clips = [
        a_clip(
            an_object(step=0.4), an_object(start=3, hidden=[2, 5]), crossings=3, twin_crossings=2
        ),
        a_clip(an_object(away=[6]), an_object(start=4, away=[9]), crossings=1),
    ]
    found = summarize("plain", clips)
    assert found["fast_share"] == 0.25
    assert found["late_birth_share"] == 0.5
    assert found["hidden_share"] == 0.25
    assert found["hidden_lengths"] == {"1-3": 0.5, "4-9": 0.5, "10-16": 0.0, "17-": 0.0}
    assert found["return_share"] == 0.25  # the other one was not there in the first frame
    assert found["look_alike_crossing_share"] == 0.5
    assert found["late_births_by_third"] == [1.0, 0.0, 0.0]


def test_measured_absences_and_births_are_those_of_the_masks():
    """The same facts, counted from the masks alone."""
    config = SynthConfig(preset="occluded", height=180, width=320)
    for seed in range(FIRST_SEED, FIRST_SEED + 3):
        truth, measures = measured_truth(config, seed)
        for item, found in zip(truth.objects, measures.objects, strict=True):
            seen = [mask is not None for mask in item.masks]
            first, last = seen.index(True), 35 - seen[::-1].index(True)
            assert (found.start, found.stop) == (first, last + 1)
            holes = "".join("x" if here else "." for here in seen[first : last + 1]).split("x")
            lengths = sorted(len(hole) for hole in holes if hole)
            assert sorted([*found.hidden, *found.away]) == lengths
            assert len(found.sides) == sum(seen)
        assert (
            measures.present
            == np.array([[mask is not None for mask in item.masks] for item in truth.objects])
            .sum(axis=0)
            .tolist()
        )
