"""Attention that looks at a few learned points of every level (Deformable DETR, section 4.1).

Shape letters: B pictures, N queries, S tokens of all levels, M heads, D channels of a head,
L levels, P points, C = M D.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Size = tuple[int, int]  # height, width


class DeformableAttention(nn.Module):
    def __init__(self, width: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        self._shape = (heads, levels, points)
        self.sampling_offsets = nn.Linear(width, heads * levels * points * 2)
        self.attention_weights = nn.Linear(width, heads * levels * points)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self.reset()

    def reset(self) -> None:
        """Each head looks its own way, the farther the later the point; all weigh the same."""
        heads, levels, points = self._shape
        angles = torch.arange(heads) * (2 * math.pi / heads)
        ways = torch.stack([angles.cos(), angles.sin()], -1)
        ways = ways / ways.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, points + 1).view(1, 1, points, 1)
        bias = ways.view(heads, 1, 1, 2) * steps.expand(1, levels, points, 1)
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias.flatten())
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        queries_BNC: Tensor,
        references_BNLx: Tensor,
        tokens_BSC: Tensor,
        padding_BS: Tensor,
        sizes: Sequence[Size],
    ) -> Tensor:
        """`references` are points (x, y) or boxes (cx, cy, w, h), as shares of each level."""
        heads, levels, points = self._shape
        values_BSC = self.value_proj(tokens_BSC).masked_fill(padding_BS[..., None], 0.0)
        values_BSMD = values_BSC.unflatten(-1, (heads, -1))
        weights = self.attention_weights(queries_BNC).unflatten(-1, (heads, levels * points))
        weights_BNMLP = weights.softmax(-1).unflatten(-1, (levels, points))
        offsets = self.sampling_offsets(queries_BNC).unflatten(-1, (heads, levels, points, 2))
        places = _places(references_BNLx, offsets, sizes)
        attended: Tensor = self.output_proj(
            sample_levels(values_BSMD, sizes, places, weights_BNMLP)
        )
        return attended


def _places(references_BNLx: Tensor, offsets_BNMLP2: Tensor, sizes: Sequence[Size]) -> Tensor:
    """Where to look, as shares of each level: (B, N, M, L, P, 2)."""
    references = references_BNLx[:, :, None, :, None]
    if references.shape[-1] == 2:
        scale = offsets_BNMLP2.new_tensor([[width, height] for height, width in sizes])
        return references + offsets_BNMLP2 / scale[:, None]
    points = offsets_BNMLP2.shape[-2]
    return references[..., :2] + offsets_BNMLP2 / points * references[..., 2:] * 0.5


def sample_levels(
    values_BSMD: Tensor, sizes: Sequence[Size], places_BNMLP2: Tensor, weights_BNMLP: Tensor
) -> Tensor:
    """Weighted sums of values at places between pixels; outside a level is 0. (B, N, C)."""
    batch, _, heads, depth = values_BSMD.shape
    grids = (2 * places_BNMLP2 - 1).transpose(1, 2).flatten(0, 1)  # (B M, N, L, P, 2)
    weights = weights_BNMLP.transpose(1, 2).flatten(0, 1)  # (B M, N, L, P)
    levels = values_BSMD.split([height * width for height, width in sizes], 1)
    total = None
    for level, (values, (height, width)) in enumerate(zip(levels, sizes, strict=True)):
        image = values.permute(0, 2, 3, 1).reshape(batch * heads, depth, height, width)
        sampled = F.grid_sample(image, grids[:, :, level], align_corners=False)  # (B M, D, N, P)
        summed = (sampled * weights[:, None, :, level]).sum(-1)
        total = summed if total is None else total + summed
    assert total is not None, "there is no level"
    return total.view(batch, heads * depth, -1).transpose(1, 2)
