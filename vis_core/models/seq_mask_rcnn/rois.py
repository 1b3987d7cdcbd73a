"""Features of regions (docs/methods/propose_reduce.md).

Legacy regions take their samples half a pixel of the level later than torchvision's aligned ones,
and end one pixel of the image later; moving the boxes gives the same samples.

Shapes: N regions, each (image, x1, y1, x2, y2); C channels, S x S bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision import ops

from vis_core.models.seq_mask_rcnn.boxes import BoxRules

STRIDES = (4, 8, 16, 32)  # of P2 to P5


def rois_of(boxes: Sequence[Tensor]) -> Tensor:
    """Regions (N, 5) of the boxes of each image."""
    return torch.cat(
        [
            torch.cat([of_one.new_full((len(of_one), 1), image), of_one], dim=1)
            for image, of_one in enumerate(boxes)
        ]
    )


def levels_of(rules: BoxRules, rois_N5: Tensor, finest_px: int, num_levels: int = 4) -> Tensor:
    """Which level a region is read from: the finest up to twice `finest_px`, then by octaves."""
    _, sizes = rules.centres_and_sizes(rois_N5[:, 1:])
    sides = sizes.prod(dim=1).clamp(min=0).sqrt()
    return torch.log2(sides / finest_px + 1e-6).floor().clamp(0, num_levels - 1).long()


def align(
    rules: BoxRules, features_BCHW: Tensor, rois_N5: Tensor, stride: int, bins: int
) -> Tensor:
    """Features (N, C, S, S) of regions of one level."""
    half = 0.5 * stride * rules.edge
    low = rois_N5[:, 1:3]
    # A region turned inside out is taken as an empty one.
    high = torch.maximum(rois_N5[:, 3:] + rules.edge, low)
    moved = torch.cat([rois_N5[:, :1], low + half, high + half], dim=1)
    found: Tensor = ops.roi_align(
        features_BCHW, moved, bins, spatial_scale=1 / stride, sampling_ratio=2, aligned=True
    )
    return found


def pool(
    rules: BoxRules, levels: Sequence[Tensor], rois_N5: Tensor, bins: int, finest_px: int
) -> Tensor:
    """Features (N, C, S, S), each region from its level of P2 to P5."""
    chosen = levels_of(rules, rois_N5, finest_px)
    found = levels[0].new_zeros(len(rois_N5), levels[0].shape[1], bins, bins)
    for level, stride in enumerate(STRIDES):
        here = torch.where(chosen == level)[0]
        if len(here):
            found[here] = align(rules, levels[level], rois_N5[here], stride, bins)
    return found
