"""Whether objects keep their ids: the figure for windows of long videos."""

import numpy as np

from tests.support.identity import Followed, followed
from tests.support.rows import box_masks
from vis_core.formats.model import VideoHeader, make_tracks

SIZE = (8, 64)
VIDEO = VideoHeader(video_id="v", height=SIZE[0], width=SIZE[1], num_frames=9)
THIRDS = (range(3), range(3, 6), range(6, 9))


def tracks(*lefts):
    """One track per list of where its box begins in each frame; None: not there."""
    there = [
        (t, f, x) for t, track in enumerate(lefts) for f, x in enumerate(track) if x is not None
    ]
    return make_tracks(
        VIDEO,
        track_ids=list(range(len(lefts))),
        labels=[1] * len(lefts),
        scores=[1.0] * len(lefts),
        owner=[owner for owner, _, _ in there],
        frame_index=[frame for _, frame, _ in there],
        masks=[box_masks([(x, 0, x + 8, 8)], SIZE)[0] for _, _, x in there],
    )


def test_an_object_with_one_track_keeps_its_id():
    assert followed(tracks([0] * 9), tracks([1] * 9), [THIRDS]) == Followed(1, 0, 0)


def test_two_tracks_on_an_object_are_no_switch_while_one_of_them_is_better_throughout():
    double = [0, 30, 30, 0, 0, 0, 30, 30, 0]
    assert followed(tracks([0] * 9), tracks(double, [1] * 9), [THIRDS]) == Followed(1, 0, 0)


def test_tracks_that_cross_are_a_switch_also_where_both_lie_on_the_object_at_first():
    one, other = [0, 0, 0, 0, 0, 0, 0, 30, 30], [30, 30, 0, 0, 0, 0, 0, 0, 0]
    assert followed(tracks([0] * 9), tracks(one, other), [THIRDS]) == Followed(0, 1, 0)


def test_an_object_without_a_track_is_lost():
    found = tracks([0, 0, 0, 0, None, None, None, None, 0])
    assert followed(tracks([0] * 9), found, [THIRDS]) == Followed(0, 0, 1)


def test_only_what_shows_in_all_three_parts_counts():
    truth = tracks(
        [0, 0, 0, None, None, None, 0, 0, 0], [30, 30, 30, 30, None, None, None, None, None]
    )
    assert sum(followed(truth, truth, [THIRDS])) == 0


def test_a_truth_that_is_repeated():
    truth, found = tracks([0, 10, 20]), tracks([0, 10, 20, 10, 0, 10, 20, 10, 0])
    back = np.array([0, 1, 2, 1, 0, 1, 2, 1, 0])
    assert followed(truth, found, [THIRDS], lambda frame: int(back[frame])) == Followed(1, 0, 0)
