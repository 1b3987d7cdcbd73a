"""What feeds and judges the linkers: rows keep together, sequences are those of key frames."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.support.followable import AWAY_TOO_LONG, by_instance_flow
from tests.support.greedy_iou import GreedyIouLinker
from tests.support.masklets import place_and_size
from tests.support.on_truth import (
    as_sequences,
    linked,
    objects_followed,
    only_objects,
    shuffled,
    tracks_of,
)
from tests.support.rows import box_masks, row
from vis_core.formats.model import TruthTracks, VideoHeader, make_tracks
from vis_core.types import CarriedMask, RefFlow, TrackPlan

SIZE = (40, 60)
HEADER = VideoHeader(video_id="v", height=SIZE[0], width=SIZE[1], num_frames=12)
A, B = (0, 0, 10, 10), (30, 20, 45, 35)


def rows_of(*frames, **fields):
    """A row for each frame, from boxes."""
    return [
        row(t, box_masks(boxes, SIZE), SIZE, class_scores=np.full((len(boxes), 1), 0.9), **fields)
        for t, boxes in enumerate(frames)
    ]


def truth_of(*objects):
    """Objects as {frame: box}."""
    masks = [
        (k, t, box_masks([box], SIZE)[0]) for k, o in enumerate(objects) for t, box in o.items()
    ]
    tracks = make_tracks(
        HEADER,
        track_ids=range(len(objects)),
        labels=np.ones(len(objects)),
        scores=np.ones(len(objects)),
        owner=[k for k, _, _ in masks],
        frame_index=[t for _, t, _ in masks],
        masks=[mask for _, _, mask in masks],
    )
    return TruthTracks(
        tracks=tracks, crowd=np.zeros(len(objects), bool), mean_areas=np.ones(len(objects))
    )


def plan(frames, instances, **fields):
    return TrackPlan(
        score=0.5,
        label=1,
        frame_index=np.array(frames, np.int32),
        instance=np.array(instances, np.int32),
        **fields,
    )


def test_a_shuffled_row_keeps_what_belongs_to_an_instance_together():
    boxes = [(i, 0, i + 5, 5) for i in range(8)]
    flow = RefFlow(
        offsets=np.array([0, 0, 1, 3, 3, 4, 4, 4, 6]),
        frame_index=np.array([0, 0, 1, 0, 0, 1]),
        dydx=np.repeat([[1.0], [2.0], [2.0], [4.0], [7.0], [7.0]], 2, axis=1),
    )
    (before,) = rows_of(boxes, proposals=np.arange(8), ref_flow=flow)
    after = shuffled(before)
    order = after.proposals.tolist()
    assert order != list(range(8)) and sorted(order) == list(range(8))
    assert after.masks == [before.masks[i] for i in order]
    assert np.array_equal(after.boxes, before.boxes[order])
    for place, i in enumerate(order):
        mine = slice(after.ref_flow.offsets[place], after.ref_flow.offsets[place + 1])
        theirs = slice(flow.offsets[i], flow.offsets[i + 1])
        assert np.array_equal(after.ref_flow.frame_index[mine], flow.frame_index[theirs])
        assert (after.ref_flow.dydx[mine] == i).all()


def test_what_a_key_frame_shows_is_a_sequence_over_all_frames():
    proposals = ([0], [0, 1], [1])
    rows = [
        dataclasses.replace(found, proposals=np.array(numbers))
        for found, numbers in zip(rows_of([A], [A, B], [B]), proposals, strict=True)
    ]
    found = as_sequences([rows, rows], [0, 1])
    first, second = 0, 1 << 16  # of the key frames: one shows A, the other both
    assert [sorted(here.proposals.tolist()) for here in found] == [
        [first, second],
        [first, second, second + 1],
        [second + 1],
    ]
    masks = dict(zip(found[1].proposals.tolist(), found[1].masks, strict=True))
    assert masks[first] == masks[second] == rows[1].masks[0]
    assert masks[second + 1] == rows[1].masks[1]


def test_plans_become_tracks_with_their_own_and_carried_masks():
    rows = rows_of([A, B], [B], [A])
    carried = CarriedMask(frame_index=1, mask=box_masks([A], SIZE)[0])
    nothing = CarriedMask(frame_index=1, mask=box_masks([(0, 0, 0, 0)], SIZE)[0])
    plans = [
        plan([0, 2], [0, 0], carried=(carried,), entries=((1, 0.5), (3, 0.2))),
        plan([], [], carried=(nothing,)),
        plan([0, 1], [1, 0]),
    ]
    found = tracks_of(plans, rows, HEADER)
    assert np.diff(found.offsets).tolist() == [3, 2]  # what has no pixel is no track
    assert found.frame_index.tolist() == [0, 1, 2, 0, 1]
    assert np.isnan(found.mask_scores).tolist() == [False, True, False, False, False]
    assert found.entries.labels.tolist() == [1, 3, 1]
    truth = truth_of({0: A, 2: A}, {0: B, 1: B})
    assert objects_followed(found, truth) == [[(0, 0), (0, 2)], [(1, 0), (1, 1)]]
    shorter, kept = only_objects(truth, found, [1])
    assert shorter.tracks.track_ids.tolist() == [1]
    assert kept.track_ids.tolist() == [2]


@pytest.mark.parametrize(
    ("seen", "known"),
    [([0, 5, 11], True), ([1, 2, 5, 8], True), ([1, 5], False), ([3], True)],
)
def test_instance_flow_knows_what_was_there_at_first_or_within_three_rows(seen, known):
    (verdict,) = by_instance_flow([], truth_of(dict.fromkeys(seen, A))).values()
    assert verdict == (seen if known else AWAY_TOO_LONG)


def test_greedy_overlap_follows_crosses_and_waits():
    moved = (2, 0, 12, 10)
    rows = rows_of([A, B], [B, moved], [], [moved])
    tracks = linked(GreedyIouLinker(0.5), rows, HEADER)
    assert [tracks.frame_index[tracks.of_track(k)].tolist() for k in range(3)] == [
        [0, 1],
        [0, 1],
        [3],
    ]
    waiting = linked(GreedyIouLinker(0.5, patience=1), rows, HEADER)
    assert sorted(np.diff(waiting.offsets).tolist()) == [2, 3]
    strict = linked(GreedyIouLinker(0.9, patience=1), rows, HEADER)
    assert sorted(np.diff(strict.offsets).tolist()) == [1, 2, 2]


def test_embeddings_of_masks_say_how_far_apart_they_are():
    """A step of 0.15 of the frame's size, or a factor of 1.65 in length, is a cosine of 0.6."""
    size = (200, 200)
    masks = box_masks([(50, 50, 70, 70), (80, 50, 100, 70), (43, 43, 77, 77)], size)
    cosines = place_and_size(masks, size) @ place_and_size(masks, size).T / 64
    assert np.diagonal(cosines) == pytest.approx(1)
    assert cosines[0, 1:] == pytest.approx(np.exp(-0.5), abs=0.1)
    far = box_masks([(150, 150, 170, 170)], size)
    assert abs(place_and_size(masks[:1], size) @ place_and_size(far, size).T / 64) < 0.2
