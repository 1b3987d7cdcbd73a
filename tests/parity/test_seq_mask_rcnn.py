"""Seq Mask R-CNN against the released code of Propose-Reduce (golden fixtures)."""

from __future__ import annotations

import pytest
import torch

from tests.support.golden_networks import read_network, shapes_of
from tests.support.memories import grown
from vis_core.models.seq_mask_rcnn import RELEASED, SeqMaskRcnn, SeqMaskRcnnConfig, rois
from vis_core.models.seq_mask_rcnn.aggregate import aggregate, aggregate_logits
from vis_core.models.seq_mask_rcnn.anchors import base_anchors, grid_anchors
from vis_core.models.seq_mask_rcnn.boxes import BoxRules
from vis_core.models.seq_mask_rcnn.detect import DetectConfig, Detections
from vis_core.models.seq_mask_rcnn.files import DEAD, live_tensors, load_release
from vis_core.models.seq_mask_rcnn.heads import MASK_BINS, STDS
from vis_core.models.seq_mask_rcnn.losses import soft_iou_losses
from vis_core.models.seq_mask_rcnn.memory import Growing
from vis_core.models.seq_mask_rcnn.rpn import ProposalConfig
from vis_core.models.seq_mask_rcnn.seq_prop import SeqPropHead

LEGACY = BoxRules(True)


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.inference_mode():
        yield


# --- operators ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def operators(shared):
    return read_network(shared, "pr_legacy_ops")


@pytest.mark.parametrize("bins", [7, 14])
def test_regions_are_sampled_as_in_the_release(operators, bins):
    """All of them: the inverted one, too, since it is taken as empty."""
    found = rois.align(LEGACY, operators.inputs["feat"], operators.inputs["rois"], 8, bins)
    operators.assert_close(found, f"roi_align_{bins}")


@pytest.mark.parametrize("above", [0.3, 0.5, 0.7])
def test_suppression_keeps_what_the_release_keeps(operators, above):
    boxes = operators.inputs["nms_dets"]
    operators.assert_close(LEGACY.suppress(boxes[:, :4], boxes[:, 4], above), f"nms_keep_{above}")


@pytest.mark.parametrize("stride", [4, 8, 16, 32, 64])
def test_anchors_are_those_of_the_release(operators, stride):
    base = base_anchors(stride, 8, legacy=True)
    operators.assert_close(base, f"base_anchors_{stride}")
    operators.assert_close(grid_anchors(base, (2, 3), stride), f"grid_anchors_{stride}")


def test_levels_are_those_of_the_release(operators):
    operators.assert_close(rois.levels_of(LEGACY, operators.inputs["level_rois"], 56), "roi_level")


def test_offsets_are_those_of_the_release(operators):
    boxes, deltas = operators.inputs["coder_boxes"], operators.inputs["coder_deltas"][:, None]
    offsets = LEGACY.encode(boxes, operators.inputs["coder_gt"], STDS)
    operators.assert_close(offsets, "bbox2delta")
    found = LEGACY.decode(boxes, deltas, STDS)[:, 0]
    operators.assert_close(LEGACY.clip(found, (70, 81)), "delta2bbox")
    found = LEGACY.decode(boxes, deltas, (1.0, 1.0, 1.0, 1.0))[:, 0]
    operators.assert_close(found, "delta2bbox_unclipped_unit_std")


# --- the Seq-Prop head ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def head(shared):
    case = read_network(shared, "pr_seq_prop")
    width = case.meta["config"]["mdim"]
    network = SeqPropHead(width, width, 2 * width).eval()
    live = live_tensors({f"prop_head.{name}": value for name, value in case.weights.items()})
    network.load_state_dict({name.removeprefix("prop_head."): live[name] for name in live})
    memories = [
        network.remember(case.inputs[f"mem{t}.P2"], case.inputs[f"mem{t}.masks"]) for t in range(3)
    ]
    query = network.query(*(case.inputs[f"query_{name}"] for name in ("P2", "C2", "C3")))
    return case, network, memories, query


def test_memories_are_those_of_the_release(head):
    case, _, memories, _ = head
    for t, memory in enumerate(memories):
        for name, found in (("key", memory.keys_OMK), ("value", memory.values_OMV)):
            expected = case.outputs[f"mem{t}.{name}"]
            case.assert_close(found.transpose(1, 2).reshape(expected.shape), f"mem{t}.{name}")


def test_queries_and_what_they_read_are_those_of_the_release(head):
    case, _, (first, second, third), query = head
    case.assert_close(query.key_1KHW, "query.key")
    case.assert_close(query.value_1VHW, "query.value")
    case.assert_close(grown(first, second, third).read(query.key_1KHW), "read")


def test_masks_are_those_of_the_release(head):
    case, network, (first, second, third), query = head
    soft = network.segment(query, [grown(first, second, third)])
    case.assert_close(soft[:, None], "segment_prob")
    case.assert_close(network.segment(query, [first])[:, None], "segment_prob_one_memory")
    case.assert_close(aggregate_logits(soft)[None], "soft_agg_logit")
    case.assert_close(aggregate(soft), "soft_agg_prob")
    case.assert_close(aggregate(soft[:1]), "soft_agg_prob_single_object")
    case.assert_close(aggregate(case.inputs["agg_extreme"][:, 0]), "agg_extreme_prob")
    losses = soft_iou_losses(aggregate(soft), case.inputs["loss_target"])
    case.assert_close(losses.mean(), "loss_prop")


# --- the whole network ----------------------------------------------------------------------------

PROPOSING = ProposalConfig()
CHOOSING = DetectConfig()
SIZE = (76, 110)


@pytest.fixture(scope="module")
def whole(shared):
    case = read_network(shared, "pr_whole")
    config = SeqMaskRcnnConfig(width=6, pyramid=24, hidden=48, mask_channels=12)
    network = SeqMaskRcnn(config, 5).eval()
    load_release(network, case.weights)
    with torch.inference_mode():
        frames = [network.features(case.inputs[f"image{t}"]) for t in range(3)]
    return case, network, frames


def test_features_are_those_of_the_release(whole):
    case, _, (first, _, _) = whole
    for name, found in zip(("p2", "p3", "p4", "p5", "p6"), first.levels, strict=True):
        case.assert_close(found, name)
    case.assert_close(first.c2_BCHW, "c2")
    case.assert_close(first.c3_BCHW, "c3")


def test_proposals_are_those_of_the_release(whole):
    case, network, (first, _, _) = whole
    boxes, scores = network.proposals(first, SIZE, PROPOSING)
    case.assert_close(torch.cat([boxes, scores[:, None]], 1), "proposals")


def test_the_box_head_is_that_of_the_release(whole):
    case, network, (first, _, _) = whole
    boxes = case.outputs["proposals"][:12, :4]
    logits, offsets = network.bbox_head(network.regions(first, [boxes], 7))
    case.assert_close(logits, "first12_cls_score")
    case.assert_close(offsets.flatten(1), "first12_bbox_pred")
    case.assert_close(network.class_scores(first, case.inputs["cls_boxes"]), "cls_scores")


def test_detections_are_those_of_the_release(whole):
    case, network, (first, _, _) = whole
    found = network.detect(first, SIZE, PROPOSING, CHOOSING)
    case.assert_close(torch.cat([found.boxes_N4, found.scores_N[:, None]], 1), "det_bboxes")
    case.assert_close(found.labels_N - 1, "det_labels_0based")
    logits = network.mask_head(network.regions(first, [found.boxes_N4], MASK_BINS))
    case.assert_close(logits[:2], "mask_logits_of_first2_dets")


def test_detected_masks_are_those_of_the_release(whole):
    case, network, (first, _, _) = whole
    boxes = case.outputs["det_bboxes"]
    found = Detections(
        boxes_N4=boxes[:, :4],
        scores_N=boxes[:, 4],
        labels_N=case.outputs["det_labels_0based"] + 1,
    )
    masks = network.soft_masks(first, [found.boxes_N4], [found.labels_N], SIZE)[0] > 0.5
    differing = (masks != case.outputs["det_masks"].bool()).float().mean().item()
    assert differing <= 0.005, f"{differing:.2%} of the pixels differ"


def test_propagated_masks_are_those_of_the_release(whole):
    case, network, frames = whole
    masks = case.outputs["det_masks"][:3]
    growing = Growing(network.prop_head.remember(frames[0].levels[0], masks), len(frames))
    for t, features in enumerate(frames):
        soft = network.prop_head.segment(network.query(features), [growing.memory])
        shared_out, rounding = aggregate(soft), effect_of_rounding(soft)
        case.assert_close(shared_out, f"prop_prob_{t}", slack=rounding)
        if t:
            growing.add(network.prop_head.remember(features.levels[0], shared_out))


def effect_of_rounding(soft_OHW):
    """How far two steps of float32 in any one mask move the shares of all.

    Where several masks are nearly 1, aggregation divides by 1 - p: there its result is not known
    any better. With random weights that is so at many pixels.
    """
    expected, moved = aggregate(soft_OHW), torch.zeros_like(soft_OHW)
    for index in range(len(soft_OHW)):
        less = soft_OHW.clone()
        less[index] -= 1.2e-7
        moved += (aggregate(less) - expected).abs()
    return moved


# --- released files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("listed", "name", "num_classes"),
    [
        ("seq_mask_rcnn_r50_ytvis_c40", "resnet50", 41),
        ("seq_mask_rcnn_r101_davis_c1", "resnet101", 2),
    ],
)
def test_names_and_shapes_are_those_of_the_release(shared, listed, name, num_classes):
    with torch.device("meta"):
        network = SeqMaskRcnn(RELEASED[name], num_classes)
    mine = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    theirs = shapes_of(shared, listed)
    dead = {key for key in theirs if key.startswith(DEAD)}
    assert len(dead) == 12
    assert mine == {key: shape for key, shape in theirs.items() if key not in dead}


def test_a_released_file_is_loaded_whole_and_reported(whole):
    case, _, _ = whole
    config = SeqMaskRcnnConfig(width=6, pyramid=24, hidden=48, mask_channels=12)
    network = SeqMaskRcnn(config, 5)
    loaded = load_release(network, {f"module.{k}": v for k, v in case.weights.items()})
    assert len(loaded.kept) == len(case.weights) - 12
    assert len(loaded.unused) == 12 and all("num_batches" in name for name in loaded.reset)
