"""Key frames, memories' plans, and propagation against the plain loop of the release."""

from __future__ import annotations

import pytest
import torch

from tests.support.plain_propagation import propagate_plainly
from vis_core.models.seq_mask_rcnn.key_frames import MemoryPolicy, key_frames, remembered
from vis_core.models.seq_mask_rcnn.propagate import Start, View, propagate
from vis_core.models.seq_mask_rcnn.seq_prop import SeqPropHead

SIZE = (32, 48)


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("rule", "number", "num_frames", "expected"),
    [
        ("release", 5, 20, [0, 4, 9, 14, 19]),
        ("release", 5, 36, [0, 8, 17, 26, 35]),
        ("release", 5, 96, [0, 23, 47, 71, 95]),
        ("release", 5, 3, [0, 0, 1, 1, 2]),
        ("release", 8, 84, [0, 11, 23, 35, 47, 59, 71, 83]),
        ("release", 1, 36, [0]),
        ("release", 5, 1, [0, 0, 0, 0, 0]),
        ("paper", 6, 36, [0, 6, 12, 18, 24, 30]),
        ("paper", 4, 84, [0, 21, 42, 63]),
        ("paper", 6, 4, [0, 1, 2, 3]),
        ("paper", 1, 36, [0]),
    ],
)
def test_key_frames_are_those_of_their_rule(rule, number, num_frames, expected):
    assert key_frames(num_frames, number, rule) == expected


@pytest.mark.parametrize("num_frames", [62, 116, 123, 231])
def test_the_releases_rounding_misses_the_last_frame(num_frames):
    assert key_frames(num_frames, 8, "release")[-1] == num_frames - 2


def test_five_key_frames_always_have_the_last_frame():
    assert all(key_frames(n, 5, "release")[-1] == n - 1 for n in range(1, 2000))


def test_impossible_key_frames_are_refused():
    with pytest.raises(ValueError, match="got 0 and 5"):
        key_frames(0, 5, "paper")
    with pytest.raises(ValueError, match="'paper' or 'release'"):
        key_frames(9, 5, "other")


@pytest.mark.parametrize("settings", [{}, {"every": 1, "about": 10}, {"every": 0}])
def test_a_policy_says_one_thing(settings):
    with pytest.raises(ValueError, match="either every or about"):
        MemoryPolicy(**settings)


def test_every_frame_of_youtube_vis_is_remembered():
    step = MemoryPolicy(every=1).step(36)
    assert remembered(8, range(8, 36), step) == list(range(9, 35))
    assert remembered(8, range(8, -1, -1), step) == [7, 6, 5, 4, 3, 2, 1]
    assert remembered(35, range(35, 36), step) == remembered(0, range(0, -1, -1), step) == []


def test_every_eighth_frame_of_84_is_remembered():
    step = MemoryPolicy(about=10).step(84)
    assert step == 8 and MemoryPolicy(about=10).step(7) == 1
    assert remembered(23, range(23, 84), step) == [31, 39, 47, 55, 63, 71, 79]
    assert remembered(23, range(23, -1, -1), step) == [15, 7]


# --- propagation ----------------------------------------------------------------------------------


def varied_head(dtype=torch.float32):
    """Random weights large enough that masks depend on what is remembered."""
    head, generator = SeqPropHead(8, 8, 16).eval(), torch.Generator().manual_seed(3)
    for parameter in head.parameters():
        scale = (2 / parameter[0].numel()) ** 0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    # Where masks are nearly 1, aggregation magnifies rounding.
    head.pred2.weight.data *= 0.3
    return head.to(dtype)


def video(head, num_frames):
    """What the layers below give of each frame, and what propagation needs of it."""
    dtype = head.pred2.weight.dtype
    pictures = []
    for t in range(num_frames):
        shapes = ((1, 8, 8, 12), (1, 8, 8, 12), (1, 16, 4, 6))
        pictures.append([random(*s, seed=10 * t + n).to(dtype) - 0.5 for n, s in enumerate(shapes)])
    return pictures, [View(p2_1CHW=p[0], query=head.query(*p)) for p in pictures]


def starts_of(*frames_and_objects):
    return [
        Start(frame=frame, masks_OHW=(random(number, *SIZE, seed=100 + n) > 0.6).float())
        for n, (frame, number) in enumerate(frames_and_objects)
    ]


CASES = {
    "one key frame, first": [(0, 2)],
    "one key frame, last": [(6, 1)],
    "several": [(0, 2), (3, 1), (6, 3)],
    "out of order and twice": [(4, 1), (1, 2), (4, 2)],
    "some without objects": [(0, 0), (2, 2), (5, 0)],
    "no objects": [(0, 0)],
    "no key frames": [],
}


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_sweeps_find_what_the_plain_loop_finds(case, step, dtype, most):
    head = varied_head(dtype)
    pictures, views = video(head, 7)
    starts = starts_of(*CASES[case])
    # These masks depend on rounding a hundred times more than those of a trained head.
    expected = propagate_plainly(
        head, pictures.__getitem__, 7, starts, step, by_formula=dtype == torch.float64
    )
    found = list(propagate(head, views.__getitem__, 7, starts, step))
    assert len(found) == len(expected)
    difference = max(
        ((f.masks_OHW - expected[f.start, f.frame]).abs().max().item() for f in found), default=0.0
    )
    assert difference <= most, f"masks differ by up to {difference:.2g}"


@torch.inference_mode()
def test_what_is_remembered_matters():
    """Else the comparison with the loop would say nothing of the memories."""
    head = varied_head()
    pictures, _ = video(head, 7)
    often, seldom = (
        propagate_plainly(head, pictures.__getitem__, len(pictures), starts_of((2, 2)), step)
        for step in (1, 9)
    )
    assert (often[0, 3] - seldom[0, 3]).abs().max() == 0
    assert (often[0, 6] - seldom[0, 6]).abs().max() > 1e-3


@torch.inference_mode()
def test_frames_are_asked_for_upwards_and_then_downwards():
    """So that few frames need to be at hand at once."""
    head = varied_head()
    _, views = video(head, 6)
    asked = []

    def view(frame):
        asked.append(frame)
        return views[frame]

    for _ in propagate(head, view, 6, starts_of((1, 1), (4, 1)), 1):
        pass
    assert asked == [1, 2, 3, 4, 5, 3, 2, 1, 0]


def test_key_frames_outside_of_the_video_are_refused():
    with pytest.raises(ValueError, match=r"Start\(frame 6, 1 objects\) is outside of 6 frames"):
        next(propagate(varied_head(), [].__getitem__, 6, starts_of((6, 1)), 1))
