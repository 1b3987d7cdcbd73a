"""A frame's slot in the network's batch follows from the frame, and settings around come back."""

import dataclasses

import numpy as np
import pytest
import torch

from tests.support.fakes import fake_video
from vis_core.fingerprints import member_fingerprint
from vis_core.models import slots
from vis_core.models.numerics import exact
from vis_core.systems import get_system
from vis_core.types import FrameBatch
from vis_core.video.reader import FrameStream
from vis_core.video.sampling import Sampling
from vis_core.video.wire import ReadRequest


def batch(ranks, size=(2, 2)):
    ranks = np.array(ranks)
    return FrameBatch(
        video_id="v",
        frame_index=3 * ranks,
        pts_seconds=ranks / 10,
        frames=np.zeros((len(ranks), *size, 3), np.uint8),
        rank=ranks,
    )


@pytest.mark.parametrize(
    ("batches", "expected"),
    [
        ([range(6)], [[0, 1, 2, 3], [4, 5]]),
        ([range(3, 6)], [[3], [4, 5]]),
        ([[3], [4], [5, 6, 7, 8]], [[3], [4, 5, 6, 7], [8]]),
        ([[0, 2, 3, 5]], [[0, 2, 3], [5]]),  # holes leave their slots empty
        ([[0], range(9, 12)], [[0], [9, 10, 11]]),  # the first frame, pinned
        ([], []),
    ],
)
def test_frames_of_one_call_are_those_of_one_stretch_of_ranks(batches, expected):
    found = list(slots.calls(iter([batch(ranks) for ranks in batches]), 4))
    assert [[frame.rank for frame in call] for call in found] == expected
    assert all(frame.slot == frame.rank % 4 for call in found for frame in call)
    assert all(frame.frame_index == 3 * frame.rank for call in found for frame in call)


def test_frames_of_another_size_are_another_call():
    found = list(slots.calls(iter([batch([0, 1]), batch([2, 3], size=(2, 4))]), 4))
    assert [[frame.rank for frame in call] for call in found] == [[0, 1], [2, 3]]


def test_a_picture_lies_in_its_slot_and_the_others_are_filled():
    one, two = torch.ones(3, 2, 2), torch.full((3, 2, 2), 2.0)
    found = slots.filled([one, two], [1, 3], 4)
    assert [float(picture.mean()) for picture in found] == [1, 1, 1, 2]


def test_inference_is_exact_and_what_was_set_comes_back():
    """One thread, no TensorFloat, one algorithm; the caller may be training."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError), exact():
            assert torch.get_num_threads() == 1 and torch.is_inference_mode_enabled()
            assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
            assert not torch.backends.cudnn.allow_tf32
            assert not torch.backends.cuda.matmul.allow_tf32
            raise ValueError
        assert torch.get_num_threads() == 2 and not torch.is_inference_mode_enabled()
        assert torch.backends.cudnn.allow_tf32 and not torch.backends.cudnn.deterministic
        with exact(3):
            assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["flow_match", "idol", "propose_reduce"])
@pytest.mark.parametrize("setting", ["batch_size", "cpu_threads"])
def test_what_moves_the_last_digits_is_part_of_the_fingerprint(name, setting):
    system, sampling = get_system(name), dataclasses.asdict(Sampling())
    config = system.predict_config()
    other = dataclasses.replace(config, **{setting: getattr(config, setting) + 1})
    prints = {member_fingerprint(system, each, sampling, {}) for each in (config, other)}
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("sampling", "frames", "ranks"),
    [
        (Sampling(), [5, 6, 9], [5, 6, 9]),
        (Sampling(every=3), [6, 12], [2, 4]),
        (Sampling(fps=5.0), [0, 5, 10, 15], [0, 1, 2, 3]),
    ],
)
def test_ranks_count_the_frames_that_are_looked_at(sampling, frames, ranks):
    """Of the whole video, wherever the shard begins."""
    video = fake_video("v", 30)
    request = ReadRequest(video=video, start=5, stop=20, sampling=sampling, batch_size=4)
    stream = FrameStream(None, request, None)
    stream._copy(np.zeros((len(frames), 8, 8, 3), np.uint8), frames, [0.0] * len(frames))
    assert stream._batch().rank.tolist() == ranks
