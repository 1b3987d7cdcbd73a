"""Mask R-CNN of torchvision's parts: a small one to be trained from scratch, and theirs by name.

Losses are those of torchvision. Two things differ, so that several workers train exactly as one
does: which anchors and proposals are sampled depends on each picture's seed alone, and every loss
comes as a sum with its count.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.resnet import BasicBlock

from vis_core.config import check, setting
from vis_core.errors import UsageError
from vis_core.models.seeded_sampler import SeededSampler
from vis_core.models.weights import Weights, buildable, load_into

# Networks with weights by others, in torchvision's own format.
TORCHVISION = ("maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2")
SMALL = "maskrcnn_small"
NAMES = (SMALL, *TORCHVISION)
_LEVELS = 5  # P2 to P5, and one above


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MaskRcnnConfig:
    """The small network; its defaults have 2.6 M parameters."""

    width: int = setting(
        32, low=8, high=512, says="Channels at stride 4; they double with each stride."
    )
    blocks: tuple[int, ...] = setting(
        (1, 1, 1, 1), low=1, high=100, says="Residual blocks at strides 4, 8, 16, 32."
    )
    pyramid: int = setting(
        64, low=8, high=1024, says="Channels of all levels, and of the mask head."
    )
    hidden: int = setting(256, low=8, high=4096, says="Width of the box head.")
    smallest_anchor_px: int = setting(
        12,
        low=2,
        high=512,
        says="Smallest anchor, in pixels of the input; each level has twice the size.",
    )
    short_side_px: int = setting(
        192, low=32, high=4096, says="Short side of the input when the network is used."
    )
    long_side_px: int = setting(640, low=32, high=8192, says="Longest side of the input.")

    def __post_init__(self) -> None:
        check(self)
        if self.width % 8 or self.pyramid % 8:
            raise ValueError(
                f"width and pyramid: expected multiples of 8, got {self.width}, {self.pyramid}"
            )
        if len(self.blocks) != 4:
            raise ValueError(f"blocks: expected four numbers, got {self.blocks}")


class Body(nn.Module):
    """A residual network with group normalisation, which learns from scratch in small batches."""

    def __init__(self, config: MaskRcnnConfig) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, config.width, 7, stride=2, padding=3, bias=False),
            _norm(config.width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        before = config.width
        for stage, number in enumerate(config.blocks, 1):
            channels = config.width << (stage - 1)
            blocks = [_block(before, channels, stride=1 if stage == 1 else 2)]
            blocks += [_block(channels, channels, stride=1) for _ in range(number - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            before = channels


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(8, channels)


def _block(before: int, channels: int, stride: int) -> BasicBlock:
    shortcut = None
    if stride != 1 or before != channels:
        shortcut = nn.Sequential(
            nn.Conv2d(before, channels, 1, stride=stride, bias=False), _norm(channels)
        )
    return BasicBlock(before, channels, stride, shortcut, norm_layer=_norm)


def small(config: MaskRcnnConfig, num_classes: int) -> MaskRCNN:
    """The network of this config; class 0 is the background."""
    layers = {f"layer{stage}": str(stage - 1) for stage in range(1, 5)}
    channels = [config.width << stage for stage in range(4)]
    backbone = BackboneWithFPN(Body(config), layers, channels, config.pyramid, norm_layer=_norm)
    sizes = tuple((config.smallest_anchor_px << level,) for level in range(_LEVELS))
    return MaskRCNN(
        backbone,
        num_classes=None,
        min_size=config.short_side_px,
        max_size=config.long_side_px,
        rpn_anchor_generator=AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * _LEVELS),
        rpn_pre_nms_top_n_train=500,
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_train=300,
        rpn_post_nms_top_n_test=150,
        rpn_batch_size_per_image=128,
        box_head=TwoMLPHead(config.pyramid * 7 * 7, config.hidden),
        box_predictor=detection.faster_rcnn.FastRCNNPredictor(config.hidden, num_classes),
        box_batch_size_per_image=64,
        mask_head=MaskRCNNHeads(config.pyramid, [config.pyramid] * 2, 1),
        mask_predictor=MaskRCNNPredictor(config.pyramid, config.pyramid, num_classes),
    )


def from_weights(name: str, weights: Weights, path: str) -> MaskRCNN:
    """The network that a file's weights are for, with them in it."""
    if name == SMALL:
        if weights.about is None:
            raise UsageError(
                f"{path!r} does not say which network its weights are for; expected a file that"
                " `reelmask train` wrote"
            )
        settings: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in weights.about.settings.items()
        }
        try:
            config = MaskRcnnConfig(**settings)
        except (TypeError, ValueError) as error:
            raise UsageError(f"{path!r} describes another kind of network: {error}") from error
        count = len(weights.about.categories) + 1
        network = buildable(lambda: small(config, count), weights.tensors, path)
    else:
        classes = weights.tensors.get("roi_heads.box_predictor.cls_score.weight")
        if classes is None or classes.dim() != 2:
            raise UsageError(f"{path!r} holds no weights of torchvision's {name}")
        make = functools.partial(getattr(detection, name), weights=None, weights_backbone=None)
        network = buildable(lambda: make(num_classes=len(classes)), weights.tensors, path)
    assert isinstance(network, MaskRCNN)
    try:
        load_into(network, weights.tensors, ())
    except UsageError as error:
        raise UsageError(f"{path!r} is not for {name}: {error}") from error
    return network


# --- training -------------------------------------------------------------------------------------


class MaskRcnnLosses(nn.Module):
    """The network with its losses; every one a sum, its count beside it."""

    def __init__(self, network: MaskRCNN) -> None:
        super().__init__()
        self.network = network
        rpn, heads = network.rpn.fg_bg_sampler, network.roi_heads.fg_bg_sampler
        self._anchors = SeededSampler(rpn.batch_size_per_image, rpn.positive_fraction, 0x5A)
        self._proposals = SeededSampler(heads.batch_size_per_image, heads.positive_fraction, 0xA5)
        network.rpn.fg_bg_sampler = self._anchors
        network.roi_heads.fg_bg_sampler = self._proposals

    def forward(
        self,
        pictures: Sequence[Tensor],
        targets: Sequence[Mapping[str, Tensor]],
        seeds: Sequence[int],
    ) -> dict[str, tuple[Tensor, int]]:
        """`pictures` (3, H, W), 0 to 1; boxes, labels and masks of each as torchvision has them."""
        self._anchors.seeds = self._proposals.seeds = seeds
        network, answers = self.network, [dict(target) for target in targets]
        sizes = [(int(p.shape[-2]), int(p.shape[-1])) for p in pictures]
        normalised = [network.transform.normalize(p) for p in pictures]
        images = ImageList(network.transform.batch_images(normalised, size_divisible=32), sizes)
        features = network.backbone(images.tensors)
        proposals, losses = network.rpn(images, features, answers)
        _, of_heads = network.roi_heads(features, proposals, images.image_sizes, answers)
        losses |= of_heads
        counts = {
            "loss_objectness": self._anchors.sampled,
            "loss_rpn_box_reg": self._anchors.sampled,
            "loss_classifier": self._proposals.sampled,
            "loss_box_reg": self._proposals.sampled,
            "loss_mask": self._proposals.positives,
        }
        return {name: (losses[name] * count, count) for name, count in counts.items()}


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def detect(
    network: MaskRCNN, pictures: Sequence[Tensor], wanted: Sequence[int]
) -> list[dict[str, Tensor]]:
    """Boxes, labels, scores and soft masks (N, 1, H, W) of the wanted ones of pictures (3, H, W).

    Values are 0 to 1. Backbone and proposals take the batch together; heads take one picture at a
    time, because all regions of a batch in one list would lie where other pictures' let them.
    """
    images, _ = network.transform(list(pictures))
    features = network.backbone(images.tensors)
    proposals, _ = network.rpn(images, features)
    found = []
    for picture in wanted:
        own = {level: maps[picture : picture + 1] for level, maps in features.items()}
        size = images.image_sizes[picture]
        answers, _ = network.roi_heads(own, [proposals[picture]], [size])
        height, width = pictures[picture].shape[-2:]
        found += network.transform.postprocess(answers, [size], [(height, width)])
    return found
