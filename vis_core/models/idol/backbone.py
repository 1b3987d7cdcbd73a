"""What a picture is looked at with first: a residual network, a Swin Transformer or a ConvNeXt.

Tensors are named as in the released checkpoints; the residual network of bottlenecks is here.
Shape letters: B pictures, C channels, H and W the picture, h and w a level.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import FrozenBatchNorm2d

from vis_core.models import convnext, swin
from vis_core.models.convnext import ConvNext
from vis_core.models.idol.config import RESNET, IdolConfig, Norm
from vis_core.models.swin import Swin

_STAGES = ("res2", "res3", "res4", "res5")
_GROUPS = 4  # divides every width of a small network
_FROZEN = ("stem", "res2")  # never trained where norms are frozen


def channels_of(config: IdolConfig) -> list[int]:
    """How wide the features are that a backbone gives."""
    if config.backbone == RESNET:
        return [config.stage_width << stage for stage in range(len(_STAGES))]
    return (swin.SIZES | convnext.SIZES)[config.backbone].channels


def make_backbone(config: IdolConfig) -> nn.Module:
    """From pictures to features at strides 4, 8, 16 and 32."""
    if config.backbone == RESNET:
        return ResNet(config)
    backbone: Swin | ConvNext
    if config.backbone in swin.SIZES:
        backbone = Swin(swin.SIZES[config.backbone])
    else:
        backbone = ConvNext(convnext.SIZES[config.backbone])
    backbone.get_submodule("norm0").requires_grad_(False)  # nobody looks at stride 4
    return backbone


class ConvNorm(nn.Conv2d):
    """A convolution without bias, and its norm."""

    def __init__(self, before: int, after: int, size: int, stride: int, norm: Norm) -> None:
        super().__init__(before, after, size, stride=stride, padding=size // 2, bias=False)
        self.norm = _norm(after, norm)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, input: Tensor) -> Tensor:
        normed: Tensor = self.norm(super().forward(input))
        return normed


def _norm(channels: int, norm: Norm) -> nn.Module:
    if norm == "frozen":
        return FrozenBatchNorm2d(channels)
    return nn.GroupNorm(_GROUPS, channels) if norm == "group" else nn.BatchNorm2d(channels)


class Stem(nn.Module):
    def __init__(self, width: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, width, 7, 2, norm)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        return F.max_pool2d(F.relu(self.conv1(images_B3HW)), 3, stride=2, padding=1)


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1."""

    def __init__(self, before: int, inner: int, after: int, stride: int, norm: Norm) -> None:
        super().__init__()
        changes = stride != 1 or before != after
        self.shortcut = ConvNorm(before, after, 1, stride, norm) if changes else None
        self.conv1 = ConvNorm(before, inner, 1, 1, norm)
        self.conv2 = ConvNorm(inner, inner, 3, stride, norm)
        self.conv3 = ConvNorm(inner, after, 1, 1, norm)

    def forward(self, x_BChw: Tensor) -> Tensor:
        kept = x_BChw if self.shortcut is None else self.shortcut(x_BChw)
        inner = F.relu(self.conv2(F.relu(self.conv1(x_BChw))))
        return F.relu(self.conv3(inner) + kept)


class ResNet(nn.Module):
    """Pictures to features at strides 4, 8, 16 and 32."""

    def __init__(self, config: IdolConfig) -> None:
        super().__init__()
        self.stem = Stem(config.stem_width, config.norm)
        before = config.stem_width
        for stage, (name, number) in enumerate(zip(_STAGES, config.blocks, strict=True)):
            inner, after = config.inner_width << stage, config.stage_width << stage
            blocks = [Bottleneck(before, inner, after, 1 if stage == 0 else 2, config.norm)]
            blocks += [Bottleneck(after, inner, after, 1, config.norm) for _ in range(number - 1)]
            self.add_module(name, nn.Sequential(*blocks))
            before = after
        if config.norm == "frozen":
            for name in _FROZEN:
                self.get_submodule(name).requires_grad_(False)

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        features = [self.stem(images_B3HW)]
        for name in _STAGES:
            features.append(self.get_submodule(name)(features[-1]))
        return features[1:]


def pretrained(tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """A file of a backbone alone, by the names used here; none: it is no such file.

    ResNets and ConvNeXts of torchvision, Swins of Microsoft, ConvNeXts of Facebook.
    """
    if "layer1.0.conv1.weight" in tensors:
        return from_torchvision(tensors)
    if "patch_embed.proj.weight" in tensors:
        return {
            name: tensor
            for name, tensor in tensors.items()
            if not name.startswith(("norm.", "head.")) and not name.endswith(".attn_mask")
        }
    if "downsample_layers.0.0.weight" in tensors:
        return convnext.from_facebook(tensors)
    if "features.0.0.weight" in tensors:
        return {name: tensor for name, tensor in tensors.items() if name.startswith("features.")}
    return None


def from_torchvision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of torchvision's resnet50 or resnet101 under the names used here."""
    return {
        _renamed(name): tensor
        for name, tensor in tensors.items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }


def _renamed(name: str) -> str:
    parts = name.split(".")
    if not parts[0].startswith("layer"):
        parts = ["layer1", "stem", *parts]  # as if it were a block, to be renamed alike
    stage, block, *rest = parts
    stage = f"res{int(stage.removeprefix('layer')) + 1}"
    if rest[0] == "downsample":
        rest = ["shortcut", *([] if rest[1] == "0" else ["norm"]), *rest[2:]]
    elif rest[0].startswith("bn"):
        rest = [f"conv{rest[0].removeprefix('bn')}", "norm", *rest[1:]]
    return ".".join(["stem", *rest] if block == "stem" else [stage, block, *rest])
