"""Which clip a draw sees, and what is read of it."""

from __future__ import annotations

import dataclasses
import pickle
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.drawn_data import DrawnDataSet, DrawnVideo, plain_video
from vis_core.data.sampling import Draw, Draws, SamplingConfig, read_sample
from vis_core.errors import UsageError

BLOCK = 1000


def mixed() -> DrawnDataSet:
    """Videos of one frame and of many, annotated everywhere or here and there; one not at all."""
    return DrawnDataSet(
        [
            plain_video(7),
            plain_video(1),
            plain_video(9, annotated=[]),
            plain_video(30, annotated=[2, 3, 9, 14, 15, 28]),
        ]
    )


def base_frames(data_set):
    return [
        (video, frame)
        for video, labelled in enumerate(data_set.videos)
        for frame in labelled.annotated.tolist()
    ]


def draws_of(data_set, seed=0, **config):
    if config.get("others") == "shared_classes":
        config = {"order": "base_first"} | config
    return Draws([data_set], [1.0], SamplingConfig(**config), seed)


def clips(draws, stop, start=0):
    """(video, frame, frame, ...) of each draw."""
    found = [draws.draw(number) for number in range(start, stop)]
    return [(draw.video, *draw.frame_index.tolist()) for draw in found]


def partners(data_set, epochs, **config):
    """By base frame, the frames that ever came with it."""
    draws = draws_of(data_set, order="base_first", **config)
    found = defaultdict(set)
    for video, base, *others in clips(draws, epochs * len(draws)):
        found[video, base].update(others)
    return found


# --- data sets and epochs -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "shares"),
    [
        ((5,), [1000]),
        ((1, 1), [500, 500]),
        ((1, 3), [250, 750]),
        ((1, 1, 1), [334, 333, 333]),
        ((0.7, 0.2, 0.1), [700, 200, 100]),
        ((1e-9, 1), [1, 999]),
        ((0.9, 499.55, 499.55), [1, 500, 499]),
        ((1, 1e-9, 1e-9, 1), [499, 1, 1, 499]),
    ],
)
def test_data_sets_are_mixed_exactly_by_weight_in_every_block(weights, shares):
    """Each thousand draws have the largest-remainder share of each set, and one at the least."""
    draws = Draws([mixed()] * len(weights), weights, SamplingConfig(), seed=3)
    for block in range(2):
        numbers = range(block * BLOCK, (block + 1) * BLOCK)
        count = Counter(draws.draw(number).data_set for number in numbers)
        assert [count[k] for k in range(len(weights))] == shares


def test_data_sets_take_turns_all_through_a_block():
    """No part of a block belongs to one data set alone."""
    draws = Draws([mixed(), mixed()], [1, 1], SamplingConfig(), seed=0)
    for start in range(0, BLOCK, 50):
        assert len({draws.draw(number).data_set for number in range(start, start + 50)}) == 2


def test_an_epoch_has_each_base_frame_once():
    """Two epochs hold the same frames, each once, in different orders."""
    data_set = mixed()
    draws = draws_of(data_set)
    size = len(base_frames(data_set))
    first, second = clips(draws, size), clips(draws, 2 * size, size)
    assert len(draws) == size == 14
    assert sorted(first) == sorted(second) == base_frames(data_set)
    assert first != second


def test_each_data_set_has_epochs_of_its_own():
    """In a mix, too, every base frame of a set comes once in each of the set's epochs."""
    data_sets = [mixed(), DrawnDataSet([plain_video(50)]), DrawnDataSet([plain_video(3)])]
    draws = Draws(data_sets, [1, 5, 0.5], SamplingConfig(), seed=1)
    epochs, indices = defaultdict(list), defaultdict(list)
    for number in range(2500):  # ends within a block
        draw = draws.draw(number)
        epochs[draw.data_set, draw.epoch].append((draw.video, int(draw.frame_index[0])))
        indices[draw.data_set, draw.epoch].append(draw.index)
    for (data_set, epoch), frames in epochs.items():
        expected = base_frames(data_sets[data_set])
        assert indices[data_set, epoch] == list(range(len(frames)))
        assert len(set(frames)) == len(frames)
        if (data_set, epoch + 1) in epochs:
            assert sorted(frames) == expected
    assert len(draws) == 14 + 50 + 3


@pytest.mark.parametrize("others", ["near", "any", "next", "shared_classes", "same"])
def test_only_annotated_frames_are_drawn(others):
    """Frames without complete truth join no clip."""
    data_set = mixed()
    for video, *frames in clips(draws_of(data_set, num_frames=2, others=others), 100):
        assert set(frames) <= set(data_set.videos[video].annotated.tolist())


def test_a_data_set_without_annotated_frames_is_refused():
    """The message says which one."""
    empty = DrawnDataSet([plain_video(4, annotated=[])], name="hollow")
    with pytest.raises(UsageError, match="hollow: no frame is annotated"):
        draws_of(empty)


# --- the other frames -----------------------------------------------------------------------------


@pytest.mark.parametrize("reach", [1, 2, 10])
def test_near_frames_are_all_within_reach(reach):
    """Up to `reach` annotated frames before and after, and every one of them at some time."""
    frames = [2, 3, 9, 14, 15, 28]
    data_set = DrawnDataSet([plain_video(30, annotated=frames)])
    found = partners(data_set, 60, num_frames=2, others="near", reach=reach)
    for place, frame in enumerate(frames):
        around = frames[max(0, place - reach) : place + reach + 1]
        assert found[0, frame] == set(around) - {frame}


def test_any_frame_of_the_video_may_join():
    """The whole video, whatever the reach."""
    data_set = DrawnDataSet([plain_video(9)])
    found = partners(data_set, 100, num_frames=2, others="any", reach=1)
    assert all(found[0, frame] == set(range(9)) - {frame} for frame in range(9))


def test_next_frames_follow_the_base_frame():
    """The annotated frames that come after it, in their order."""
    frames = [2, 3, 9, 14, 15, 28]
    data_set = DrawnDataSet([plain_video(30, annotated=frames)])
    for _, base, *others in clips(
        draws_of(data_set, num_frames=3, others="next", order="base_first"), len(frames)
    ):
        later = [frame for frame in frames if frame > base]
        if len(later) >= 2:
            assert others == later[:2]
        else:
            assert others == (later or [base]) * 2


@pytest.mark.parametrize("others", ["near", "any", "next"])
def test_ascending_clips_are_sorted_by_time(others):
    """The base frame may stand anywhere in them."""
    found = clips(draws_of(mixed(), num_frames=3, others=others, order="ascending"), 70)
    assert all(frames == sorted(frames) for _, *frames in found)


def test_ascending_pairs_have_the_base_frame_first_or_last():
    """Sorting is all that `ascending` changes."""
    first = clips(draws_of(mixed(), num_frames=2, order="base_first"), 42)
    sorted_ = clips(draws_of(mixed(), num_frames=2, order="ascending"), 42)
    assert sorted_ == [(video, *sorted(frames)) for video, *frames in first]
    assert first != sorted_


def test_base_frames_come_first():
    """With `base_first` an epoch's first frames are the base frames, each once."""
    data_set = mixed()
    found = clips(draws_of(data_set, num_frames=4, others="any", order="base_first"), 14)
    assert sorted((video, base) for video, base, *_ in found) == base_frames(data_set)


def test_no_frame_comes_twice_while_there_are_enough():
    """Clips repeat frames only where a video has fewer."""
    data_set = DrawnDataSet([plain_video(5), plain_video(3)])
    for video, *frames in clips(draws_of(data_set, num_frames=4, others="any"), 80):
        assert len(frames) == 4
        assert video == 1 or len(set(frames)) == 4


@pytest.mark.parametrize("others", ["near", "any", "next", "shared_classes"])
def test_a_video_of_one_frame_repeats_it(others):
    """Pictures make clips of one and the same frame."""
    data_set = DrawnDataSet([plain_video(8, annotated=[5])])
    assert clips(draws_of(data_set, num_frames=2, others=others), 3) == [(0, 5, 5)] * 3


def test_the_same_frame_makes_a_clip_alone():
    """A video then is as many pictures, each of which comes as often as its clip is long."""
    data_set = mixed()
    found = clips(draws_of(data_set, num_frames=3, others="same"), 14)
    expected = [(video, frame, frame, frame) for video, frame in base_frames(data_set)]
    assert sorted(found) == expected


@pytest.mark.parametrize("others", ["near", "any", "next"])
def test_clips_of_one_frame_are_its_base_frame(others):
    """Nothing else is drawn for single pictures."""
    data_set = mixed()
    assert sorted(clips(draws_of(data_set, others=others), 14)) == base_frames(data_set)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_frames": 0}, "num_frames: expected 1 to 1000, got 0"),
        ({"num_frames": 1001}, "num_frames: expected 1 to 1000, got 1001"),
        ({"reach": 0}, "reach: expected 1 to 1000000, got 0"),
        ({"num_frames": 3, "others": "shared_classes"}, "expected num_frames 1 or 2, got 3"),
        (
            {"num_frames": 2, "others": "shared_classes", "order": "ascending"},
            "order: expected base_first .*, got ascending",
        ),
    ],
)
def test_bad_settings_say_what_was_expected(config, message):
    """Limits are checked when the settings are made."""
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**config)


# --- frames that show something ------------------------------------------------------------------


def sparse() -> DrawnDataSet:
    """Frames 1 and 3 of the first video show an instance, and frame 0 of the third."""
    return DrawnDataSet(
        [
            DrawnVideo(seen=[set(), {1}, {2}, {1, 2}], crowd=(2,)),
            DrawnVideo(seen=[set()] * 3),
            DrawnVideo(seen=[{5}, set()]),
        ]
    )


LABELLED = {(0, 1), (0, 3), (2, 0)}


def test_labelled_base_frames_show_an_instance():
    """Crowds are none; others take the turn of frames without one."""
    draws = draws_of(sparse(), only_labelled=True)
    assert len(draws) == 9
    for epoch in range(5):
        found = clips(draws, 9 * (epoch + 1), 9 * epoch)
        assert set(found) == LABELLED


def test_labelled_frames_keep_their_turn():
    """Only the turns of frames without an instance are given to others."""
    plain, labelled = (clips(draws_of(sparse(), only_labelled=only), 45) for only in (False, True))
    for before, after in zip(plain, labelled, strict=True):
        assert after == before or before not in LABELLED


def test_other_frames_need_not_show_anything():
    """The rule is about the base frame."""
    found = clips(
        draws_of(sparse(), only_labelled=True, num_frames=2, others="any", order="base_first"), 90
    )
    assert {(video, base) for video, base, _ in found} == LABELLED
    assert {other for video, _, other in found if video == 0} == {0, 1, 2, 3}


def test_a_set_in_which_nothing_is_seen_is_refused():
    """The search ends, and says which set it was."""
    nothing = DrawnDataSet([DrawnVideo(seen=[set(), {1}], crowd=(1,))], name="hollow")
    with pytest.raises(UsageError, match="hollow: only_labelled: expected frames with instances"):
        draws_of(nothing, only_labelled=True).draw(0)


# --- Propose-Reduce's rule ------------------------------------------------------------------------

CLASSES = {1: 1, 2: 1, 3: 2, 4: 2}


@pytest.mark.parametrize(
    ("base", "other", "crowd", "allowed"),
    [
        pytest.param({1, 3}, {1, 3}, (), True, id="the same instances"),
        pytest.param({1}, {1, 2, 3}, (), True, id="the other frame shows more"),
        pytest.param({1, 3}, {1}, (), True, id="what is missing is of a class the other lacks"),
        pytest.param({1}, {2}, (), False, id="(a) same class, no instance in common"),
        pytest.param({1, 2}, {1}, (), False, id="(b) one of the class is missing"),
        pytest.param({1, 3}, {1, 4}, (), False, id="(b) one of the second class is replaced"),
        pytest.param({1}, {3}, (), False, id="(c) no class in common"),
        pytest.param({1}, set(), (), False, id="the other frame is empty"),
        pytest.param(set(), {1}, (), False, id="the base frame is empty"),
        pytest.param({1}, {1}, (1,), False, id="only a crowd in common"),
        pytest.param({1, 2}, {1}, (2,), True, id="what is missing is a crowd"),
    ],
)
def test_guidance_frames_share_classes_as_propose_reduce_says(base, other, crowd, allowed):
    """Conditions (a), (b), (c) of docs/methods/propose_reduce.md; else a frame guides itself."""
    data_set = DrawnDataSet([DrawnVideo(seen=[base, other], labels=CLASSES, crowd=crowd)])
    found = partners(data_set, 1, num_frames=2, others="shared_classes")
    assert found[0, 0] == {1 if allowed else 0}


def allowed_guides(video, base):
    """The same conditions, word by word, with sets."""
    own = set(video.seen[base])
    found = set()
    for frame in set(video.annotated_frames) - {base}:
        ref = set(video.seen[frame])
        common = {CLASSES[k] for k in own} & {CLASSES[k] for k in ref}
        complete = all(k in ref for k in own if CLASSES[k] in common)
        if own & ref and complete and common:
            found.add(frame)
    return found or {base}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sets(st.sampled_from([1, 2, 3, 4])), min_size=1, max_size=6),
    st.data(),
)
def test_guidance_frames_are_those_of_the_rule(seen, data):
    """Whatever is seen where, drawn frames satisfy the rule read as sets."""
    annotated = sorted(data.draw(st.sets(st.integers(0, len(seen) - 1), min_size=1)))
    video = DrawnVideo(seen=seen, labels=CLASSES, annotated=annotated)
    found = partners(DrawnDataSet([video]), 3, num_frames=2, others="shared_classes")
    for frame in annotated:
        assert found[0, frame] <= allowed_guides(video, frame)


def test_every_guidance_frame_comes_up():
    """The choice is among all that the rule allows."""
    video = DrawnVideo(seen=[{1}, {1, 2}, {2}, {1, 3}, {3}, {1}], labels=CLASSES)
    found = partners(DrawnDataSet([video]), 60, num_frames=2, others="shared_classes")
    assert found[0, 0] == {1, 3, 5}
    assert found[0, 1] == {1}
    assert found[0, 2] == {1}
    assert found[0, 3] == {0, 1, 4, 5}


# --- the same everywhere --------------------------------------------------------------------------


def as_values(draw):
    values = {field.name: getattr(draw, field.name) for field in dataclasses.fields(draw)}
    return values | {"frame_index": draw.frame_index.tolist()}


def all_kinds(seed):
    data_sets = [mixed(), sparse()]
    config = SamplingConfig(num_frames=3, others="any", only_labelled=True)
    return Draws(data_sets, [2, 1], config, seed)


def test_a_pickled_copy_draws_the_same():
    """Loader processes need not be told what came before."""
    draws = all_kinds(seed=5)
    copy = pickle.loads(pickle.dumps(draws))  # noqa: S301 - our own
    for number in (0, 7, 999, 1000, 12_345):
        assert as_values(copy.draw(number)) == as_values(draws.draw(number))


def test_a_pickled_copy_is_small_however_much_was_drawn():
    """Permutations are made again."""
    draws = draws_of(DrawnDataSet([plain_video(5000)]))
    before = len(pickle.dumps(draws))
    draws.draw(0)
    assert len(pickle.dumps(draws)) == before


def test_draws_do_not_depend_on_the_order_of_asking():
    """Backwards, twice, or one alone: a number has its draw."""
    forward = {number: as_values(all_kinds(seed=5).draw(number)) for number in range(40)}
    draws = all_kinds(seed=5)
    draws.draw(50_000)
    assert {number: as_values(draws.draw(number)) for number in reversed(range(40))} == forward
    assert {number: as_values(draws.draw(number)) for number in range(40)} == forward


def test_another_seed_draws_others():
    """Order, data sets and partners all come from the seed."""
    one, two = all_kinds(seed=5), all_kinds(seed=6)
    assert clips(one, 40) != clips(two, 40)
    turns = [[draws.draw(number).data_set for number in range(40)] for draws in (one, two)]
    assert turns[0] != turns[1]


def test_the_other_frames_change_from_epoch_to_epoch():
    """A base frame does not keep its partner."""
    found = partners(DrawnDataSet([plain_video(20)]), 10, num_frames=2, others="any")
    assert min(len(frames) for frames in found.values()) > 2


# --- reading --------------------------------------------------------------------------------------


def read(video, frames, labels=None):
    draw = Draw(data_set=0, video=0, frame_index=np.array(frames, np.int64), epoch=0, index=0)
    return read_sample([DrawnDataSet([video])], draw, [labels or {1: 0, 2: 1}])


def assert_masks(sample, video):
    for frame, masks in zip(sample.frame_index.tolist(), sample.masks, strict=True):
        expected = [video.mask(track, frame) for track in sample.ids.tolist()]
        np.testing.assert_array_equal(masks, np.reshape(expected, masks.shape))


def test_a_sample_has_the_masks_and_frames_of_the_truth():
    """Masks by track and frame; an instance that one frame lacks is empty there."""
    video = DrawnVideo(seen=[{1, 2}, {5}, {2, 5}, {1}], labels={5: 2})
    sample = read(video, [2, 0])
    assert sample.video_id == "drawn-0"
    assert sample.ids.tolist() == [1, 2, 5]
    assert sample.labels.tolist() == [0, 0, 1]
    assert sample.visible().tolist() == [[False, True, True], [True, True, False]]
    assert_masks(sample, video)
    for frame, picture in zip([2, 0], sample.frames, strict=True):
        np.testing.assert_array_equal(picture, video.picture(frame))


def test_a_sample_may_hold_a_frame_twice():
    """Both copies have all masks."""
    video = DrawnVideo(seen=[{1, 2}, {2}])
    sample = read(video, [0, 0])
    assert len(sample) == 2
    assert_masks(sample, video)


def test_the_right_data_set_is_read():
    """A draw's set has its own videos and its own label map."""
    data_sets = [mixed(), DrawnDataSet([plain_video(2), DrawnVideo(seen=[{9}])], name="second")]
    draw = Draw(data_set=1, video=1, frame_index=np.array([0]), epoch=0, index=0)
    sample = read_sample(data_sets, draw, [{1: 0}, {1: 7}])
    assert (sample.video_id, sample.ids.tolist(), sample.labels.tolist()) == ("second-1", [9], [7])


def test_categories_that_the_map_lacks_are_left_out():
    """Labels are positions of the recipe; what it does not know is not in the clip."""
    video = DrawnVideo(seen=[{1, 2, 3}] * 2, labels={1: 4, 2: 1, 3: 9})
    sample = read(video, [0, 1], {9: 0, 4: 2})
    assert sample.ids.tolist() == [1, 3]
    assert sample.labels.tolist() == [2, 0]
    assert_masks(sample, video)


def test_crowds_are_kept_and_marked():
    """A region to ignore is in the clip as such."""
    sample = read(DrawnVideo(seen=[{1, 2, 3}], crowd=(2,)), [0])
    assert sample.crowd.tolist() == [False, True, False]


def test_instances_that_no_drawn_frame_shows_are_left_out():
    """Ids, labels and crowd lose them in step."""
    video = DrawnVideo(seen=[{1}, {3}, {2, 4}], labels={3: 2, 4: 2}, crowd=(4,))
    sample = read(video, [0, 2])
    assert sample.ids.tolist() == [1, 2, 4]
    assert sample.labels.tolist() == [0, 0, 1]
    assert sample.crowd.tolist() == [False, False, True]
    assert_masks(sample, video)


@pytest.mark.parametrize("seen", [[set(), set()], [set(), {1}]])
def test_a_frame_without_instances_is_a_sample_of_none(seen):
    """All fields are empty, and masks have the frame's size."""
    sample = read(DrawnVideo(seen=seen), [0])
    assert len(sample.ids) == len(sample.labels) == len(sample.crowd) == 0
    assert sample.masks[0].shape == (0, 12, 20)
    assert sample.boxes()[0].shape == (0, 4)


def test_masks_have_the_size_of_frames_that_are_kept_small():
    """Two by two pixels are one; it is set where two or more of them are."""
    video = DrawnVideo(seen=[{1, 2}, {2}], kept_size=(6, 10))
    sample = read(video, [0, 1])
    for frame, picture, masks in zip([0, 1], sample.frames, sample.masks, strict=True):
        assert picture.shape == (6, 10, 3)
        for track, mask in zip([1, 2], masks, strict=True):
            count = video.mask(track, frame).reshape(6, 2, 10, 2).sum(axis=(1, 3))
            np.testing.assert_array_equal(mask, count >= 2)


def test_instances_lost_by_small_frames_are_left_out():
    """What has no pixel in any kept frame is not in the clip."""
    video = DrawnVideo(seen=[{1}], size=(60, 60), kept_size=(4, 4))
    assert video.mask(1, 0).any()
    sample = read(video, [0])
    assert len(sample.ids) == len(sample.labels) == len(sample.crowd) == 0
    assert sample.masks[0].shape == (0, 4, 4)


def test_boxes_are_tight_around_the_masks():
    """End exclusive, and zeros where an instance is not seen."""
    sample = read(DrawnVideo(seen=[{3}, {5, 3}]), [0, 1])
    assert sample.boxes()[0].tolist() == [[3, 3, 7, 7], [0, 0, 0, 0]]
    assert sample.boxes()[1].tolist() == [[4, 3, 8, 7], [6, 5, 10, 9]]


# --- samples --------------------------------------------------------------------------------------


def test_a_clip_of_one_picture_says_that_it_repeats():
    """A single picture repeats nothing, and frames of a video are several."""
    video = plain_video(3)
    assert read(video, [1, 1]).repeats
    assert read(video, [2, 2, 2]).repeats
    assert not read(video, [1]).repeats
    assert not read(video, [1, 2]).repeats


def test_samples_print_shapes():
    """No pixels in logs."""
    sample = read(DrawnVideo(seen=[{1, 2}]), [0, 0])
    assert repr(sample) == "Sample('drawn-0', frames of 20x12, 20x12, 2 instances)"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frame_index": np.arange(3)}, r"frame_index: expected one per frame \(2\), got 3"),
        ({"masks": [np.zeros((1, 12, 20), bool)]}, r"masks: expected one per frame \(2\), got 1"),
        ({"valid": []}, r"valid: expected one per frame \(2\), got 0"),
        (
            {"masks": [np.zeros((1, 12, 19), bool)] * 2},
            r"masks: expected \(1, 12, 20\), got \(1, 12, 19\)",
        ),
        (
            {"masks": [np.zeros((2, 12, 20), bool)] * 2},
            r"masks: expected \(1, 12, 20\), got \(2, 12, 20\)",
        ),
    ],
)
def test_samples_refuse_fields_that_do_not_fit(fields, message):
    """Expected and got, by the field's name."""
    sample = read(plain_video(2), [0, 1])
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(sample, **fields)
