"""A network of IDOL small enough for a test, with random weights or made to see something."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from vis_core.config import as_values
from vis_core.models.idol import Idol
from vis_core.models.idol.settings import IdolSettings
from vis_core.models.weights import About, to_bytes
from vis_core.types import Category

SMALL = IdolSettings(
    num_queries=20,
    depth=14,
    stem_width=8,
    stage_width=16,
    inner_width=8,
    norm="group",
    width=32,
    heads=4,
    points=2,
    encoder_layers=1,
    decoder_layers=2,
    ffn_width=48,
    mask_channels=4,
    dropout=0.0,
    short_side_px=64,
)
CATEGORIES = [
    Category(label=label, name=name, source="idol") for label, name in ((1, "disc"), (2, "star"))
]


def random_network(settings: IdolSettings = SMALL, seed: int = 0) -> Idol:
    """Its scores and masks vary enough for several instances in a frame."""
    torch.manual_seed(seed)
    network = Idol(settings.config(len(CATEGORIES))).eval()
    with torch.no_grad():
        for head in network.detr.detr.class_embed:
            head.weight.mul_(8)
            head.bias.fill_(-1)
    return network


def write_weights(file: Path, network: Idol | None = None, **changes: object) -> Path:
    """A file as `reelmask train` writes it."""
    about = About(recipe="idol", settings=as_values(SMALL), categories=CATEGORIES)
    file.write_bytes(to_bytes(network or random_network(), dataclasses.replace(about, **changes)))
    return file
