"""The boxes that the RPN starts from (docs/methods/propose_reduce.md).

Shapes: A anchors per place, N places, 4 corners.
"""

from __future__ import annotations

import torch
from torch import Tensor

RATIOS = (0.5, 1.0, 2.0)  # height over width


def base_anchors(stride: int, scale: int, *, legacy: bool) -> Tensor:
    """The anchors (A, 4) at the first place. Legacy ones lie at the middle of its pixels."""
    edge = 1.0 if legacy else 0.0
    centre = 0.5 * (stride - 1) if legacy else 0.0
    rows = []
    for ratio in RATIOS:
        height = stride * scale * ratio**0.5
        width = stride * scale / ratio**0.5
        right, below = (width - edge) / 2, (height - edge) / 2
        rows.append([centre - right, centre - below, centre + right, centre + below])
    return torch.tensor(rows).round()


def grid_anchors(base_A4: Tensor, size: tuple[int, int], stride: int) -> Tensor:
    """Anchors (N * A, 4) of a level of (height, width): row by row, the anchors innermost."""
    rows = torch.arange(size[0], device=base_A4.device, dtype=base_A4.dtype) * stride
    columns = torch.arange(size[1], device=base_A4.device, dtype=base_A4.dtype) * stride
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    shifts_N14 = torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4)
    return (shifts_N14 + base_A4).reshape(-1, 4)
