"""ConvNeXts of torchvision, as backbones: a norm of its own on each of four outputs.

Shapes: B pictures, C channels, H x W a level's places.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig, ConvNeXt, LayerNorm2d

# A layer of a block in Facebook's files, and its place in torchvision's.
_IN_BLOCK = {"dwconv": "block.0", "norm": "block.2", "pwconv1": "block.3", "pwconv2": "block.5"}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ConvNextConfig:
    width: int  # channels at stride 4; they double with each stride
    depths: tuple[int, ...]  # blocks at strides 4, 8, 16, 32
    drop_path: float = 0.0  # how often the last block is left out while training; the first never
    layer_scale: float = 1e-6  # of what a block adds, at first

    @property
    def channels(self) -> list[int]:
        return [self.width << stage for stage in range(len(self.depths))]


SIZES = {
    "convnext_micro": ConvNextConfig(width=24, depths=(1, 1, 2, 1), layer_scale=0.1),
    "convnext_tiny": ConvNextConfig(width=96, depths=(3, 3, 9, 3), drop_path=0.1),
    "convnext_small": ConvNextConfig(width=96, depths=(3, 3, 27, 3), drop_path=0.4),
    "convnext_base": ConvNextConfig(width=128, depths=(3, 3, 27, 3), drop_path=0.5),
    "convnext_large": ConvNextConfig(width=192, depths=(3, 3, 27, 3), drop_path=0.5),
}


class ConvNext(nn.Module):
    """Pictures to features (B, C, H, W) at strides 4, 8, 16 and 32."""

    def __init__(self, config: ConvNextConfig) -> None:
        super().__init__()
        settings = [
            CNBlockConfig(width, 2 * width if stage < len(config.depths) - 1 else None, depth)
            for stage, (width, depth) in enumerate(zip(config.channels, config.depths, strict=True))
        ]
        whole = ConvNeXt(settings, config.drop_path, config.layer_scale)
        self.features = whole.features  # the stem, then stages with what makes them smaller between
        for stage, width in enumerate(config.channels):
            self.add_module(f"norm{stage}", LayerNorm2d(width, eps=1e-6))

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        x_BCHW, found = images_B3HW, []
        for place, part in enumerate(self.features):
            x_BCHW = part(x_BCHW)
            if place % 2:
                found.append(self.get_submodule(f"norm{place // 2}")(x_BCHW))
        return found


def from_facebook(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of Facebook's files, such as those of ImageNet-22k, by torchvision's names."""
    found = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"downsample_layers\.(\d)\.(\d)\.(weight|bias)", name):
            stage, layer, what = match.groups()
            found[f"features.{2 * int(stage)}.{layer}.{what}"] = tensor
        elif match := re.fullmatch(r"stages\.(\d)\.(\d+)\.(\w+)\.(weight|bias)", name):
            stage, block, layer, what = match.groups()
            found[f"features.{2 * int(stage) + 1}.{block}.{_IN_BLOCK[layer]}.{what}"] = tensor
        elif match := re.fullmatch(r"stages\.(\d)\.(\d+)\.gamma", name):
            stage, block = match.groups()
            scale = tensor[:, None, None]
            found[f"features.{2 * int(stage) + 1}.{block}.layer_scale"] = scale
    return found
