"""The loss of propagated masks (section 8.2, 5).

Shapes: O objects, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def soft_iou_losses(soft_OHW: Tensor, truth_OHW: Tensor) -> Tensor:
    """Scale-balanced soft IoU (O): what an object counts does not depend on its size."""
    truth = truth_OHW.to(soft_OHW)
    shared = torch.minimum(soft_OHW, truth).sum(dim=(1, 2))
    either = torch.maximum(soft_OHW, truth).sum(dim=(1, 2))
    return 1 - shared / (either + 1e-6)
