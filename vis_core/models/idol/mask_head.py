"""Masks: features shared by all instances, and a small network per instance that reads them.

Shape letters: B pictures, C channels, F mask channels, N instances, W numbers of an instance's
network, h and w the grid at stride 8, H and W the one at stride 4.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HIDDEN = 8  # channels of an instance's network
STRIDE = 8  # of the mask features


def num_parameters(channels: int) -> int:
    """Of one instance's network: 169 at full width."""
    return sum(_weights(channels)) + 2 * HIDDEN + 1


def _weights(channels: int) -> tuple[int, int, int]:
    return (channels + 2) * HIDDEN, HIDDEN * HIDDEN, HIDDEN


class MaskFeatures(nn.Module):
    """Encoder levels of strides 32, 16, 8, merged from coarse to fine."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.lay1 = nn.Conv2d(width, width // 4, 3, padding=1)
        self.lay2 = nn.Conv2d(width // 4, channels, 3, padding=1)
        self.lay3 = nn.Conv2d(width, width, 3, padding=1)
        self.lay4 = nn.Conv2d(width, width, 3, padding=1)
        self.dcn = nn.Conv2d(width, width, 3, padding=1)  # a plain one, its name is the release's
        for conv in (self.lay1, self.lay2, self.lay3, self.lay4, self.dcn):
            nn.init.kaiming_uniform_(conv.weight, a=1)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    def forward(self, fine_BChw: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        """(B, F, h, w)."""
        x = F.relu(self.lay3(coarse))
        x = F.relu(self.lay4(middle + F.interpolate(x, size=middle.shape[-2:])))
        x = F.relu(self.dcn(fine_BChw + F.interpolate(x, size=fine_BChw.shape[-2:])))
        return F.relu(self.lay2(F.relu(self.lay1(x))))


def dynamic_masks(features_Fhw: Tensor, parameters_NW: Tensor, centres_N2: Tensor) -> Tensor:
    """Mask logits (N, H, W) of one picture's instances, whose centres (x, y) are in pixels.

    An instance's network reads where it is from the centre, then the features; the numbers of its
    three 1x1 convolutions come as all weights, then all biases.
    """
    channels, height, width = features_Fhw.shape
    *weights, bias1, bias2, bias3 = parameters_NW.split([*_weights(channels), HIDDEN, HIDDEN, 1], 1)
    first = weights[0].unflatten(1, (HIDDEN, channels + 2))
    x = _first_layer(first, features_Fhw, centres_N2) + bias1[..., None]
    x = torch.baddbmm(bias2[..., None], weights[1].unflatten(1, (HIDDEN, HIDDEN)), x.relu())
    x = torch.baddbmm(bias3[..., None], weights[2][:, None], x.relu())
    return aligned_double(x.view(-1, height, width))


def _first_layer(weights_NOI: Tensor, features_Fhw: Tensor, centres_N2: Tensor) -> Tensor:
    """Features are shared, so they are never copied per instance: (N, O, h w)."""
    _, height, width = features_Fhw.shape
    device = features_Fhw.device
    x = torch.arange(width, device=device) * STRIDE + STRIDE // 2
    y = torch.arange(height, device=device) * STRIDE + STRIDE // 2
    grid_2P = torch.stack(torch.meshgrid(x, y, indexing="xy")).flatten(1)
    away_N2P = centres_N2[:, :, None] - grid_2P
    of_features = weights_NOI[:, :, 2:] @ features_Fhw.flatten(1)
    return torch.baddbmm(of_features, weights_NOI[:, :, :2], away_N2P.to(of_features.dtype))


def aligned_double(x_Nhw: Tensor) -> Tensor:
    """Twice the size, even pixels where they were: (N, 2 h, 2 w)."""
    _, height, width = x_Nhw.shape
    x = F.pad(x_Nhw[:, None], (0, 1, 0, 1), mode="replicate")
    size = (2 * height + 1, 2 * width + 1)
    x = F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    x = F.pad(x, (1, 0, 1, 0), mode="replicate")
    return x[:, 0, : 2 * height, : 2 * width]
