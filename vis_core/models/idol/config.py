"""The size of an IDOL network; the defaults are those of the released ResNet-50."""

from __future__ import annotations

import dataclasses
import typing
from typing import Literal

from vis_core.models import convnext, swin

Norm = Literal["frozen", "group", "batch"]
RESNET = "resnet"
BACKBONES = (RESNET, *swin.SIZES, *convnext.SIZES)

_BLOCKS = {14: (1, 1, 1, 1), 26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_COUNTS = (
    "num_queries",
    "stem_width",
    "stage_width",
    "inner_width",
    "decoder_layers",
    "ffn_width",
    "points",
)
_MOST, _MOST_LAYERS = 65_536, 100  # files of weights come from anybody


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IdolShape:
    """All but the number of categories, which comes from the data."""

    num_queries: int = 300  # the most instances of a frame; too few lose objects in crowds
    # `resnet`, whose sizes the next five settings are, or a size of Swin (`swin_large`, …) or
    # ConvNeXt (`convnext_large`, …).
    backbone: str = RESNET
    depth: int = 50  # of the residual network: 14, 26, 50 or 101
    stem_width: int = 64  # channels of the residual network's stem
    stage_width: int = 256  # channels at stride 4; they double with each stride
    inner_width: int = 64  # channels inside the blocks at stride 4
    # `frozen` needs weights by others. From scratch, `batch` fits sooner than `group`, which does
    # not mind batches of one or two.
    norm: Norm = "frozen"
    width: int = 256  # of tokens and queries; the embedding has as many numbers
    heads: int = 8
    encoder_layers: int = 6  # 0 saves the most where pictures are large and time is short
    decoder_layers: int = 6
    ffn_width: int = 1024
    points: int = 4  # sampled per head and level
    # Of the features that masks are read from; too few cannot tell neighbours apart. None: one per
    # 32 of `width`, as released.
    mask_channels: int | None = None
    dropout: float = 0.1  # while training

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if not 1 <= getattr(self, name) <= _MOST:
                raise ValueError(f"{name}: expected 1 to {_MOST}, got {getattr(self, name)}")
        if not 0 <= self.encoder_layers <= _MOST_LAYERS or self.decoder_layers > _MOST_LAYERS:
            raise ValueError(
                f"encoder_layers and decoder_layers: expected at most {_MOST_LAYERS}, got"
                f" {self.encoder_layers} and {self.decoder_layers}"
            )
        if self.backbone not in BACKBONES:
            raise ValueError(
                f"backbone: expected one of {', '.join(BACKBONES)}, got {self.backbone!r:.80}"
            )
        if self.depth not in _BLOCKS:
            raise ValueError(f"depth: expected one of {sorted(_BLOCKS)}, got {self.depth}")
        if self.norm not in typing.get_args(Norm):
            raise ValueError(f"norm: expected frozen, group or batch, got {self.norm!r}")
        if self.width < 32 or self.width % 32 or self.heads < 1 or self.width % self.heads:
            raise ValueError(
                "width: expected a multiple of 32 (groups of its norm) and of `heads`, got"
                f" {self.width} with {self.heads} heads"
            )
        if self.mask_channels is not None and self.mask_channels < 1:
            raise ValueError(f"mask_channels: expected 1 or more, got {self.mask_channels}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: expected 0 to below 1, got {self.dropout}")

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
    num_classes: int

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"num_classes: expected 1 or more, got {self.num_classes}")
        IdolShape.__post_init__(self)
