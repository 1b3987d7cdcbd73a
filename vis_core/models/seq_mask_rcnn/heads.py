"""What a region holds: its class and box, and its mask.

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
    """With `channels`, convolutions come first, and the class does not see where things are."""

    def __init__(self, pyramid: int, hidden: int, num_classes: int, channels: int = 0) -> None:
        super().__init__()
        self.bins = 2 * BOX_BINS if channels else BOX_BINS
        width = channels or pyramid
        self.convs = nn.Sequential()
        if channels:
            for before, stride in ((pyramid, 1), (channels, 2), (channels, 1)):
                self.convs.extend(_normed(before, channels, stride))
        inputs = width * BOX_BINS * BOX_BINS
        self.fc_cls = nn.Linear(channels or hidden, num_classes)
        self.fc_reg = nn.Linear(hidden, 4 * num_classes)
        self.shared_fcs = nn.ModuleList([nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)])
        nn.init.normal_(self.fc_cls.weight, std=0.01)
        nn.init.normal_(self.fc_reg.weight, std=0.001)
        nn.init.zeros_(self.fc_cls.bias)
        nn.init.zeros_(self.fc_reg.bias)

    def forward(self, regions_NCSS: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, K) and offsets (N, K, 4)."""
        seen_NCSS = self.convs(regions_NCSS)
        x = seen_NCSS.flatten(1)
        for layer in self.shared_fcs:
            x = functional.relu(layer(x))
        logits_NK = self.fc_cls(seen_NCSS.mean(dim=(2, 3)) if len(self.convs) else x)
        return logits_NK, self.fc_reg(x).unflatten(1, (-1, 4))


def _normed(before: int, after: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    ]


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
