"""IDOL's network: what it starts from, what it can load, what does not depend on the batch."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torchvision.models import resnet50

from vis_core.errors import UsageError
from vis_core.models import weights
from vis_core.models.idol import Idol, IdolConfig, losses
from vis_core.models.idol.attention import DeformableAttention, sample_levels
from vis_core.models.idol.backbone import ResNet, from_torchvision
from vis_core.models.idol.mask_head import aligned_double, num_parameters
from vis_core.models.idol.network import convert
from vis_core.models.idol.selection import select_queries

TINY = IdolConfig(
    num_classes=3,
    num_queries=7,
    depth=26,
    stem_width=8,
    stage_width=16,
    inner_width=8,
    norm="group",
    width=32,
    encoder_layers=1,
    decoder_layers=2,
    ffn_width=48,
)


@pytest.fixture
def network() -> Idol:
    torch.manual_seed(0)
    return Idol(TINY)


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=random, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"depth": 34}, "depth"),
        ({"norm": "layer"}, "norm"),
        ({"width": 48}, "width"),
        ({"heads": 5}, "width"),
        ({"decoder_layers": 0}, "decoder_layers"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_a_wrong_setting_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **wrong)


def test_it_starts_with_rare_classes_and_small_boxes(network):
    heads = network.detr.detr
    assert heads.class_embed[0].bias.sigmoid().tolist() == pytest.approx([0.01] * 3)
    assert heads.bbox_embed[0].layers[2].bias.tolist() == [0, 0, -2, -2]
    assert heads.bbox_embed[1].layers[2].bias.tolist() == [0, 0, 0, 0]


def test_class_heads_are_separate_and_box_heads_the_decoders_own(network):
    heads = network.detr.detr
    assert heads.class_embed[0].weight is not heads.class_embed[1].weight
    assert heads.bbox_embed is heads.transformer.decoder.bbox_embed


def test_a_mask_network_has_169_numbers_at_full_width():
    assert (num_parameters(8), num_parameters(2)) == (169, 121)


def test_upsampling_keeps_even_pixels():
    doubled = aligned_double(torch.tensor([[[0.0, 1.0], [2.0, 3.0]]]))
    expected = [[0, 0, 0.5, 1], [0, 0, 0.5, 1], [1, 1, 1.5, 2], [2, 2, 2.5, 3]]
    assert doubled[0].tolist() == expected


def test_sampling_is_the_mean_of_four_pixels_between_them_and_zero_outside():
    values = torch.arange(4.0).view(1, 4, 1, 1)
    places = torch.tensor([[0.5, 0.5], [3.0, 3.0]]).view(1, 2, 1, 1, 1, 2)
    found = sample_levels(values, [(2, 2)], places, torch.ones(1, 2, 1, 1, 1))
    assert found.flatten().tolist() == [1.5, 0.0]


def test_attention_does_not_see_padding():
    torch.manual_seed(0)
    attention = DeformableAttention(16, levels=1, heads=8, points=2)
    queries, tokens = torch.randn(1, 3, 16), torch.randn(1, 6, 16)
    references = torch.rand(1, 3, 1, 2)
    padding = torch.tensor([[False, False, True, False, False, True]])
    changed = tokens.clone()
    changed[padding] = 100.0
    first, second = (
        attention(queries, references, values, padding, [(2, 3)]) for values in (tokens, changed)
    )
    assert torch.equal(first, second)


def test_the_backbone_is_torchvisions_with_its_weights():
    torch.manual_seed(0)
    theirs = resnet50(weights=None).eval()
    mine = ResNet(IdolConfig(num_classes=1)).eval()
    mine.load_state_dict(from_torchvision(theirs.state_dict()))
    x = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        expected = theirs.layer2(theirs.layer1(expected))
        torch.testing.assert_close(mine(x)[1], expected, rtol=1e-4, atol=1e-4)


def test_stem_and_first_stage_are_frozen_with_their_norms_only(network):
    frozen = ResNet(dataclasses.replace(TINY, norm="frozen"))
    still = {name.split(".")[0] for name, p in frozen.named_parameters() if not p.requires_grad}
    assert still == {"stem", "res2"}
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_picture_gives_the_same_in_a_larger_batch(network):
    """But for the coarsest level's padding, for which the sizes here are even."""
    network.eval()
    small, large = picture(64, 64, seed=1), picture(64, 128, seed=2)
    with torch.no_grad():
        alone, beside = network([large]), network([large, small])
    torch.testing.assert_close(network.boxes(beside)[:1], network.boxes(alone))
    torch.testing.assert_close(network.class_logits(beside)[:1], network.class_logits(alone))


def test_masks_are_computed_for_the_chosen_queries_alone(network):
    network.eval()
    with torch.no_grad():
        decoded = network([picture(60, 90), picture(64, 96)])
        features = network.mask_features(decoded)
        sizes = [(60, 90), (64, 96)]
        every = network.masks(decoded, features, sizes, [torch.arange(7)] * 2)
        chosen = [torch.tensor([4, 1]), torch.tensor([], dtype=torch.long)]
        some = network.masks(decoded, features, sizes, chosen)
    assert [tuple(masks.shape) for masks in some] == [(2, 16, 24), (0, 16, 24)]
    torch.testing.assert_close(some[0], every[0][[4, 1]])


def test_half_precision_moves_boxes_little_and_masks_are_computed_in_full(network):
    network.eval()
    with torch.no_grad():
        full = network([picture(64, 96)])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = network([picture(64, 96)])
            boxes, features = network.boxes(half), network.mask_features(half)
            masks = network.masks(half, features, [(64, 96)], [torch.arange(7)])
    assert masks[0].dtype == torch.float32
    torch.testing.assert_close(boxes.float(), network.boxes(full), rtol=0, atol=0.02)


def test_every_parameter_learns_from_the_outputs(network):
    decoded = network([picture(128, 128)])
    masks = network.masks(decoded, network.mask_features(decoded), [(128, 128)], [torch.arange(7)])
    total = masks[0].sum() + network.embeddings(decoded.hidden[-1]).sum()
    for layer in range(2):
        total = total + network.class_logits(decoded, layer).sum()
        total = total + network.boxes(decoded, layer).sum()
    total.backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_weights_of_other_classes_are_refused_unless_their_heads_begin_anew(network):
    other = Idol(dataclasses.replace(TINY, num_classes=5))
    with pytest.raises(UsageError, match=r"class_embed.*reset"):
        convert(other, network.state_dict())
    report = convert(other, network.state_dict(), ["detr.detr.class_embed.*"])
    assert len(report.reset) == 4 and not report.unused
    assert torch.equal(other.detr.detr.query_embed.weight, network.detr.detr.query_embed.weight)


def test_box_heads_that_differ_under_their_two_names_are_refused(network):
    tensors = dict(network.state_dict())
    name = "detr.detr.transformer.decoder.bbox_embed.0.layers.0.weight"
    tensors[name] = tensors[name] + 1
    with pytest.raises(UsageError, match="two names"):
        convert(network, tensors)


def test_a_file_of_ours_holds_the_network(network, tmp_path):
    file = tmp_path / "tiny.safetensors"
    about = weights.About(recipe="idol", settings={}, categories=[])
    file.write_bytes(weights.to_bytes(network, about))
    other = Idol(TINY)
    report = convert(other, weights.read_weights(str(file)).tensors)
    assert len(report.kept) == len(network.state_dict())
    assert all(
        torch.equal(mine, theirs)
        for mine, theirs in zip(
            other.state_dict().values(), network.state_dict().values(), strict=True
        )
    )


# --- selection ------------------------------------------------------------------------------------


def boxes(*rows: tuple[float, float]) -> torch.Tensor:
    """Boxes of half the picture around these centres."""
    return torch.tensor([[x, y, 0.5, 0.5] for x, y in rows])


def test_queries_above_the_score_pass_best_first():
    scores = torch.tensor([[0.2, 0.1], [0.05, 0.04], [0.1, 0.9], [0.1, 0.0]])
    found = select_queries(scores, boxes((0.2, 0.2), (0.5, 0.5), (0.8, 0.8), (0.2, 0.8)))
    assert found.tolist() == [2, 0]


def test_the_best_query_stays_when_none_passes():
    scores = torch.tensor([[0.02, 0.01], [0.01, 0.03]])
    assert select_queries(scores, boxes((0.5, 0.5), (0.5, 0.5))).tolist() == [1]


def test_boxes_suppress_each_other_within_a_class_only():
    scores = torch.tensor([[0.8, 0.0], [0.9, 0.0], [0.0, 0.7]])
    assert select_queries(scores, boxes(*[(0.5, 0.5)] * 3)).tolist() == [1, 2]


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("positives", "negatives", "drawn"), [(0, 30, 10), (2, 30, 20), (3, 30, 30), (5, 30, 30)]
)
def test_ten_negatives_are_drawn_for_each_positive(positives, negatives, drawn):
    chosen = losses.drawn_negatives(positives, negatives, torch.Generator().manual_seed(1))
    assert len(set(chosen.tolist())) == drawn


def test_losses_of_a_picture_without_objects_are_zero_and_have_gradients():
    logits = torch.zeros(0, 4, 4, requires_grad=True)
    boxes = torch.zeros(0, 4, requires_grad=True)
    found = [
        *losses.mask_losses(logits, torch.zeros(0, 4, 4, dtype=torch.bool)),
        *losses.box_losses(boxes, torch.zeros(0, 4)),
    ]
    assert [loss.item() for loss in found] == [0, 0, 0, 0]
    sum(found).backward()


def test_masks_of_the_truth_are_read_at_the_middle_of_each_cell():
    masks = torch.zeros(1, 6, 6, dtype=torch.bool)
    masks[0, 2, 2] = True
    truth = losses.mask_truth(masks, (32, 32))
    assert tuple(truth.shape) == (1, 8, 8)
    assert truth.nonzero().tolist() == [[0, 0, 0]]
