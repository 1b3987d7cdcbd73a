"""Where tokens are: padding of every level, sine embeddings, reference points.

Shape letters: B pictures, C channels, H and W the picture, h and w a level, L levels, S tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.models.idol.attention import Size

_TEMPERATURE = 10000


def padding_of(sizes: Sequence[Size], padded: Size, device: torch.device) -> Tensor:
    """True where a picture of the batch ends before the batch does: (B, H, W)."""
    padding_BHW = torch.ones(len(sizes), *padded, dtype=torch.bool, device=device)
    for padding_HW, (height, width) in zip(padding_BHW, sizes, strict=True):
        padding_HW[:height, :width] = False
    return padding_BHW


def level_paddings(padding_BHW: Tensor, sizes: Sequence[Size]) -> list[Tensor]:
    """The padding at each level. As released, the last level's is that of the first, made smaller;
    it differs from the picture's own for odd sizes only."""
    paddings = [shrunk(padding_BHW, size) for size in sizes[:-1]]
    return [*paddings, shrunk(paddings[0], sizes[-1])]


def shrunk(mask_BHW: Tensor, size: Size) -> Tensor:
    """The nearest pixels of a mask."""
    return F.interpolate(mask_BHW[:, None].float(), size=size)[:, 0].bool()


def sine_embedding(padding_Bhw: Tensor, channels: int) -> Tensor:
    """Sines of y, then of x, each counted within the picture: (B, C, h, w)."""
    inside = (~padding_Bhw).float()
    return torch.cat([_sines(inside, axis, channels // 2) for axis in (1, 2)], -1).permute(
        0, 3, 1, 2
    )


def _sines(inside_Bhw: Tensor, axis: int, channels: int) -> Tensor:
    count = inside_Bhw.cumsum(axis)
    last = count.narrow(axis, count.shape[axis] - 1, 1)
    share = (count - 0.5) / (last + 1e-6) * (2 * math.pi)
    exponent = torch.arange(channels, device=share.device).div(2, rounding_mode="floor") * 2
    phase = share[..., None] / _TEMPERATURE ** (exponent.float() / channels)
    return torch.stack([phase[..., 0::2].sin(), phase[..., 1::2].cos()], -1).flatten(-2)


def valid_ratios(paddings: Sequence[Tensor]) -> Tensor:
    """The share of each level that a picture fills, as (width, height): (B, L, 2)."""
    ratios = [
        torch.stack([(~mask[:, 0]).float().mean(-1), (~mask[:, :, 0]).float().mean(-1)], -1)
        for mask in paddings
    ]
    return torch.stack(ratios, 1)


def pixel_centres(sizes: Sequence[Size], ratios_BL2: Tensor) -> Tensor:
    """Every token's place in every level: (B, S, L, 2)."""
    places = []
    for level, (height, width) in enumerate(sizes):
        y = torch.arange(height, device=ratios_BL2.device) + 0.5
        x = torch.arange(width, device=ratios_BL2.device) + 0.5
        grid_S2 = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)
        filled_B12 = ratios_BL2[:, level, None] * grid_S2.new_tensor([width, height])
        places.append(grid_S2 / filled_B12)
    return torch.cat(places, 1)[:, :, None] * ratios_BL2[:, None]
