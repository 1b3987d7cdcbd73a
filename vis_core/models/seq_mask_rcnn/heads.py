"""What a region holds: its class and box, and its mask (section 2.5).

Shapes: N regions, C channels, S x S bins, K classes with the background first.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn
from torch.nn import functional

from vis_core.models.seq_mask_rcnn.pyramid import ConvOnly

BOX_BINS = 7
MASK_BINS = 14
STDS = (0.1, 0.1, 0.2, 0.2)


class BoxHead(nn.Module):
    def __init__(self, pyramid: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.fc_cls = nn.Linear(hidden, num_classes)
        self.fc_reg = nn.Linear(hidden, 4 * num_classes)
        inputs = pyramid * BOX_BINS * BOX_BINS
        self.shared_fcs = nn.ModuleList([nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)])
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.normal_(self.fc_reg.weight, std=0.001)
        nn.init.zeros_(self.fc_cls.bias)
        nn.init.zeros_(self.fc_reg.bias)

    def forward(self, regions_NCSS: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and offsets (N, K, 4)."""
        x = regions_NCSS.flatten(1)
        for layer in self.shared_fcs:
            x = functional.relu(layer(x))
        logits_NK = self.fc_cls(x)
        return logits_NK, self.fc_reg(x).unflatten(1, (-1, 4))


class MaskHead(nn.Module):
    def __init__(self, pyramid: int, channels: int, num_classes: int) -> None:
        super().__init__()
        widths = (pyramid, channels, channels, channels, channels)
        self.convs = nn.ModuleList(
            ConvOnly(before, after, 3) for before, after in itertools.pairwise(widths)
        )
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.conv_logits = nn.Conv2d(channels, num_classes, 1)

    def forward(self, regions_NCSS: Tensor) -> Tensor:
        """Logits (N, K, 2 S, 2 S)."""
        x = regions_NCSS
        for layer in self.convs:
            x = functional.relu(layer(x))
        logits: Tensor = self.conv_logits(functional.relu(self.upsample(x)))
        return logits
