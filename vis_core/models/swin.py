"""Swin Transformers: windows of a picture attend to themselves, every other time shifted by half.

Tensors are named as in Microsoft's and detectron2's files. Unlike torchvision's, windows are
shifted also where a level is smaller than one, as in the networks that were trained so.

Shapes: B pictures, C channels, H x W a level's places, W windows of S x S, N = S * S, h heads.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

_PATCH = 4  # pixels of a side
_APART = -100.0  # added to a similarity: as good as never
_STAGES = 4
_BLOCK = re.compile(r"layers\.(\d+)\.blocks\.(\d+)\.")
_INIT = 0.02  # deviation of weights


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SwinConfig:
    width: int  # channels at stride 4; they double with each stride
    depths: tuple[int, ...]  # blocks at strides 4, 8, 16, 32
    heads: tuple[int, ...]  # likewise
    window: int  # places of a side
    drop_path: float = 0.0  # how often the last block is left out while training; the first never

    @property
    def channels(self) -> list[int]:
        return [self.width << stage for stage in range(len(self.depths))]


SIZES = {
    "swin_micro": SwinConfig(width=24, depths=(1, 1, 2, 1), heads=(1, 2, 4, 8), window=6),
    "swin_tiny": SwinConfig(
        width=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), window=7, drop_path=0.2
    ),
    "swin_small": SwinConfig(
        width=96, depths=(2, 2, 18, 2), heads=(3, 6, 12, 24), window=7, drop_path=0.3
    ),
    "swin_base": SwinConfig(
        width=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), window=12, drop_path=0.3
    ),
    "swin_large": SwinConfig(
        width=192, depths=(2, 2, 18, 2), heads=(6, 12, 24, 48), window=12, drop_path=0.3
    ),
}


class Swin(nn.Module):
    """Pictures to features (B, C, H, W) at strides 4, 8, 16 and 32, each with a norm of its own."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.patch_embed = _PatchEmbed(config.width)
        number = sum(config.depths)
        rates = [config.drop_path * block / max(number - 1, 1) for block in range(number)]
        starts = [0, *itertools.accumulate(config.depths)]
        self.layers = nn.ModuleList()
        for stage, (width, heads) in enumerate(zip(config.channels, config.heads, strict=True)):
            own = rates[starts[stage] : starts[stage + 1]]
            last = stage == len(config.depths) - 1
            self.layers.append(_Stage(width, heads, config.window, own, merges=not last))
            self.add_module(f"norm{stage}", nn.LayerNorm(width))
        self.apply(_begin)

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        x_BHWC = self.patch_embed(images_B3HW)
        found = []
        for stage, layer in enumerate(self.layers):
            done_BHWC, x_BHWC = layer(x_BHWC)
            normed_BHWC = self.get_submodule(f"norm{stage}")(done_BHWC)
            found.append(normed_BHWC.permute(0, 3, 1, 2).contiguous())
        return found


def size_of(tensors: Mapping[str, Tensor]) -> str | None:
    """Which of `SIZES` a file's tensors are for; none: none of them."""
    patch = tensors.get("patch_embed.proj.weight")
    tables = [value for name, value in tensors.items() if name.endswith("position_bias_table")]
    if patch is None or not tables:
        return None
    places = {match.groups() for name in tensors if (match := _BLOCK.match(name))}
    depths = tuple(sum(stage == str(own) for stage, _ in places) for own in range(_STAGES))
    window = (math.isqrt(len(tables[0])) + 1) // 2
    for name, size in SIZES.items():
        if (size.width, size.depths, size.window) == (len(patch), depths, window):
            return name
    return None


class _PatchEmbed(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, _PATCH, stride=_PATCH)
        self.norm = nn.LayerNorm(width)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        x_BCHW = self.proj(_padded(images_B3HW, _PATCH, (-2, -1)))
        normed: Tensor = self.norm(x_BCHW.permute(0, 2, 3, 1))
        return normed


class _Stage(nn.Module):
    def __init__(
        self, width: int, heads: int, window: int, rates: list[float], *, merges: bool
    ) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(
            _Block(width, heads, window, window // 2 if number % 2 else 0, rate)
            for number, rate in enumerate(rates)
        )
        self.downsample = _PatchMerging(width) if merges else None

    def forward(self, x_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        """The features of this stage, and the next one's input."""
        apart_WNN = _apart(x_BHWC, self.window)
        for block in self.blocks:
            x_BHWC = block(x_BHWC, apart_WNN)
        return x_BHWC, x_BHWC if self.downsample is None else self.downsample(x_BHWC)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, window: int, shift: int, rate: float) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = _WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = _Mlp(width)
        self.drop_path = StochasticDepth(rate, "row")

    def forward(self, x_BHWC: Tensor, apart_WNN: Tensor) -> Tensor:
        height, width = x_BHWC.shape[1:3]
        shift, window = self.shift, self.window
        y_BHWC = _padded(self.norm1(x_BHWC), window, (1, 2))
        if shift:
            y_BHWC = y_BHWC.roll((-shift, -shift), (1, 2))
        size = y_BHWC.shape[1:3]
        y_BWNC = self.attn(_windows(y_BHWC, window), apart_WNN if shift else None)
        y_BHWC = _together(y_BWNC, window, (size[0], size[1]))
        if shift:
            y_BHWC = y_BHWC.roll((shift, shift), (1, 2))
        x_BHWC = x_BHWC + self.drop_path(y_BHWC[:, :height, :width])
        found: Tensor = x_BHWC + self.drop_path(self.mlp(self.norm2(x_BHWC)))
        return found


class _WindowAttention(nn.Module):
    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=_INIT)
        self.register_buffer("relative_position_index", _relative(window))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x_BWNC: Tensor, apart_WNN: Tensor | None) -> Tensor:
        qkv_3BWhNc = self.qkv(x_BWNC).unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)
        bias_hNN = self.relative_position_bias_table[self.get_buffer("relative_position_index")]
        bias_hNN = bias_hNN.permute(2, 0, 1).to(qkv_3BWhNc)
        added = bias_hNN if apart_WNN is None else bias_hNN + apart_WNN[:, None].to(bias_hNN)
        queries, keys, values = qkv_3BWhNc.unbind(0)
        read_BWhNc = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=added)
        found: Tensor = self.proj(read_BWhNc.transpose(2, 3).flatten(3))
        return found


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        found: Tensor = self.fc2(functional.gelu(self.fc1(x_BHWC)))
        return found


class _PatchMerging(nn.Module):
    """Two by two places become one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BHWC = _padded(x_BHWC, 2, (1, 2))
        corners = [x_BHWC[:, y::2, x::2] for x in (0, 1) for y in (0, 1)]
        found: Tensor = self.reduction(self.norm(torch.cat(corners, dim=-1)))
        return found


def _padded(x: Tensor, multiple: int, axes: tuple[int, int]) -> Tensor:
    """Zeros below and to the right, up to a multiple."""
    missing = [-x.shape[axis] % multiple for axis in axes]
    if not any(missing):
        return x
    behind = 0 if axes[1] == -1 else x.dim() - 1 - axes[1]
    return functional.pad(x, (0, 0) * behind + (0, missing[1], 0, missing[0]))


def _windows(x_BHWC: Tensor, side: int) -> Tensor:
    """(B, W, N, C)"""
    parts = x_BHWC.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return parts.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _together(x_BWNC: Tensor, side: int, size: tuple[int, int]) -> Tensor:
    """The (B, H, W, C) that such windows were made of."""
    parts = x_BWNC.unflatten(2, (side, side)).unflatten(1, (size[0] // side, size[1] // side))
    return parts.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _apart(x_BHWC: Tensor, window: int) -> Tensor:
    """What is added to similarities (W, N, N) of places that only the shift has made neighbours."""
    height, width = (-(-length // window) * window for length in x_BHWC.shape[1:3])
    origin_HW = x_BHWC.new_zeros(height, width)
    for number, (rows, columns) in enumerate(itertools.product(_thirds(window), _thirds(window))):
        origin_HW[rows, columns] = number
    origin_WN = _windows(origin_HW[None, ..., None], window)[0, ..., 0]
    return (origin_WN[:, None] != origin_WN[:, :, None]).to(x_BHWC.dtype) * _APART


def _thirds(window: int) -> list[slice]:
    shift = window // 2
    return [slice(0, -window), slice(-window, -shift), slice(-shift, None)]


def _relative(window: int) -> Tensor:
    """(N, N) rows of the table of biases, by how far apart two places are."""
    places_N2 = torch.cartesian_prod(torch.arange(window), torch.arange(window))
    apart_NN2 = places_N2[:, None] - places_N2[None] + window - 1
    return apart_NN2[..., 0] * (2 * window - 1) + apart_NN2[..., 1]


def _begin(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=_INIT)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
