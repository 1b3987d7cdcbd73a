"""Who owns a pixel: soft aggregation over the objects of one key frame.

In the release alone: docs/methods/propose_reduce.md.

Shapes: O objects, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LOWEST = 1e-7


def aggregate_logits(soft_OHW: Tensor) -> Tensor:
    """Logits (1 + O, H, W), the background's first."""
    # Half precision cannot tell 1 - 1e-7 from 1.
    soft_OHW = soft_OHW.to(torch.promote_types(soft_OHW.dtype, torch.float32))
    background = (1 - soft_OHW).prod(dim=0, keepdim=True)
    shares = torch.cat([background, soft_OHW]).clamp(_LOWEST, 1 - _LOWEST)
    return torch.log(shares / (1 - shares))


def aggregate(soft_OHW: Tensor) -> Tensor:
    """Soft masks (O, H, W) whose sum is at most 1: two never reach 0.5 at a pixel."""
    return aggregate_logits(soft_OHW).softmax(dim=0)[1:]
