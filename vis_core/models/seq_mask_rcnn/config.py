"""How large a Seq Mask R-CNN is, and by which rules its boxes are measured."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SeqMaskRcnnConfig:
    """The defaults are the released network with ResNet-50."""

    block: Literal["bottleneck", "basic"] = "bottleneck"  # basic: a quarter of the channels
    blocks: tuple[int, ...] = (3, 4, 6, 3)  # residual blocks at strides 4, 8, 16, 32
    width: int = 64  # channels of the stem, and inside the first blocks
    groups: int = 1  # of the 3x3 convolutions; 64 with width_per_group 4 is ResNeXt 64x4d
    width_per_group: int = 64
    # `batch`: with the statistics of a file, as released. From scratch: `live` learns them, `group`
    # needs none and learns several times as slowly, but does not mind batches of one or two.
    norm: Literal["batch", "group", "live"] = "batch"
    pyramid: int = 256  # channels of all levels and of the Seq-Prop head
    hidden: int = 1024  # of the box head
    # 0: as released, classes and boxes of a region from fully connected layers over 7 x 7 bins.
    # Else so many channels of convolutions over 14 x 14 bins come before, and classes are read from
    # their mean: small networks learn shapes so that they hardly learn otherwise.
    box_channels: int = 0
    mask_channels: int = 256
    anchor_scale: int = 8  # an anchor's side over its level's stride; too high misses small objects
    finest_roi_px: int = 56  # boxes of twice the side leave the finest level
    legacy: bool = True  # boxes with inclusive corners, as released weights need them
    # Of pictures as the network gets them; 854 x 480 for DAVIS.
    long_side_px: int = 640
    short_side_px: int = 360

    def __post_init__(self) -> None:
        for name, lowest, highest in (
            ("width", 1, 512),
            ("groups", 1, 512),
            ("width_per_group", 1, 512),
            ("pyramid", 4, 1024),
            ("hidden", 1, 8192),
            ("mask_channels", 1, 1024),
            ("box_channels", 0, 1024),
            ("anchor_scale", 1, 64),
            ("finest_roi_px", 1, 1024),
            ("long_side_px", 32, 8192),
            ("short_side_px", 32, 4096),
        ):
            if not lowest <= getattr(self, name) <= highest:
                raise ValueError(
                    f"{name}: expected {lowest} to {highest}, got {getattr(self, name)}"
                )
        if len(self.blocks) != 4 or not all(1 <= number <= 100 for number in self.blocks):
            raise ValueError(f"blocks: expected four numbers from 1 to 100, got {self.blocks}")
        if self.block not in ("bottleneck", "basic"):
            raise ValueError(f"block: expected 'bottleneck' or 'basic', got {self.block!r}")
        if self.norm not in ("batch", "group", "live"):
            raise ValueError(f"norm: expected 'batch', 'group' or 'live', got {self.norm!r}")
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
