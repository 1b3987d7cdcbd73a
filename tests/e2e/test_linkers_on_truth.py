"""Linkers fed with the truth: each follows whom its rules can follow, and the clips are hard."""

from __future__ import annotations

import collections
import functools
import itertools

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import cli
from tests.support.followable import FOLLOWABLE, NUM_KEYS, RULES, frames_of
from tests.support.greedy_iou import GreedyIouLinker
from tests.support.masklets import as_truth, masklet_rows
from tests.support.on_truth import (
    ap_of,
    drawn_rows,
    linked,
    make_clips,
    objects_followed,
    only_objects,
    oracle_rows,
    proposed_rows,
)
from vis_core import schema
from vis_core.formats.results import Results
from vis_core.formats.sav import read_sav
from vis_core.system import Linker
from vis_core.systems import get_system
from vis_core.systems.flow_match.config import FlowMatchPredictConfig

SEED, NUM_CLIPS = 1_002_080, 10
# Of the objects of `plain`, how many each linker must be able to follow, so that no predicate can
# become an excuse.
LEAST_SHARE = {
    "flow_match": 0.6,
    "instance_flow": 0.95,
    "propose_reduce": 0.85,
    "idol": 0.8,
    "minvis": 0.5,
}
PRESETS = ("plain", "occluded")


def released(name: str, **settings: object) -> Linker:
    system = get_system(name)
    return system.make_linker(system.link_config(**settings))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """By preset, clips and what a front end without mistakes says about them."""
    folder = tmp_path_factory.mktemp("truth")
    found = {}
    for preset in PRESETS:
        clips = make_clips(folder, preset, SEED, NUM_CLIPS)
        rows = oracle_rows(
            clips, embedding_dim=256, centers=True, ref_flow=3, flow=True, proposals=False
        )
        found[preset] = clips, rows, proposed_rows(clips, NUM_KEYS)
    return found


@pytest.fixture(scope="module")
def results(scenes):
    """Of each linker and preset: truth, tracks and verdict of every clip; computed when needed."""

    @functools.cache
    def of(name, preset):
        clips, rows, proposed = scenes[preset]
        rows = proposed if name == "propose_reduce" else rows
        return [
            (
                truth,
                linked(released(name), rows[video], truth.tracks.video),
                FOLLOWABLE[name](rows[video], truth),
            )
            for video, truth in clips.truths.items()
        ]

    return of


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", FOLLOWABLE)
def test_objects_that_the_rules_can_follow_get_the_truths_ids(scenes, results, name, preset):
    wrong, pairs, num_objects, num_followed = [], [], 0, 0
    for truth, found, verdict in results(name, preset):
        followed = objects_followed(found, truth)
        objects = [k for k, frames in verdict.items() if not isinstance(frames, str)]
        wrong += [
            (truth.tracks.video.video_id, k)
            for k in objects
            if [(k, frame) for frame in verdict[k]] not in followed
        ]
        num_objects += len(verdict)
        num_followed += len(objects)
        if objects:
            pairs.append(only_objects(truth, found, objects))
    assert not wrong
    assert ap_of(pairs, scenes[preset][0].labels)["AP75"] >= 99
    if preset == "plain":
        assert num_followed >= LEAST_SHARE[name] * num_objects


def test_every_excluded_object_falls_under_a_rule_and_is_really_lost(results):
    """A rule that excludes objects which are followed all the same would prove nothing."""
    rules = collections.Counter()
    num_lost = 0
    for name, preset in itertools.product(FOLLOWABLE, PRESETS):
        for truth, found, verdict in results(name, preset):
            followed = objects_followed(found, truth)
            for k, frames in enumerate(frames_of(truth)):
                if isinstance(verdict[k], str):
                    rules[verdict[k]] += 1
                    num_lost += [(k, frame) for frame in frames] not in followed
    assert set(rules) == set(RULES)  # each has its case
    assert num_lost >= 0.95 * rules.total()


# --- how hard the clips are -----------------------------------------------------------------------


@pytest.mark.parametrize("patience", [0, 16])
@pytest.mark.parametrize("min_iou", [0.01, 0.1, 0.3, 0.5])
def test_overlap_alone_does_not_solve_occluded(scenes, min_iou, patience):
    clips, rows, _ = scenes["occluded"]
    pairs = [
        (truth, linked(GreedyIouLinker(min_iou, patience), rows[video], truth.tracks.video))
        for video, truth in clips.truths.items()
    ]
    assert ap_of(pairs, clips.labels)["AP"] <= 60


def test_true_embeddings_solve_occluded(scenes):
    """With a memory as long as the longest absence, and a guard against strangers."""
    clips, rows, _ = scenes["occluded"]
    pairs = [
        (
            truth,
            linked(released("idol", forget=20, min_cosine=0.5), rows[video], truth.tracks.video),
        )
        for video, truth in clips.truths.items()
    ]
    assert ap_of(pairs, clips.labels)["AP"] >= 85


def test_motion_finds_objects_of_plain_but_does_not_solve_it(tmp_path):
    clips = make_clips(tmp_path, "plain", SEED, 3)
    predictor = get_system("flow_match").make_predictor(FlowMatchPredictConfig())
    pairs = [
        (
            clips.truths[video],
            linked(released("flow_match"), rows, clips.truths[video].tracks.video),
        )
        for video, rows in drawn_rows(clips, predictor).items()
    ]
    figures = ap_of(pairs, None)
    assert figures["AP"] <= 35
    assert figures["AP50"] >= 5


# --- the command, and a real video ----------------------------------------------------------------


@pytest.mark.parametrize("name", FOLLOWABLE)
def test_the_link_command_writes_the_same_tracks(scenes, tmp_path, name):
    clips, rows, proposed = scenes["plain"]
    rows = proposed if name == "propose_reduce" else rows
    videos = list(clips.truths)[:2]
    stored = [row for video in videos for row in rows[video]]
    pq.write_table(
        schema.predictions_to_table(stored, fingerprint="", member=""), tmp_path / "rows.parquet"
    )
    out = tmp_path / "out"
    assert (
        cli.main(["link", str(tmp_path / "rows.parquet"), "--system", name, "--out", str(out)]) == 0
    )
    for found in Results(str(out)).tracks():
        expected = linked(released(name), rows[found.video.video_id], found.video)
        for column in ("labels", "offsets", "frame_index", "masks"):
            assert np.array_equal(getattr(found, column), getattr(expected, column)), column
        assert found.scores == pytest.approx(expected.scores, rel=1e-6)
        assert found.mask_scores == pytest.approx(expected.mask_scores, rel=1e-6, nan_ok=True)
        for column in ("track", "labels"):
            ours, theirs = getattr(found.entries, column), getattr(expected.entries, column)
            assert np.array_equal(ours, theirs)
    assert {found.video.video_id for found in Results(str(out)).tracks()} == set(videos)


# Shares of links that are right: the clip's balls fly by more than their size from row to row.
RIGHT_LINKS = {"flow_match": 1.0, "instance_flow": 0.7, "idol": 0.85, "minvis": 0.9}


@pytest.mark.parametrize("name", RIGHT_LINKS)
def test_real_masklets_are_linked_again_from_their_masks_alone(shared, name):
    masklets = read_sav(str(shared / "media" / "sav_000001_manual.json"))
    truth, rows = as_truth(masklets), masklet_rows(masklets)
    found = linked(released(name), rows, masklets.video)
    followed = objects_followed(found, truth)
    links = [a == b for taken in followed for (a, _), (b, _) in itertools.pairwise(taken)]
    assert np.mean(links) >= RIGHT_LINKS[name]
    taken = [mask for masks in followed for mask in masks]
    assert len(set(taken)) == len(taken)  # no masklet's mask is in two tracks
    if name in ("instance_flow", "minvis"):  # which drop nothing
        assert len(taken) == len(masklets.masks)


def test_masklets_that_are_not_taken_apart_are_perfect(shared):
    masklets = read_sav(str(shared / "media" / "sav_000001_manual.json"))
    figures = ap_of([(as_truth(masklets), masklets)], None)
    assert figures["AP"] == pytest.approx(100)
