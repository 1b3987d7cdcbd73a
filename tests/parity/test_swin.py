"""The Swin Transformer gives what the original one gives, on the golden fixture."""

from __future__ import annotations

import pytest
import torch

from tests.support.golden_networks import read_network, shapes_of
from vis_core.models.idol import Idol, IdolConfig
from vis_core.models.swin import SIZES, Swin, SwinConfig, size_of


@pytest.fixture(scope="module")
def golden(shared):
    return read_network(shared, "swin_converter")


@pytest.fixture(scope="module")
def network(golden):
    """Strictly loaded; the maps of its last stages are smaller than a window, and odd."""
    config = golden.config
    network = Swin(
        SwinConfig(
            width=config["embed_dims"],
            depths=tuple(config["depths"]),
            heads=tuple(config["num_heads"]),
            window=config["window_size"],
        )
    )
    prefix = "microsoft."
    network.load_state_dict(
        {k.removeprefix(prefix): v for k, v in golden.weights.items() if k.startswith(prefix)}
    )
    return network.eval()


def test_features_are_the_original_ones(golden, network):
    with torch.no_grad():
        found = network(golden.inputs["x"])
    for stage, features in enumerate(found):
        golden.assert_close(features, f"out{stage}", rtol=1e-4, atol=1e-5)


def test_a_picture_is_looked_at_alone(golden, network):
    """Of a batch, every picture gives what it gives by itself."""
    x = golden.inputs["x"]
    with torch.no_grad():
        for one, both in zip(network(x[1:]), network(x), strict=True):
            torch.testing.assert_close(one, both[1:], rtol=1e-4, atol=1e-5)


def test_idol_with_swin_has_the_released_tensors(shared):
    with torch.device("meta"):
        network = Idol(IdolConfig(num_classes=40, backbone="swin_large"))
    mine = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert mine == shapes_of(shared, "idol_swinl_ytvis_k40")


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_recognised_by_their_tensors(name):
    with torch.device("meta"):
        tensors = Swin(SIZES[name]).state_dict()
    assert size_of(tensors) == name
    assert size_of({"layer1.0.conv1.weight": torch.zeros(1)}) is None
    del tensors["layers.3.blocks.0.attn.relative_position_bias_table"]
    assert size_of({k: v for k, v in tensors.items() if "layers.3" not in k}) is None
