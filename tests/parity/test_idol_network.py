"""IDOL's network gives what the released one gives, on the golden fixtures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.golden import read_case
from tests.support.golden_networks import GoldenNetwork, read_network, shapes_of
from vis_core.models.idol import Idol, IdolConfig, losses
from vis_core.models.idol.mask_head import MaskFeatures, aligned_double, dynamic_masks
from vis_core.models.idol.matching import Match, contrast_sets, costs, match_queries
from vis_core.models.idol.mlp import Mlp
from vis_core.models.idol.network import batch_of, convert
from vis_core.models.idol.position import level_paddings, pixel_centres, sine_embedding
from vis_core.models.idol.selection import MIN_SCORE, select_queries
from vis_core.models.idol.transformer import Transformer

LEVELS = range(4)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def of_prefix(tensors, prefix):
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def loaded(module: nn.Module, weights, prefix="") -> nn.Module:
    module.load_state_dict(of_prefix(weights, prefix))
    return module.eval()


# --- parts ----------------------------------------------------------------------------------------


@pytest.fixture
def transformer(shared) -> GoldenNetwork:
    return read_network(shared, "idol_transformer")


def paddings_of(golden: GoldenNetwork) -> list[torch.Tensor]:
    sizes = [tuple(size) for size in golden.config["level_sizes"]]
    return level_paddings(golden.inputs["pixel_mask"].bool(), sizes)


def test_positions_are_the_released_ones(transformer):
    for level, padding in zip(LEVELS, paddings_of(transformer), strict=True):
        assert torch.equal(padding, transformer.outputs[f"mask{level}"].bool())
        transformer.assert_close(sine_embedding(padding, 64), f"pos{level}")


def test_the_transformer_is_the_released_one(transformer):
    config = IdolConfig(
        num_classes=1, width=64, encoder_layers=2, decoder_layers=2, ffn_width=96, num_queries=20
    )
    module = loaded(Transformer(config), transformer.weights)
    levels = [transformer.inputs[f"src{level}"] for level in LEVELS]
    decoded = module(levels, paddings_of(transformer), transformer.inputs["query_embed"])
    tokens = decoded.tokens
    transformer.assert_close(tokens.ratios_BL2, "valid_ratios")
    transformer.assert_close(
        pixel_centres(tokens.sizes, tokens.ratios_BL2), "encoder_reference_points"
    )
    transformer.assert_close(tokens.memory_BSC, "memory")
    transformer.assert_close(decoded.references[0], "init_reference")
    transformer.assert_close(torch.stack(decoded.references[1:]), "inter_references")
    transformer.assert_close(torch.stack(decoded.hidden), "hs")


def test_dynamic_masks_are_the_released_ones(shared):
    golden = read_network(shared, "idol_dynamic_mask")
    numbers = golden.config["num_insts"]
    parameters = golden.inputs["params"][0].split(numbers)
    centres = golden.inputs["reference_points_px"][0].split(numbers)
    masks = [
        dynamic_masks(*of_one)
        for of_one in zip(golden.inputs["mask_feats"], parameters, centres, strict=True)
    ]
    golden.assert_close(torch.cat(masks)[None], "mask_logits")


def test_upsampling_is_the_released_one(shared):
    golden = read_network(shared, "idol_dynamic_mask")
    x = golden.inputs["aligned_x"]
    golden.assert_close(aligned_double(x.flatten(0, 1)).unflatten(0, x.shape[:2]), "aligned_x2")


@pytest.mark.parametrize(
    ("prefix", "name"),
    [("controller.", "controller"), ("reid_embed_head.", "reid"), ("bbox.", "bbox_delta")],
)
def test_heads_are_the_released_ones(shared, prefix, name):
    golden = read_network(shared, "idol_heads")
    head = loaded(Mlp(96, golden.outputs[name].shape[-1]), golden.weights, prefix)
    golden.assert_close(head(golden.inputs["hs"]), name)


def test_mask_features_are_the_released_ones(shared):
    golden = read_network(shared, "idol_heads")
    module = loaded(MaskFeatures(96, 3), golden.weights, "mask_head.")
    levels = [golden.inputs[f"level{level}"] for level in range(3)]
    golden.assert_close(module(*levels), "mask_features")


# --- the whole network ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(shared) -> GoldenNetwork:
    return read_network(shared, "idol_whole")


@pytest.fixture(scope="module")
def network(whole) -> Idol:
    config = IdolConfig(
        num_classes=5,
        num_queries=100,
        stem_width=8,
        stage_width=16,
        inner_width=4,
        width=64,
        encoder_layers=2,
        decoder_layers=3,
        ffn_width=96,
    )
    network = Idol(config)
    report = convert(network, whole.weights)
    assert not report.reset and not report.unused, report.lines()
    return network.eval()


def test_the_backbone_is_the_released_one(whole, network):
    images, _ = batch_of(list(whole.inputs["clip_uint8_rgb"]))
    features = network.detr.detr.backbone[0].backbone(images)
    for name, level in zip(("res3", "res4", "res5"), features[1:], strict=True):
        whole.assert_close(level, f"clip.{name}")


def test_the_network_is_the_released_one(whole, network):
    clip = list(whole.inputs["clip_uint8_rgb"])
    decoded = network(clip)
    whole.assert_close(network.class_logits(decoded), "clip.pred_logits")
    whole.assert_close(network.boxes(decoded), "clip.pred_boxes")
    whole.assert_close(network.embeddings(decoded.hidden[-1]), "clip.pred_inst_embed")
    features = network.mask_features(decoded)
    first = torch.arange(12)
    masks = network.masks(decoded, features, [(90, 119)] * 2, [first, first])
    whole.assert_close(torch.stack(masks)[:, :, None], "clip.pred_masks", rtol=1e-3, atol=5e-2)


@pytest.mark.parametrize(
    ("name", "classes"), [("idol_r50_ytvis_k40", 40), ("idol_r50_ovis_k25", 25)]
)
def test_names_and_shapes_are_those_of_released_checkpoints(shared, name, classes):
    with torch.device("meta"):
        network = Idol(IdolConfig(num_classes=classes))
    found = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    assert found == shapes_of(shared, name)


# --- matching -------------------------------------------------------------------------------------


def expected_of(golden: GoldenNetwork, case: int, name: str) -> torch.Tensor:
    """What is intended where the release does something else by mistake."""
    intended = f"c{case}.intended.{name}"
    return golden.outputs.get(intended, golden.outputs[f"c{case}.{name}"])


@pytest.mark.parametrize("case", range(7))
def test_queries_are_matched_as_released(shared, case):
    golden = read_network(shared, "idol_matching")
    given = of_prefix(golden.inputs, f"c{case}.")
    scores, truth = given["logits"].sigmoid(), (given["gt_boxes"], given["gt_labels"])
    if len(given["gt_labels"]):
        cost, iou = costs(scores, given["boxes"], *truth)
        golden.assert_close(cost, f"c{case}.cost", rtol=1e-4, atol=1e-4)
        golden.assert_close(iou, f"c{case}.iou", rtol=1e-4, atol=1e-5)
    match = match_queries(scores, given["boxes"], *truth)
    selected = torch.where(expected_of(golden, case, "selected"))[0]
    assert match.queries_N.tolist() == selected.tolist()
    assert match.objects_N.tolist() == expected_of(golden, case, "gt_index").tolist()
    assert match.best_G.tolist() == expected_of(golden, case, "matched_qid").tolist()


@pytest.mark.parametrize("case", range(5))
def test_contrast_sets_are_the_released_ones(shared, case):
    golden = read_network(shared, "idol_posneg")
    given = of_prefix(golden.inputs, f"c{case}.")
    positive, negative = contrast_sets(
        given["ref_prob"],
        given["ref_boxes"],
        given["gt_boxes"],
        given["gt_labels"],
        given["valid"].bool(),
    )
    assert torch.equal(positive, expected_of(golden, case, "positive").bool())
    assert torch.equal(negative, expected_of(golden, case, "negative").bool())


# --- losses ---------------------------------------------------------------------------------------

KEYS = (0, 2)  # of the pictures key, reference, key, reference


def matches_of(whole: GoldenNetwork, network: Idol, decoded, layer: int) -> list[Match]:
    scores, boxes = network.class_logits(decoded, layer).sigmoid(), network.boxes(decoded, layer)
    out = whole.outputs
    return [
        match_queries(
            scores[picture],
            boxes[picture],
            out[f"train.target.key{pair}.boxes"],
            out[f"train.target.key{pair}.labels"],
        )
        for pair, picture in enumerate(KEYS)
    ]


def layer_losses(whole: GoldenNetwork, network: Idol, decoded, layer: int) -> dict[str, float]:
    """The five losses of a decoder layer, over the matched queries of both key pictures."""
    matches = matches_of(whole, network, decoded, layer)
    logits, boxes = network.class_logits(decoded, layer), network.boxes(decoded, layer)
    images = [whole.inputs[f"train.{picture}.image_uint8_rgb"] for picture in range(4)]
    chosen = [torch.zeros(0, dtype=torch.long)] * 4
    for picture, match in zip(KEYS, matches, strict=True):
        chosen[picture] = match.queries_N
    sizes = [tuple(image.shape[-2:]) for image in images]
    masks = network.masks(decoded, network.mask_features(decoded), sizes, chosen, layer)
    names = ("loss_ce", "loss_bbox", "loss_giou", "loss_mask", "loss_dice")
    total = torch.zeros(5)
    for pair, (picture, match) in enumerate(zip(KEYS, matches, strict=True)):
        target = of_prefix(whole.outputs, f"train.target.key{pair}.")
        here = whole.inputs[f"train.{picture}.ids"] != -1
        truth = losses.mask_truth(whole.inputs[f"train.{picture}.masks"][here], (96, 128))
        queries, objects = match.queries_N, match.objects_N
        total += torch.stack(
            [
                losses.class_loss(logits[picture], queries, target["labels"][objects]),
                *losses.box_losses(boxes[picture, queries], target["boxes"][objects]),
                *losses.mask_losses(masks[picture], truth[objects]),
            ]
        )
    number = sum(len(match.queries_N) for match in matches)
    return dict(zip(names, total / number, strict=True))


@pytest.fixture(scope="module")
def trained(whole, network):
    with torch.no_grad():
        return network([whole.inputs[f"train.{picture}.image_uint8_rgb"] for picture in range(4)])


@pytest.mark.parametrize("layer", range(3))
def test_losses_of_every_layer_are_the_released_ones(whole, network, trained, layer):
    suffix = "" if layer == 2 else f"_{layer}"
    for name, value in layer_losses(whole, network, trained, layer).items():
        whole.assert_close(value, f"train.loss.{name}{suffix}")


def test_contrastive_losses_are_the_released_ones(whole, network, trained):
    """The negatives that the release drew are part of the fixture."""
    out, found = whole.outputs, []
    scores = network.class_logits(trained).sigmoid()
    embeddings = network.embeddings(trained.hidden[-1])
    for pair, match in enumerate(matches_of(whole, network, trained, 2)):
        key, other = KEYS[pair], KEYS[pair] + 1
        target = of_prefix(out, f"train.target.ref{pair}.")
        valid = target["valid"].bool()
        sets = contrast_sets(
            scores[other],
            trained.references[-1][other],
            target["boxes"],
            target["labels"],
            valid,
        )
        for g in torch.where(valid)[0].tolist():
            anchor = embeddings[key, match.best_G[g]]
            positives, negatives = (embeddings[other][of_set[g]] for of_set in sets)
            drawn = negatives[out[f"train.contrast.{len(found)}.aux_negative_choice"]]
            contrast = losses.contrast_loss(anchor, positives, negatives)
            found.append((contrast, losses.cosine_loss(anchor, positives, drawn)))
    assert len(found) == 3
    contrast, cosine = torch.tensor(found).mean(0)
    whole.assert_close(contrast, "train.loss.loss_reid")
    whole.assert_close(cosine, "train.loss.loss_reid_aux")


def test_weights_of_losses_are_the_released_ones(whole):
    expected = whole.config["weight_dict"]
    assert {name: expected[name] for name in losses.WEIGHTS} == losses.WEIGHTS


# --- selection ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["ovis_crowd", "ytvis_low", "ytvis_plain", "ytvis_ties"])
def test_the_released_queries_pass_in_the_released_order(shared, case):
    """Where none passes and several are equally good, any of these may be the release's."""
    golden = read_case(shared, "idol", case)
    raw = {
        name: torch.from_numpy(values).float()
        for name, values in np.load(golden.folder / "raw.npz").items()
    }
    for row in golden.predictions:
        scores = raw["pred_logits"][row.frame_index].sigmoid()
        chosen = select_queries(scores, raw["pred_boxes"][row.frame_index])
        expected = torch.tensor(np.array(row.class_scores))
        if expected.max() <= MIN_SCORE:
            assert len(chosen) == len(expected) == 1
            torch.testing.assert_close(scores[chosen].max(), expected.max())
        else:
            torch.testing.assert_close(scores[chosen], expected)
