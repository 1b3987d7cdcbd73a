"""The residual network, of torchvision's blocks at any width.

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from vis_core.models.seq_mask_rcnn.config import SeqMaskRcnnConfig


class Backbone(nn.Module):
    """C2 to C5: features at strides 4, 8, 16 and 32."""

    def __init__(self, config: SeqMaskRcnnConfig) -> None:
        super().__init__()
        self._config = config
        self.conv1 = nn.Conv2d(3, config.width, 7, stride=2, padding=3, bias=False)
        self.bn1 = self._norm(config.width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self._kind = Bottleneck if config.block == "bottleneck" else BasicBlock
        before = config.width
        for stage, number in enumerate(config.blocks, 1):
            planes = config.width << (stage - 1)
            layers = [self._block(before, planes, stride=1 if stage == 1 else 2)]
            before = planes * self._kind.expansion
            layers += [self._block(before, planes, stride=1) for _ in range(number - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.channels = tuple((config.width << s) * self._kind.expansion for s in range(4))

    def forward(self, images_B3HW: Tensor) -> tuple[Tensor, ...]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images_B3HW))))
        found = []
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
            found.append(x)
        return tuple(found)

    def train(self, mode: bool = True) -> Self:
        """Batch statistics are those of the file, as in the release, unless they are `live`."""
        super().train(mode)
        if self._config.norm == "batch":
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def _norm(self, channels: int) -> nn.Module:
        if self._config.norm == "group":
            return nn.GroupNorm(8, channels)
        return nn.BatchNorm2d(channels)

    def _block(self, before: int, planes: int, stride: int) -> nn.Module:
        after, shortcut = planes * self._kind.expansion, None
        if stride != 1 or before != after:
            shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride=stride, bias=False), self._norm(after)
            )
        block: nn.Module = self._kind(
            before,
            planes,
            stride,
            shortcut,
            groups=self._config.groups,
            base_width=self._config.width_per_group,
            norm_layer=self._norm,
        )
        return block
