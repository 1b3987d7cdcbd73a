"""The feature pyramid.

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class ConvOnly(nn.Module):
    """A convolution under the name that released files give it."""

    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, padding=kernel // 2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        found: Tensor = self.conv(x_BCHW)
        return found


class Pyramid(nn.Module):
    """P2 to P6 of C2 to C5."""

    def __init__(self, channels: Sequence[int], pyramid: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(ConvOnly(number, pyramid, 1) for number in channels)
        self.fpn_convs = nn.ModuleList(ConvOnly(pyramid, pyramid, 3) for _ in channels)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        levels = [conv(x) for conv, x in zip(self.lateral_convs, features, strict=True)]
        for finer in range(len(levels) - 2, -1, -1):
            size = levels[finer].shape[-2:]
            levels[finer] = levels[finer] + functional.interpolate(levels[finer + 1], size=size)
        found = [conv(x) for conv, x in zip(self.fpn_convs, levels, strict=True)]
        return (*found, functional.max_pool2d(found[-1], 1, stride=2))
