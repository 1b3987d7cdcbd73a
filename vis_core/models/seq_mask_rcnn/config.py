"""How large a Seq Mask R-CNN is, and by which rules its boxes are measured."""

from __future__ import annotations

import dataclasses
from typing import Literal

from vis_core.config import check, setting


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SeqMaskRcnnConfig:
    """The defaults are the released network with ResNet-50."""

    block: Literal["bottleneck", "basic"] = setting(
        "bottleneck", says="Kind of residual block; basic has a quarter of the channels."
    )
    blocks: tuple[int, ...] = setting(
        (3, 4, 6, 3), low=1, high=100, says="Residual blocks at strides 4, 8, 16, 32."
    )
    width: int = setting(
        64, low=1, high=512, says="Channels of the stem, and inside the first blocks."
    )
    groups: int = setting(
        1,
        low=1,
        high=512,
        says="Groups of the 3x3 convolutions; 64 with width_per_group 4 is ResNeXt 64x4d.",
    )
    width_per_group: int = setting(64, low=1, high=512, says="Channels of a group.")
    norm: Literal["batch", "group", "live"] = setting(
        "batch",
        says="`batch`: with the statistics of a file, as released. From scratch: `live` learns"
        " them, `group` needs none and learns several times as slowly, but does not mind batches of"
        " one or two.",
    )
    pyramid: int = setting(
        256, low=4, high=1024, says="Channels of all levels and of the Seq-Prop head."
    )
    hidden: int = setting(1024, low=1, high=8192, says="Width of the box head.")
    box_channels: int = setting(
        0,
        low=0,
        high=1024,
        says="0, as released: classes and boxes of a region come from fully connected layers over"
        " 7 x 7 bins. Else so many channels of convolutions over 14 x 14 bins come before, and"
        " classes are read from their mean: small networks hardly learn shapes otherwise.",
    )
    mask_channels: int = setting(256, low=1, high=1024, says="Channels of the mask head.")
    anchor_scale: int = setting(
        8,
        low=1,
        high=64,
        says="An anchor's side over its level's stride. Too high misses small objects.",
    )
    finest_roi_px: int = setting(
        56, low=1, high=1024, says="Boxes of twice this side leave the finest level."
    )
    legacy: bool = setting(
        True, says="Measure boxes with inclusive corners, as released weights need them."
    )
    long_side_px: int = setting(
        640,
        low=32,
        high=8192,
        says="Longest side of pictures as the network gets them; 854 for DAVIS.",
    )
    short_side_px: int = setting(
        360, low=32, high=4096, says="Longest short side of those pictures; 480 for DAVIS."
    )

    def __post_init__(self) -> None:
        check(self)
        if len(self.blocks) != 4:
            raise ValueError(f"blocks: expected four numbers, got {self.blocks}")
        if self.block == "basic" and (self.groups, self.width_per_group) != (1, 64):
            raise ValueError("block 'basic' has no groups: leave groups and width_per_group alone")
        if self.pyramid % 4:
            raise ValueError(f"pyramid: expected a multiple of 4, got {self.pyramid}")
        if self.norm == "group" and self.width % 8:
            raise ValueError(f"width: expected a multiple of 8 for norm 'group', got {self.width}")


# The released networks.
RELEASED = {
    "resnet50": SeqMaskRcnnConfig(),
    "resnet101": SeqMaskRcnnConfig(blocks=(3, 4, 23, 3)),
    "resnext101_64x4d": SeqMaskRcnnConfig(blocks=(3, 4, 23, 3), groups=64, width_per_group=4),
}
