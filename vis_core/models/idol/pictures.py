"""Pictures as the network wants them, and its masks back at their size.

Shape letters: N masks, H x W pixels, h x w the grid of the masks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.models.idol.attention import Size
from vis_core.models.idol.losses import MASK_STRIDE

_AT_ONCE = 16  # masks made large at a time: a hundred of 1080p would take a gigabyte


def input_size(size: Size, short_side: int, long_edge_cap: int) -> Size:
    """Height and width with that short side, or less where the long one would exceed its cap."""
    height, width = (side * (short_side / min(size)) for side in size)
    if max(height, width) > long_edge_cap:
        scale = long_edge_cap / max(height, width)
        height, width = height * scale, width * scale
    return max(int(height + 0.5), 1), max(int(width + 0.5), 1)


def resized(pixels_HW3: npt.NDArray[np.uint8], size: Size) -> Tensor:
    """Bytes (3, H, W), each a weighted mean over what it covers; as Pillow's bilinear filter."""
    picture = torch.from_numpy(np.ascontiguousarray(pixels_HW3)).permute(2, 0, 1)
    if tuple(picture.shape[1:]) == size:
        return picture
    return F.interpolate(picture[None], size, mode="bilinear", antialias=True)[0]


def full_masks(logits_Nhw: Tensor, small: Size, size: Size) -> npt.NDArray[np.bool_]:
    """Masks (N, H, W) at the frame's size, of a picture that was made `small` for the network."""
    found = np.zeros((len(logits_Nhw), *size), np.bool_)
    for start in range(0, len(logits_Nhw), _AT_ONCE):
        part = logits_Nhw[start : start + _AT_ONCE, None]
        shares = F.interpolate(part, scale_factor=MASK_STRIDE, mode="bilinear").sigmoid()
        inside = (shares[..., : small[0], : small[1]] > 0.5).to(torch.uint8)
        whole = inside if small == size else F.interpolate(inside, size)
        found[start : start + _AT_ONCE] = whole[:, 0].cpu().numpy()
    return found
