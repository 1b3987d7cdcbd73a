"""IDOL's backbones: what they give, what they start from, and that each of them learns."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import convnext_tiny
from torchvision.models.convnext import CNBlockConfig, ConvNeXt

from vis_core.errors import UsageError
from vis_core.models import convnext, swin
from vis_core.models.convnext import ConvNext, from_facebook
from vis_core.models.idol import Idol, IdolConfig
from vis_core.models.idol.backbone import channels_of, make_backbone, pretrained
from vis_core.models.idol.config import BACKBONES
from vis_core.models.idol.files import from_weights
from vis_core.models.idol.network import renamed
from vis_core.models.swin import Swin
from vis_core.models.weights import Weights, load_into

PREFIX = "detr.detr.backbone.0.backbone."


def small(**changes):
    values = {"num_classes": 3, "num_queries": 8, "width": 32, "encoder_layers": 1}
    values |= {"decoder_layers": 2, "ffn_width": 32, "dropout": 0.0}
    return IdolConfig(**values, **changes)


@pytest.mark.parametrize("name", ["swin_micro", "convnext_micro"])
def test_features_are_at_four_strides(name):
    torch.manual_seed(0)
    backbone = make_backbone(small(backbone=name)).eval()
    with torch.no_grad():
        found = backbone(torch.randn(2, 3, 96, 160))
    assert [tuple(x.shape) for x in found] == [
        (2, channels, 96 // stride, 160 // stride)
        for channels, stride in zip(channels_of(small(backbone=name)), (4, 8, 16, 32), strict=True)
    ]
    for x in found:  # of a norm that does nothing yet
        assert x.mean(1).abs().max() < 1e-4 and (x.std(1) - 1).abs().max() < 0.1


@pytest.mark.parametrize("name", ["swin_micro", "convnext_micro"])
def test_everything_but_the_norm_nobody_looks_at_learns(name):
    torch.manual_seed(0)
    network = Idol(small(backbone=name))
    picture = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)
    tokens = network.tokens([picture.float()])
    tokens.memory_BSC.square().sum().backward()
    still = {
        parameter
        for parameter, values in network.detr.detr.backbone.named_parameters()
        if values.requires_grad and values.grad is None
    }
    frozen = {k for k, v in network.named_parameters() if not v.requires_grad}
    assert not still
    assert frozen == {f"{PREFIX}norm0.weight", f"{PREFIX}norm0.bias"}


def test_an_unknown_backbone_is_named():
    with pytest.raises(
        ValueError, match=r"backbone: expected one of resnet, swin_micro, .* got 'vit'"
    ):
        small(backbone="vit")
    assert {"swin_large", "convnext_large"} < set(BACKBONES)


# --- files of backbones ---------------------------------------------------------------------------


def test_convnext_is_torchvisions_with_its_weights():
    torch.manual_seed(0)
    theirs = convnext_tiny(weights=None).eval()
    mine = ConvNext(convnext.SIZES["convnext_tiny"]).eval()
    tensors = pretrained(theirs.state_dict())
    missing = mine.load_state_dict(tensors, strict=False)
    assert missing.unexpected_keys == []
    assert set(missing.missing_keys) == {
        f"norm{i}.{k}" for i in range(4) for k in ("weight", "bias")
    }
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = mine.norm3(theirs.features(x))
        torch.testing.assert_close(mine(x)[3], expected)


def test_facebooks_names_are_torchvisions():
    """Both ways: every tensor of a ConvNeXt has a name there, and gets its own place back."""
    torch.manual_seed(0)
    theirs = ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 2)]).features.state_dict()
    layers = {"0": "dwconv", "2": "norm", "3": "pwconv1", "5": "pwconv2"}
    facebook = {}
    for name, tensor in theirs.items():
        place, *rest = name.split(".")
        stage, is_stage = int(place) // 2, int(place) % 2
        if not is_stage:
            facebook[f"downsample_layers.{stage}.{'.'.join(rest)}"] = tensor
        elif rest[1] == "layer_scale":
            facebook[f"stages.{stage}.{rest[0]}.gamma"] = tensor.flatten()
        else:
            facebook[f"stages.{stage}.{rest[0]}.{layers[rest[2]]}.{rest[3]}"] = tensor
    facebook |= {"norm.weight": torch.zeros(16), "head.bias": torch.zeros(21841)}
    found = from_facebook(facebook)
    assert found.keys() == {f"features.{name}" for name in theirs}
    assert all(torch.equal(found[f"features.{name}"], tensor) for name, tensor in theirs.items())


def test_a_swin_of_microsoft_starts_idol():
    """Its classifier is left out, and the norms of outputs begin anew, since it has none."""
    torch.manual_seed(0)
    file = Swin(swin.SIZES["swin_micro"]).state_dict()
    file = {name: tensor for name, tensor in file.items() if not name.startswith("norm")}
    extra = {"norm.weight": torch.ones(192), "head.weight": torch.ones(1000, 192)}
    extra |= {"layers.0.blocks.1.attn_mask": torch.zeros(4, 36, 36)}
    network = Idol(small(backbone="swin_micro"))
    report = load_into(
        network, renamed(file | extra), reset=["*.backbone.norm?.*"], take=["*backbone*"]
    )
    assert len(report.kept) == len(file) and report.unused == []
    for name, tensor in file.items():
        assert torch.equal(network.state_dict()[PREFIX + name], tensor)


def test_files_of_whole_networks_keep_their_names():
    tensors = {PREFIX + "stem.conv1.weight": torch.zeros(1)}
    assert renamed(tensors) == tensors


def test_without_take_a_backbone_is_not_enough():
    network = Idol(small(backbone="swin_micro"))
    file = Swin(swin.SIZES["swin_micro"]).state_dict()
    with pytest.raises(UsageError, match=r"not in the file.*what the file is for under `take`"):
        load_into(network, renamed(file), reset=[])
    with pytest.raises(UsageError, match="take: no tensor is called like 'backbone'"):
        load_into(network, renamed(file), reset=[], take=["backbone"])


def test_a_released_swin_is_recognised():
    torch.manual_seed(0)
    whole = Idol(IdolConfig(num_classes=2, backbone="swin_micro"))
    network, settings = from_weights(Weights(tensors=whole.state_dict(), about=None), "x.pth")
    assert settings.backbone == "swin_micro"
    assert all(
        torch.equal(tensor, network.state_dict()[name])
        for name, tensor in whole.state_dict().items()
    )
