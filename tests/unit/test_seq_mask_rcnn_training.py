"""Losses of Seq Mask R-CNN: who learns what, against slow references, and at the edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.roi_heads import maskrcnn_loss

from vis_core.data.sample import Sample
from vis_core.models.seq_mask_rcnn import SeqMaskRcnn, SeqMaskRcnnConfig
from vis_core.models.seq_mask_rcnn.boxes import BoxRules
from vis_core.models.seq_mask_rcnn.losses import (
    attention_losses,
    mask_losses,
    proposal_losses,
    region_losses,
)
from vis_core.models.seq_mask_rcnn.memory import Memory
from vis_core.models.seq_mask_rcnn.targets import (
    BACKGROUND,
    IGNORED,
    assign,
    inside,
    mask_targets,
)
from vis_core.models.seq_mask_rcnn.training import SeqMaskRcnnLearning, SeqMaskRcnnLosses
from vis_core.systems.propose_reduce.training import ProposeReduceModule, collate

LEGACY, MODERN = BoxRules(True), BoxRules(False)
RELEASED = SeqMaskRcnnLearning()
TERMS = {"objectness", "proposal_box", "class", "box", "mask", "propagation"}


def config(**settings):
    return SeqMaskRcnnConfig(
        block="basic",
        blocks=(1, 1, 1, 1),
        width=8,
        pyramid=16,
        hidden=32,
        mask_channels=8,
        anchor_scale=4,
        **{"norm": "group", "legacy": False, **settings},
    )


def random_boxes(number, extent, seed):
    random = np.random.default_rng(seed)
    low = random.uniform(0, 0.8 * extent, (number, 2))
    return torch.from_numpy(np.hstack([low, low + random.uniform(4, 0.4 * extent, (number, 2))]))


# --- who learns what ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_anchors_are_matched_as_torchvision_matches_them(seed):
    anchors, truth = random_boxes(300, 90, seed), random_boxes(5, 90, seed + 100)
    found = assign(MODERN, anchors, truth, positive=0.7, negative=0.3, closest=0.0)
    theirs = Matcher(0.7, 0.3, allow_low_quality_matches=True)(MODERN.iou(truth, anchors))
    forced = (found >= 0) & (MODERN.iou(truth, anchors).max(dim=0).values < 0.7)
    assert torch.equal(found[~forced], theirs[~forced]) and forced.any()
    assert (theirs[forced] >= 0).all()


def test_an_object_takes_the_anchors_closest_to_it_if_they_are_close_enough():
    anchors = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 4]])
    truth = torch.tensor([[0.0, 0, 10, 20]])
    found = assign(MODERN, anchors, truth, positive=0.7, negative=0.3, closest=0.3)
    assert found.tolist() == [0, 0, BACKGROUND, BACKGROUND]
    found = assign(MODERN, anchors, truth, positive=0.7, negative=0.3, closest=0.6)
    assert found.tolist() == [IGNORED, IGNORED, BACKGROUND, BACKGROUND]


def test_without_objects_all_is_background():
    found = assign(
        LEGACY, torch.ones(3, 4), torch.zeros(0, 4), positive=0.5, negative=0.5, closest=None
    )
    assert found.tolist() == [BACKGROUND] * 3


def test_anchors_inside_have_all_their_pixels_inside():
    boxes = torch.tensor([[0.0, 0, 9, 4], [0, 0, 10, 4], [-1, 0, 9, 4], [0, 0, 9, 5]])
    assert inside(boxes, (5, 10)).tolist() == [True, False, False, False]


@pytest.mark.parametrize("rules", [LEGACY, MODERN])
def test_mask_targets_show_the_box(rules):
    masks = torch.zeros(2, 40, 60, dtype=torch.uint8)
    masks[0, 10:30, 20:40] = 1
    masks[1, :, :30] = 1
    edge = rules.edge
    boxes = torch.tensor([[20.0, 10, 40 - edge, 30 - edge], [10, 0, 50 - edge, 40 - edge]])
    found = mask_targets(rules, masks, torch.tensor([0, 1]), boxes, 28)
    assert found[0].all()
    assert found[1, :, :14].all() and not found[1, :, 14:].any()
    assert mask_targets(rules, masks[:0], torch.zeros(0).long(), boxes[:0], 28).shape == (0, 28, 28)


# --- losses ---------------------------------------------------------------------------------------


def test_losses_are_their_formulas():
    random = torch.Generator().manual_seed(0)
    logits, offsets = (torch.randn(s, generator=random) for s in ((6,), (6, 4)))
    targets = torch.randn(6, 4, generator=random)
    objects = torch.tensor([True, False, True, True, False, False])
    objectness, boxes = proposal_losses(logits, offsets, objects, targets)
    p = logits.sigmoid()
    torch.testing.assert_close(
        objectness, -(p[objects].log().sum() + (1 - p[~objects]).log().sum())
    )
    away = (offsets - targets)[objects].abs()
    near = away < 1 / 9
    torch.testing.assert_close(boxes, torch.where(near, 4.5 * away**2, away - 1 / 18).sum())

    logits, offsets = (torch.randn(s, generator=random) for s in ((5, 3), (5, 3, 4)))
    labels, targets = torch.tensor([2, 0, 1, 0, 2]), torch.randn(5, 4, generator=random)
    classes, boxes = region_losses(logits, offsets, labels, targets)
    expected = -logits.log_softmax(1)[torch.arange(5), labels].sum()
    torch.testing.assert_close(classes, expected)
    own = torch.stack([offsets[0, 2], offsets[2, 1], offsets[4, 2]])
    expected = functional.smooth_l1_loss(own, targets[labels > 0], beta=1.0, reduction="sum")
    torch.testing.assert_close(boxes, expected)


def test_the_mask_loss_is_torchvisions():
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 4, 28, 28, generator=random)
    masks = torch.zeros(3, 50, 50)
    for index in range(3):
        masks[index, 5:30, 10 * index : 10 * index + 20] = 1
    boxes, labels = torch.tensor([[2.0, 3, 33, 30]] * 3), torch.tensor([1, 3, 2])
    soft = mask_targets(MODERN, masks.to(torch.uint8), torch.arange(3), boxes, 28)
    ours = mask_losses(logits, labels, soft).mean()
    theirs = maskrcnn_loss(logits, [boxes], [masks], [labels], [torch.arange(3)])
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.0)


def test_the_attention_loss_is_its_formula():
    random = torch.Generator().manual_seed(0)
    memory = Memory(
        keys_OMK=torch.randn(2, 12, 4, generator=random), values_OMV=torch.zeros(2, 12, 8)
    )
    query = torch.randn(1, 4, 3, 4, generator=random)
    remembered, truth = ((torch.rand(2, 48, 64, generator=random) > t).byte() for t in (0.6, 0.7))
    found = attention_losses(memory, query, remembered, truth)
    for one in range(2):
        inside, wanted = (
            masks[one].float().unflatten(1, (4, 16)).unflatten(0, (3, 16)).mean((1, 3)).flatten()
            for masks in (remembered, truth)
        )
        reads = (query[0].flatten(1).T @ memory.keys_OMK[one].T / 2).softmax(1) @ inside
        expected = -(wanted * reads.log()).sum() / wanted.sum()
        expected -= ((1 - wanted) * (1 - reads).log()).sum() / (1 - wanted).sum()
        torch.testing.assert_close(found[one], expected, rtol=1e-4, atol=1e-4)


# --- a step ---------------------------------------------------------------------------------------


def sample(seed, *, num_objects=3, shared=True, size=(64, 96)):
    """Two frames of bright boxes; in the second they have moved, or others are there."""
    random = np.random.default_rng(seed)
    frames = [random.integers(0, 60, (*size, 3)).astype(np.uint8) for _ in range(2)]
    masks = np.zeros((2, num_objects, *size), bool)
    for index in range(num_objects):
        y, x = random.integers(0, size[0] - 20), random.integers(0, size[1] - 30)
        for frame in range(2):
            if shared or index % 2 == frame:
                masks[frame, index, y : y + 16, x + 4 * frame : x + 4 * frame + 20] = True
                frames[frame][masks[frame, index]] = 120 + 15 * index
    return Sample(
        video_id=f"v{seed}",
        frame_index=np.arange(2),
        frames=frames,
        masks=list(masks),
        labels=np.arange(num_objects) % 2,
        ids=np.arange(num_objects) + 7,
        crowd=np.zeros(num_objects, bool),
    )


def module(learning=RELEASED, **settings):
    torch.manual_seed(0)
    return SeqMaskRcnnLosses(SeqMaskRcnn(config(**settings), 3), learning).train()


def means(found):
    return {name: (total / max(count, 1)).item() for name, (total, count) in found.items()}


@pytest.mark.parametrize("legacy", [True, False])
def test_every_live_parameter_learns(legacy):
    losses = module(legacy=legacy)
    found = losses(collate(config(), RELEASED, [sample(0), sample(1)])["clips"], [5, 6])
    assert found.keys() == TERMS
    assert all(count > 0 and torch.isfinite(total) for total, count in found.values())
    sum(total / count for total, count in found.values()).backward()
    without = [n for n, p in losses.network.named_parameters() if p.grad is None]
    assert without == []


def test_detected_masks_begin_a_memory_but_learn_nothing_from_it():
    losses = module()
    found = losses(collate(config(), RELEASED, [sample(0)])["clips"], [5])
    found["propagation"][0].backward()
    assert all(p.grad is None for p in losses.network.mask_head.parameters())
    assert losses.network.prop_head.enc_pos.weight.grad.abs().sum() > 0
    assert losses.network.backbone.conv1.weight.grad.abs().sum() > 0


def test_clips_of_one_frame_train_detection_alone():
    clips = [clip[:1] for clip in collate(config(), RELEASED, [sample(0), sample(1)])["clips"]]
    assert module()(clips, [5, 6]).keys() == TERMS - {"propagation"}


@pytest.mark.parametrize("objects", [{"num_objects": 0}, {"num_objects": 2, "shared": False}])
def test_clips_with_nothing_to_follow_are_no_error(objects):
    losses = module()
    found = losses(collate(config(), RELEASED, [sample(0, **objects)])["clips"], [5])
    assert found["propagation"][1] == 0 and found["propagation"][0].item() == 0
    sum(total / max(count, 1) for total, count in found.values()).backward()


def test_two_halves_of_a_batch_are_the_whole():
    torch.set_default_dtype(torch.float64)
    try:
        losses, clips = (
            module(),
            collate(config(), RELEASED, [sample(seed) for seed in range(4)])["clips"],
        )
        whole = losses(clips, [1, 2, 3, 4])
        halves = losses(clips[:2], [1, 2]), losses(clips[2:], [3, 4])
        for name in TERMS:
            total = sum(half[name][0] for half in halves)
            count = sum(half[name][1] for half in halves)
            assert count == whole[name][1], name
            torch.testing.assert_close(total, whole[name][0], rtol=1e-9, atol=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def test_at_most_five_objects_are_followed_the_same_ones_for_a_seed():
    losses, clips = module(), collate(config(), RELEASED, [sample(3, num_objects=8)])["clips"]
    first, again, other = (losses(clips, [seed])["propagation"] for seed in (1, 1, 2))
    assert first[1] <= 5
    assert torch.equal(first[0], again[0]) and not torch.equal(first[0], other[0])


def test_a_few_steps_lower_the_losses():
    losses, clips = module(), collate(config(), RELEASED, [sample(0), sample(1)])["clips"]
    optimizer = torch.optim.AdamW(losses.parameters(), lr=1e-3)
    before = means(losses(clips, [1, 2]))
    for step in range(40):
        optimizer.zero_grad()
        sum(t / max(c, 1) for t, c in losses(clips, [step, step + 1000]).values()).backward()
        torch.nn.utils.clip_grad_norm_(losses.parameters(), 5.0)
        optimizer.step()
    after = means(losses(clips, [1, 2]))
    # A box has its loss only once its region counts as an object: at first there are more of them.
    still = {name for name in TERMS - {"box"} if after[name] >= 0.95 * before[name]}
    assert not still, {name: (before[name], after[name]) for name in still}


def test_detection_may_be_learned_in_both_frames():
    clips = collate(config(), RELEASED, [sample(0), sample(1)])["clips"]
    one, both = (
        module(SeqMaskRcnnLearning(detect_in=where))(clips, [1, 2]) for where in ("first", "both")
    )
    assert both["class"][1] > 1.5 * one["class"][1]
    assert torch.equal(both["propagation"][0], one["propagation"][0])


def test_propagation_is_learned_in_full_precision():
    """In half precision it follows all objects at once, and learns nothing else."""
    losses, kinds = module(), []
    losses.network.prop_head.pred2.register_forward_hook(lambda _, __, y: kinds.append(y.dtype))
    clips = collate(config(), RELEASED, [sample(0), sample(1)])["clips"]
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(clips, [1, 2])
    assert kinds and set(kinds) == {torch.float32}
    expected = module()(clips, [1, 2])["propagation"][0]
    torch.testing.assert_close(found["propagation"][0], expected, rtol=0.02, atol=0.0)


def test_from_true_boxes_pictures_without_objects_are_no_error():
    learning = SeqMaskRcnnLearning(from_truth=True)
    clips = [clip[:1] for clip in collate(config(), RELEASED, [sample(0, num_objects=0)])["clips"]]
    found = module(learning, norm="live")(clips, [5])
    assert found.keys() == {"class", "box", "mask"}
    assert all((total.item(), count) == (0.0, 0) for total, count in found.values())


def test_what_is_read_from_is_learned_where_it_is_asked_for():
    clips = collate(config(), RELEASED, [sample(0), sample(1)])["clips"]
    losses = module(SeqMaskRcnnLearning(attention_loss=1.0))
    found = losses(clips, [1, 2])
    assert found.keys() == TERMS | {"attention"}
    total, count = found["attention"]
    assert count == found["propagation"][1] > 0
    total.backward()
    learning = {n for n, p in losses.network.prop_head.named_parameters() if p.grad is not None}
    assert {"atn_key.weight", "qry_atn_key.weight"} <= learning
    assert not any(name.startswith(("atn_value", "convFM", "pred2")) for name in learning)


def test_losses_weigh_what_the_job_says():
    learning = SeqMaskRcnnLearning(attention_loss=3.0, class_weight=2.0)
    whole = ProposeReduceModule(config(), learning, ["a", "b"])
    terms = whole(collate(config(), learning, [sample(0)]), [11])
    weights = {name: term.weight for name, term in terms.items()}
    assert weights == dict.fromkeys(TERMS, 1.0) | {"attention": 3.0, "class": 2.0}


def test_like_features_have_like_keys_before_anything_is_learned():
    """With no mask to remember, memory and query are the same."""
    head = module().network.prop_head
    p2 = torch.randn(1, 16, 16, 24)
    torch.nn.init.zeros_(head.enc_pos.bias)
    memory = head.remember(p2, torch.zeros(1, 64, 96))
    query = head.query(p2, torch.randn(1, 8, 16, 24), torch.randn(1, 16, 8, 12))
    torch.testing.assert_close(memory.keys_OMK[0], query.key_1KHW[0].flatten(1).T)


def test_live_statistics_are_learned_and_those_of_a_file_are_not():
    for norm, moves in (("live", True), ("batch", False)):
        losses = module(norm=norm)
        before = losses.network.backbone.bn1.running_mean.clone()
        losses(collate(config(), RELEASED, [sample(0)])["clips"], [1])
        assert torch.equal(before, losses.network.backbone.bn1.running_mean) != moves


def test_a_samples_losses_do_not_depend_on_its_batch():
    settings = config()
    torch.manual_seed(0)
    whole = ProposeReduceModule(settings, RELEASED, ["a", "b"]).double()
    torch.set_default_dtype(torch.float64)
    try:
        samples = [sample(seed) for seed in range(2)]
        both = whole(collate(settings, RELEASED, samples), [11, 12])
        halves = [
            whole(collate(settings, RELEASED, [one]), [seed])
            for one, seed in zip(samples, (11, 12), strict=True)
        ]
        for name in TERMS:
            total = sum(half[name].total for half in halves)
            torch.testing.assert_close(total, both[name].total, rtol=1e-9, atol=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def test_from_true_boxes_heads_learn_and_proposals_do_not():
    losses = module(SeqMaskRcnnLearning(from_truth=True, regions=8))
    clips = [clip[:1] for clip in collate(config(), RELEASED, [sample(0)])["clips"]]
    found, again, other = (losses(clips, [seed]) for seed in (1, 1, 2))
    assert found.keys() == {"class", "box", "mask"}
    assert found["class"][1] == found["mask"][1] <= 9  # all of them are objects
    assert found["box"][0] > 0  # they are off by a little
    assert torch.equal(found["box"][0], again["box"][0])
    assert not torch.equal(found["box"][0], other["box"][0])
    sum(total / count for total, count in found.values()).backward()
    assert all(p.grad is None for p in losses.network.rpn_head.parameters())
    empty = [clip[:1] for clip in collate(config(), RELEASED, [sample(0, num_objects=0)])["clips"]]
    assert losses(empty, [1])["mask"][1] == 0
