"""Seq Mask R-CNN: its rules against slow references, its edges, and files that do not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision import ops
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from tests.support.memories import grown
from vis_core.errors import UsageError
from vis_core.models.seq_mask_rcnn import RELEASED, SeqMaskRcnn, SeqMaskRcnnConfig, rois
from vis_core.models.seq_mask_rcnn.aggregate import aggregate
from vis_core.models.seq_mask_rcnn.anchors import base_anchors
from vis_core.models.seq_mask_rcnn.boxes import BoxRules
from vis_core.models.seq_mask_rcnn.detect import DetectConfig, choose, paste, suppress_masks
from vis_core.models.seq_mask_rcnn.files import load_release
from vis_core.models.seq_mask_rcnn.inputs import MEAN, InputSize, normalised, padded, resized
from vis_core.models.seq_mask_rcnn.losses import soft_iou_losses
from vis_core.models.seq_mask_rcnn.memory import Growing, Memory
from vis_core.models.seq_mask_rcnn.rpn import ProposalConfig, anchors_of
from vis_core.models.seq_mask_rcnn.scores import boxes_of_masks, class_scores_of_masks
from vis_core.models.seq_mask_rcnn.seq_prop import SeqPropHead, fit_masks

LEGACY, MODERN = BoxRules(True), BoxRules(False)
TINY = SeqMaskRcnnConfig(
    block="basic",
    blocks=(1, 1, 1, 1),
    width=8,
    norm="group",
    pyramid=16,
    hidden=32,
    mask_channels=8,
)


def random(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def random_boxes(number, extent=40.0, seed=0):
    low = random(number, 2, seed=seed) * extent * 0.7
    return torch.cat([low, low + random(number, 2, seed=seed + 1) * extent * 0.3], dim=1)


# --- pictures -------------------------------------------------------------------------------------

YTVIS, DAVIS = InputSize(), InputSize(long_side_px=854, short_side_px=480)


@pytest.mark.parametrize(
    ("inputs", "size", "resized", "full"),
    [
        (YTVIS, (720, 1280), (360, 640), (384, 640)),
        (YTVIS, (360, 480), (360, 480), (384, 480)),
        (YTVIS, (240, 294), (360, 441), (384, 448)),
        (YTVIS, (300, 400), (360, 480), (384, 480)),
        (YTVIS, (1280, 720), (640, 360), (640, 384)),
        (DAVIS, (480, 854), (480, 854), (480, 864)),
    ],
)
def test_pictures_get_the_size_of_the_release(inputs, size, resized, full):
    assert inputs.resized(size) == resized
    assert padded(resized) == full


def test_a_canvas_may_be_a_pixel_smaller_than_the_picture():
    size = (720, 1281)  # times 1/2 is 640.5
    half = InputSize(long_side_px=2000, short_side_px=360)
    assert half.resized(size) == (360, 641) and half.canvas(size) == (360, 640)


def test_pictures_are_normalised_and_padded_with_the_mean_colour():
    picture = np.zeros((36, 64, 3), np.uint8)
    picture[:] = (255, 0, 103)
    found = normalised(resized(picture, InputSize(long_side_px=64, short_side_px=36)))
    assert found.shape == (3, 64, 64) and not found[:, 36:].any()
    assert found[:, :36].std(dim=(1, 2)).max() <= 1e-6
    expected = [(255 - MEAN[0]) / 58.395, -MEAN[1] / 57.12, (103 - MEAN[2]) / 57.375]
    assert found[:, 35, 63].tolist() == pytest.approx(expected, abs=1e-6)


def test_pictures_are_enlarged_too():
    found = normalised(resized(np.full((18, 32, 3), 200, np.uint8), YTVIS))
    assert found.shape == (3, 384, 640)
    assert found[0, 359, 639] > 0 and not found[:, 360:].any()


# --- boxes, anchors, regions ----------------------------------------------------------------------


@pytest.mark.parametrize("rules", [LEGACY, MODERN], ids=["legacy", "modern"])
def test_what_is_encoded_is_decoded(rules):
    boxes, targets = random_boxes(20), random_boxes(20, seed=7) + torch.tensor([0.0, 0, 1, 1])
    stds = (0.1, 0.1, 0.2, 0.2)
    boxes[:, 2:] += 5
    offsets = rules.encode(boxes, targets, stds)
    torch.testing.assert_close(rules.decode(boxes, offsets[:, None], stds)[:, 0], targets)


def naive_suppression(boxes, scores, above, edge):
    kept = []
    for index in scores.argsort(descending=True).tolist():
        if all(naive_iou(boxes[index], boxes[other], edge) <= above for other in kept):
            kept.append(index)
    return kept


def naive_iou(a, b, edge):
    width = min(a[2], b[2]) - max(a[0], b[0]) + edge
    height = min(a[3], b[3]) - max(a[1], b[1]) + edge
    shared = max(width, 0) * max(height, 0)
    areas = [(c[2] - c[0] + edge) * (c[3] - c[1] + edge) for c in (a, b)]
    return shared / (sum(areas) - shared)


@pytest.mark.parametrize("rules", [LEGACY, MODERN], ids=["legacy", "modern"])
@pytest.mark.parametrize("above", [0.1, 0.5])
def test_suppression_is_that_of_a_loop(rules, above):
    boxes, scores = random_boxes(60), random(60, seed=3)
    expected = naive_suppression(boxes.tolist(), scores, above, rules.edge)
    assert rules.suppress(boxes, scores, above).tolist() == expected


def test_an_overlap_of_exactly_the_threshold_stays():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4]])
    assert naive_iou(*boxes.tolist(), 1) == 0.5
    assert LEGACY.suppress(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0, 1]
    assert LEGACY.suppress(boxes, torch.tensor([0.9, 0.8]), 0.499).tolist() == [0]


@pytest.mark.parametrize(
    ("stride", "expected"),
    [
        (4, [(-21, -9, 24, 12), (-14, -14, 17, 17), (-9, -21, 12, 24)]),
        (64, [(-330, -149, 393, 212), (-224, -224, 287, 287), (-149, -330, 212, 393)]),
    ],
)
def test_legacy_anchors_lie_at_the_middle_of_the_first_place(stride, expected):
    assert base_anchors(stride, 8, legacy=True).tolist() == [list(map(float, e)) for e in expected]


def test_modern_anchors_are_torchvisions():
    levels = [torch.zeros(1, 4, 64 // s, 96 // s) for s in (1, 2, 4, 8, 16)]
    image = ImageList(torch.zeros(1, 3, 256, 384), [(256, 384)])
    sizes = tuple((4 * stride,) for stride in (4, 8, 16, 32, 64))
    (expected,) = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5)(image, levels)
    assert torch.equal(torch.cat(anchors_of(levels, 4, legacy=False)), expected)


def naive_align(feature_HW, box, scale, bins):
    """Four samples per bin, at their places; outside by more than a pixel is nothing."""
    x1, y1 = box[0] * scale, box[1] * scale
    step_x = max((box[2] + 1) * scale - x1, 0) / bins
    step_y = max((box[3] + 1) * scale - y1, 0) / bins
    found = torch.zeros(bins, bins)
    for row in range(bins):
        for column in range(bins):
            found[row, column] = sum(
                naive_sample(feature_HW, y1 + (row + dy) * step_y, x1 + (column + dx) * step_x) / 4
                for dy in (0.25, 0.75)
                for dx in (0.25, 0.75)
            )
    return found


def naive_sample(feature_HW, y, x):
    height, width = feature_HW.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    down, right = min(top + 1, height - 1), min(left + 1, width - 1)
    fy, fx = y - top, x - left
    above = feature_HW[top, left] * (1 - fx) + feature_HW[top, right] * fx
    below = feature_HW[down, left] * (1 - fx) + feature_HW[down, right] * fx
    return float(above * (1 - fy) + below * fy)


def test_legacy_regions_are_those_of_a_loop():
    feature = random(9, 11)
    boxes = [(3.0, 2, 30, 31), (-6, -9, 50, 41), (10, 10, 10, 10), (20, 20, 12, 9)]
    found = rois.align(LEGACY, feature[None, None], rois.rois_of([torch.tensor(boxes)]), 4, 3)
    for index, box in enumerate(boxes):
        torch.testing.assert_close(found[index, 0], naive_align(feature, box, 0.25, 3))


def test_modern_regions_are_torchvisions():
    feature, boxes = random(1, 2, 16, 20), random_boxes(6, extent=60)
    expected = ops.roi_align(feature, [boxes], 7, 1 / 4, sampling_ratio=2, aligned=True)
    torch.testing.assert_close(rois.align(MODERN, feature, rois.rois_of([boxes]), 4, 7), expected)


def test_regions_come_from_the_image_and_the_level_of_their_size():
    image = torch.arange(2.0)[:, None, None, None]
    levels = [image + torch.full((2, 1, 128 >> n, 128 >> n), 10.0 * n) for n in range(4)]
    sides = [5, 60, 113, 230, 460]
    boxes = torch.tensor([[0.0, 0, side, side] for side in sides])
    found = rois.pool(MODERN, levels, rois.rois_of([boxes, boxes]), 1, 56).flatten()
    assert found.tolist() == [0, 0, 10, 20, 30, 1, 1, 11, 21, 31]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [(LEGACY, [[0, 1, 4, 5], [6, 0, 9, 1]]), (MODERN, [[0, 1, 5, 6], [6, 0, 10, 2]])],
    ids=["legacy", "modern"],
)
def test_boxes_of_masks_grow_by_a_pixel_inside_the_image(rules, expected):
    masks = torch.zeros(2, 8, 10, dtype=torch.bool)
    masks[0, 2:5, 0:4] = True
    masks[1, 0, 7:10] = True
    assert boxes_of_masks(rules, masks).tolist() == expected


# --- the Seq-Prop head ----------------------------------------------------------------------------


def test_one_object_alone_is_sharpened():
    soft = random(1, 5, 7) * 0.98 + 0.01
    expected = soft**2 / (soft**2 + (1 - soft) ** 2)
    torch.testing.assert_close(aggregate(soft), expected)


@pytest.mark.parametrize("number", [1, 2, 5, 10])
def test_no_two_objects_have_half_of_a_pixel(number):
    shares = aggregate(random(number, 40, 40).round(decimals=1))
    assert shares.sum(dim=0).max() <= 1 + 1e-6
    assert (shares > 0.5).sum(dim=0).max() <= 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_certain_masks_of_half_precision_are_aggregated(dtype):
    soft = torch.tensor([[[1.0, 1, 0]], [[0.0, 1, 0]]])
    assert torch.equal(aggregate(soft.to(dtype)), aggregate(soft))
    assert aggregate(soft).isfinite().all()


def test_no_objects_are_aggregated_to_none():
    assert aggregate(torch.zeros(0, 4, 6)).shape == (0, 4, 6)


def memories(number=3, objects=2):
    return [
        Memory.of(random(objects, 4, 3, 5, seed=n) * 6, random(objects, 16, 3, 5, seed=n + 50))
        for n in range(number)
    ]


def test_a_memory_grows_and_leaves_its_beginning_alone():
    first, second, third = memories()
    one, other = Growing(first, 3), Growing(first, 2)
    one.add(second)
    other.add(third)
    for growing, later in ((one, second), (other, third)):
        expected = torch.cat([first.keys_OMK, later.keys_OMK], dim=1)
        assert torch.equal(growing.memory.keys_OMK, expected)
        expected = torch.cat([first.values_OMV, later.values_OMV], dim=1)
        assert torch.equal(growing.memory.values_OMV, expected)


def test_reading_is_a_mean_weighted_by_likeness():
    first, second, third = memories()
    query = random(1, 4, 3, 5, seed=99) * 6
    memory = grown(first, second, third)
    found = memory.read(query)
    for index in range(2):
        likeness = memory.keys_OMK[index] @ query[0].flatten(1) / math.sqrt(4)
        expected = memory.values_OMV[index].T @ likeness.softmax(dim=0)
        torch.testing.assert_close(found[index].flatten(1), expected)


def test_the_order_of_memories_does_not_matter():
    first, second, third = memories()
    query = random(1, 4, 3, 5, seed=99)
    found = grown(first, second, third).read(query)
    torch.testing.assert_close(grown(third, first, second).read(query), found)


def test_memories_are_split_by_objects():
    (memory,) = memories(1, objects=5)
    one, four = memory.split([1, 4])
    assert (len(one), len(four)) == (1, 4)
    assert torch.equal(four.keys_OMK, memory.keys_OMK[1:])


@torch.inference_mode()
def test_masks_have_the_padded_size_and_none_stay_none():
    head = SeqPropHead(8, 6, 10)
    p2, c2, c3 = random(1, 8, 96, 160), random(1, 6, 96, 160), random(1, 10, 48, 80)
    query = head.query(p2, c2, c3)
    assert query.key_1KHW.shape == (1, 2, 24, 40)
    some = head.remember(p2, torch.ones(2, 360, 640))
    none = head.remember(p2, torch.ones(0, 360, 640))
    assert some.values_OMV.shape == (2, 960, 8)
    assert head.segment(query, [some]).shape == (2, 384, 640)
    assert head.segment(query, [none]).shape == (0, 384, 640)
    assert len(head.segment(query, [none, some])) == 2


@torch.inference_mode()
def test_objects_of_several_memories_are_found_as_each_alone():
    head = SeqPropHead(8, 8, 16)
    p2, c2, c3 = random(1, 8, 16, 16), random(1, 8, 16, 16), random(1, 16, 8, 8)
    query = head.query(p2, c2, c3)
    short = head.remember(p2, random(2, 64, 64))
    long = head.remember(p2, random(1, 64, 64, seed=1))
    long = grown(long, long, head.remember(p2, random(1, 64, 64, seed=2)))
    together = head.segment(query, [short, long])
    alone = torch.cat([head.segment(query, [memory]) for memory in (short, long)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(5, 6), (8, 8), (9, 8), (8, 9)])
def test_masks_are_fitted_to_the_padded_image(size):
    masks = random(2, *size)
    found = fit_masks(masks, (8, 8))
    assert found.shape == (2, 8, 8)
    height, width = min(size[0], 8), min(size[1], 8)
    assert torch.equal(found[:, :height, :width], masks[:, :height, :width])
    assert found.sum() == pytest.approx(masks[:, :8, :8].sum().item())


def test_masks_much_larger_than_the_image_are_refused():
    with pytest.raises(ValueError, match="at most 8 x 8 pixels, got 10 x 8"):
        fit_masks(torch.zeros(1, 10, 8), (8, 8))


def test_the_soft_iou_loss_does_not_know_sizes():
    truth = torch.zeros(3, 40, 40)
    truth[0, :2, :2] = truth[1, :30, :30] = truth[2, :5] = 1
    assert soft_iou_losses(truth, truth).abs().max() <= 1e-6
    torch.testing.assert_close(soft_iou_losses(truth / 2, truth), torch.full((3,), 0.5))
    assert torch.equal(soft_iou_losses(1 - truth, truth), torch.ones(3))


# --- detection ------------------------------------------------------------------------------------


def scattered(number):
    """Boxes that do not overlap."""
    corners = torch.arange(number)[:, None] * torch.tensor([20.0, 0, 20, 0])
    return corners + torch.tensor([0.0, 0, 9, 9])


def detections(labels, scores, most=10):
    scores_NK = torch.zeros(len(labels), 4)
    scores_NK[torch.arange(len(labels)), torch.tensor(labels)] = torch.tensor(scores)
    boxes_NK4 = scattered(len(labels))[:, None].expand(-1, 4, -1)
    return choose(LEGACY, DetectConfig(most=most), boxes_NK4, scores_NK)


def test_few_objects_are_in_order_of_their_class():
    found = detections([3, 1, 2, 1], [0.9, 0.5, 0.8, 0.6])
    assert found.labels_N.tolist() == [1, 1, 2, 3]
    assert found.scores_N.tolist() == pytest.approx([0.6, 0.5, 0.8, 0.9])


def test_more_objects_than_allowed_are_in_order_of_their_score():
    found = detections([3, 1, 2, 1], [0.9, 0.5, 0.8, 0.6], most=3)
    assert found.labels_N.tolist() == [3, 2, 1]


def test_the_background_and_doubtful_objects_are_none():
    found = detections([0, 1, 2], [0.9, 0.2, 0.1])
    assert len(found) == 0 and found.boxes_N4.shape == (0, 4)


def bars(*ranges):
    masks = torch.zeros(len(ranges), 1, 100, dtype=torch.bool)
    for mask, (start, stop) in zip(masks, ranges, strict=True):
        mask[:, start:stop] = True
    return masks


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([(0, 10), (10, 20)], [0, 1]),
        ([(0, 30), (25, 55), (50, 80)], [0, 1, 2]),
        ([(0, 30), (10, 40), (30, 60)], [0, 2]),  # the second would have removed the third
        ([(10, 40), (0, 30), (30, 60)], [0]),  # another order, another result
        ([(0, 6), (4, 10)], [0]),  # an IoU of exactly 0.2
        ([(0, 0), (5, 5)], [0, 1]),  # both empty
        ([], []),
    ],
)
def test_masks_go_that_overlap_an_earlier_one(ranges, expected):
    assert suppress_masks(bars(*ranges), 0.2).tolist() == expected


@pytest.mark.parametrize("rules", [LEGACY, MODERN], ids=["legacy", "modern"])
def test_masks_are_pasted_into_their_boxes(rules):
    boxes = torch.tensor([[2.0, 3, 7, 8], [-3, -2, 3, 4]])
    found = paste(rules, torch.ones(2, 28, 28), boxes, (10, 12)) > 0.5
    assert found[0, 4:8, 3:7].all() and not found[0, :2].any() and not found[0, :, 9:].any()
    assert found[1, :4, :3].all() and not found[1, 6:].any()


def test_legacy_masks_fill_their_last_pixels():
    found = (
        paste(LEGACY, torch.ones(1, 28, 28), torch.tensor([[2.9, 3.0, 7.9, 8.2]]), (10, 12)) > 0.5
    )
    expected = torch.zeros(1, 10, 12, dtype=torch.bool)
    expected[:, 3:9, 2:8] = True
    assert torch.equal(found, expected)


@pytest.mark.parametrize("legacy", [True, False])
@torch.inference_mode()
def test_a_tiny_network_finds_objects_and_follows_them(legacy):
    torch.manual_seed(0)
    config = SeqMaskRcnnConfig(
        **{name: getattr(TINY, name) for name in TINY.__slots__ if name != "legacy"}, legacy=legacy
    )
    network = SeqMaskRcnn(config, 3).eval()
    features = network.features(random(1, 3, 64, 96))
    assert features.padded_size == (64, 96)
    eager = DetectConfig(score=0.01)
    masks = network.objects(features, (60, 90), (60, 90), ProposalConfig(), eager)
    assert masks.shape[1:] == (60, 90) and 1 <= len(masks) <= 10
    memory = network.prop_head.remember(features.levels[0], masks)
    soft = aggregate(network.prop_head.segment(network.query(features), [memory]))
    assert soft.shape == (len(masks), 64, 96)
    shown = soft >= 0
    shown[0] = False
    visible, scores = class_scores_of_masks(network, features, shown)
    assert visible.tolist() == [False] + [True] * (len(masks) - 1)
    torch.testing.assert_close(scores.sum(dim=1), visible.float())
    assert class_scores_of_masks(network, features, shown[:0])[1].shape == (0, 3)
    assert not class_scores_of_masks(network, features, shown[:1])[1].any()


def test_batch_statistics_are_never_learned():
    network = SeqMaskRcnn(SeqMaskRcnnConfig(width=4, blocks=(1, 1, 1, 1), pyramid=8), 2).train()
    before = network.backbone.bn1.running_mean.clone()
    network.features(random(1, 3, 32, 32))
    assert torch.equal(network.backbone.bn1.running_mean, before)
    assert network.rpn_head.training


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "num_classes", "tensors", "parameters"),
    [
        ("resnet50", 41, 434, 68_995_824),
        ("resnet101", 41, 740, 87_987_952),
        ("resnext101_64x4d", 41, 740, 126_894_064),
        ("resnet101", 2, 740, 87_768_031),
        ("resnext101_64x4d", 2, 740, 126_674_143),
    ],
)
def test_released_networks_are_as_large_as_they_should_be(name, num_classes, tensors, parameters):
    with torch.device("meta"):
        network = SeqMaskRcnn(RELEASED[name], num_classes)
    assert len(network.state_dict()) == tensors - 12
    dead = sum(p.numel() for p in network.mask_head.parameters())  # its copy, which we leave out
    assert sum(p.numel() for p in network.parameters()) == parameters - dead


def tiny_file(**changes):
    torch.manual_seed(1)
    tensors = {f"module.{k}": v for k, v in SeqMaskRcnn(TINY, 3).state_dict().items()}
    tensors["module.prop_head.upsample.bias"] = torch.zeros(8)
    return {**tensors, **changes}


def test_a_file_fills_the_network_and_the_dead_copy_is_reported():
    network, file = SeqMaskRcnn(TINY, 3), tiny_file()
    loaded = load_release(network, file)
    assert loaded.unused == ["module.prop_head.upsample.bias"] and not loaded.reset
    assert len(loaded.kept) == len(file) - 1
    assert all(torch.equal(v, file[f"module.{k}"]) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"module.mask_head.upsample.bias": torch.zeros(9)}, r"upsample.bias \(\(9,\) in the file"),
        ({"module.roi_head.fc.weight": torch.zeros(1)}, "no place in the network: roi_head.fc"),
        ({"neck.fpn_convs.0.conv.bias": torch.zeros(16)}, "the same tensors twice"),
    ],
    ids=["another shape", "another network", "twice"],
)
def test_a_file_that_does_not_fit_is_refused(changes, message):
    with pytest.raises(UsageError, match=message):
        load_release(SeqMaskRcnn(TINY, 3), tiny_file(**changes))


def test_a_file_that_lacks_a_tensor_is_refused():
    file = tiny_file()
    del file["module.rpn_head.rpn_cls.bias"]
    with pytest.raises(UsageError, match=r"rpn_cls.bias \(not in the file\)"):
        load_release(SeqMaskRcnn(TINY, 3), file)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": (3, 4, 6)}, "expected four numbers"),
        ({"pyramid": 0}, "pyramid: expected 4 to 1024, got 0"),
        ({"block": "basic", "groups": 2}, "has no groups"),
        ({"norm": "group", "width": 12}, "multiple of 8"),
        ({"norm": "layer"}, "expected one of batch, group, live"),
        ({"pyramid": 18}, "multiple of 4"),
    ],
)
def test_settings_that_make_no_network_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SeqMaskRcnnConfig(**settings)
