"""The size of an IDOL network; the defaults are those of the released ResNet-50."""

from __future__ import annotations

import dataclasses
from typing import Literal

from vis_core.config import check, setting
from vis_core.models import convnext, swin

Norm = Literal["frozen", "group", "batch"]
RESNET = "resnet"
BACKBONES = (RESNET, *swin.SIZES, *convnext.SIZES)

_BLOCKS = {14: (1, 1, 1, 1), 26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_MOST, _MOST_LAYERS = 65_536, 100  # files of weights come from anybody


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IdolShape:
    """All but the number of categories, which comes from the data."""

    num_queries: int = setting(
        300,
        low=1,
        high=_MOST,
        says="The most instances of a frame. Too few lose objects in crowds.",
    )
    backbone: str = setting(
        RESNET,
        choices=BACKBONES,
        says="`resnet`, whose sizes the next five settings are, or a size of Swin (`swin_large`, …)"
        " or ConvNeXt (`convnext_large`, …).",
    )
    depth: int = setting(50, choices=tuple(_BLOCKS), says="Depth of the residual network.")
    stem_width: int = setting(
        64, low=1, high=_MOST, says="Channels of the residual network's stem."
    )
    stage_width: int = setting(
        256, low=1, high=_MOST, says="Channels at stride 4; they double with each stride."
    )
    inner_width: int = setting(
        64, low=1, high=_MOST, says="Channels inside the blocks at stride 4."
    )
    norm: Norm = setting(
        "frozen",
        says="`frozen` needs weights by others. From scratch, `batch` fits sooner than `group`,"
        " which does not mind batches of one or two.",
    )
    width: int = setting(
        256,
        low=32,
        high=_MOST,
        says="Channels of tokens and queries; the embedding has as many numbers.",
    )
    heads: int = setting(8, low=1, high=_MOST, says="Attention heads.")
    encoder_layers: int = setting(
        6,
        low=0,
        high=_MOST_LAYERS,
        says="Layers of the encoder; 0 saves the most where pictures are large and time is short.",
    )
    decoder_layers: int = setting(6, low=1, high=_MOST_LAYERS, says="Layers of the decoder.")
    ffn_width: int = setting(
        1024, low=1, high=_MOST, says="Channels inside the feed-forward layers."
    )
    points: int = setting(4, low=1, high=_MOST, says="Points sampled per head and level.")
    mask_channels: int | None = setting(
        None,
        low=1,
        high=_MOST,
        says="Channels of the features that masks are read from. Too few cannot tell neighbours"
        " apart; none: one per 32 of `width`, as released.",
    )
    dropout: float = setting(0.1, low=0, below=1, says="Dropout while training.")

    def __post_init__(self) -> None:
        check(self)
        if self.width % 32 or self.width % self.heads:
            raise ValueError(
                "width: expected a multiple of 32 (groups of its norm) and of `heads`, got"
                f" {self.width} with {self.heads} heads"
            )

    @property
    def blocks(self) -> tuple[int, ...]:
        """Residual blocks at strides 4, 8, 16, 32."""
        return _BLOCKS[self.depth]

    @property
    def mask_features(self) -> int:
        """`mask_channels`, or the released number."""
        return self.width // 32 if self.mask_channels is None else self.mask_channels


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IdolConfig(IdolShape):
    num_classes: int = setting(low=1, says="Categories, as the data names them.")
