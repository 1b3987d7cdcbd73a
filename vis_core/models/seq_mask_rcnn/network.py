"""Seq Mask R-CNN: what a key frame holds, and where it is in other frames.

Shapes: B images, O objects, N boxes, K classes with the background first, H x W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vis_core.models.seq_mask_rcnn import rois
from vis_core.models.seq_mask_rcnn.backbone import Backbone
from vis_core.models.seq_mask_rcnn.boxes import BoxRules
from vis_core.models.seq_mask_rcnn.config import SeqMaskRcnnConfig
from vis_core.models.seq_mask_rcnn.detect import (
    DetectConfig,
    Detections,
    choose,
    paste,
    suppress_masks,
)
from vis_core.models.seq_mask_rcnn.heads import MASK_BINS, STDS, BoxHead, MaskHead
from vis_core.models.seq_mask_rcnn.pyramid import Pyramid
from vis_core.models.seq_mask_rcnn.rpn import ProposalConfig, RpnHead, anchors_of, propose
from vis_core.models.seq_mask_rcnn.seq_prop import Query, SeqPropHead

Size = tuple[int, int]  # (height, width)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """What is kept of one image, or of a batch of them."""

    levels: tuple[Tensor, ...]  # P2 to P6
    c2_BCHW: Tensor
    c3_BCHW: Tensor

    @property
    def padded_size(self) -> Size:
        height, width = self.levels[0].shape[-2:]
        return 4 * height, 4 * width

    def __repr__(self) -> str:
        return f"Features({len(self.c2_BCHW)} x {self.padded_size})"


class SeqMaskRcnn(nn.Module):
    """Class 0 is the background."""

    def __init__(self, config: SeqMaskRcnnConfig, num_classes: int) -> None:
        super().__init__()
        self.config, self.rules = config, BoxRules(config.legacy)
        self.backbone = Backbone(config)
        self.neck = Pyramid(self.backbone.channels, config.pyramid)
        self.rpn_head = RpnHead(config.pyramid)
        self.bbox_head = BoxHead(config.pyramid, config.hidden, num_classes, config.box_channels)
        self.mask_head = MaskHead(config.pyramid, config.mask_channels, num_classes)
        c2, c3 = self.backbone.channels[:2]
        self.prop_head = SeqPropHead(config.pyramid, c2, c3)

    def features(self, images_B3HW: Tensor) -> Features:
        """Of normalised images, padded to multiples of 32."""
        found = self.backbone(images_B3HW)
        return Features(levels=self.neck(found), c2_BCHW=found[0], c3_BCHW=found[1])

    def proposals(
        self, features: Features, size: Size, config: ProposalConfig
    ) -> tuple[Tensor, Tensor]:
        """Boxes (N, 4) and scores (N) of one image, whose `size` is without padding."""
        legacy = self.config.legacy
        anchors = anchors_of(features.levels, self.config.anchor_scale, legacy=legacy)
        answers = [(logits[0], offsets[0]) for logits, offsets in self.rpn_head(features.levels)]
        return propose(self.rules, config, anchors, answers, size)

    def regions(self, features: Features, boxes: Sequence[Tensor], bins: int) -> Tensor:
        """Features (N, C, S, S) of the boxes of each image."""
        levels, finest = features.levels[:4], self.config.finest_roi_px
        return rois.pool(self.rules, levels, rois.rois_of(boxes), bins, finest)

    def detect(
        self,
        features: Features,
        size: Size,
        proposing: ProposalConfig,
        choosing: DetectConfig,
    ) -> Detections:
        """The objects of one image, in pixels of the network's input."""
        boxes_N4, _ = self.proposals(features, size, proposing)
        logits_NK, offsets_NK4 = self.bbox_head(
            self.regions(features, [boxes_N4], self.bbox_head.bins)
        )
        found_NK4 = self.rules.clip(self.rules.decode(boxes_N4, offsets_NK4, STDS), size)
        return choose(self.rules, choosing, found_NK4, logits_NK.softmax(dim=1))

    def soft_masks(
        self, features: Features, boxes: Sequence[Tensor], labels: Sequence[Tensor], canvas: Size
    ) -> list[Tensor]:
        """Soft masks (N, H, W) of the boxes of each image, each by the channel of its class."""
        numbers = [len(of_one) for of_one in boxes]
        if not sum(numbers):
            return [torch.zeros(0, *canvas, device=of_one.device) for of_one in boxes]
        logits = self.mask_head(self.regions(features, boxes, MASK_BINS))
        each = torch.arange(len(logits), device=logits.device)
        soft = logits[each, torch.cat(list(labels))].float().sigmoid().split(numbers)
        return [
            paste(self.rules, of_one, where, canvas)
            for of_one, where in zip(soft, boxes, strict=True)
        ]

    def objects(
        self,
        features: Features,
        size: Size,
        canvas: Size,
        proposing: ProposalConfig,
        choosing: DetectConfig,
    ) -> Tensor:
        """Masks (O, H, W) that start sequences at a key frame; `canvas` is nearly `size`."""
        found = self.detect(features, size, proposing, choosing)
        masks_NHW = self.soft_masks(features, [found.boxes_N4], [found.labels_N], canvas)[0] > 0.5
        return masks_NHW[suppress_masks(masks_NHW, choosing.mask_overlap)]

    def query(self, features: Features) -> Query:
        return self.prop_head.query(features.levels[0], features.c2_BCHW, features.c3_BCHW)

    def class_scores(self, features: Features, boxes_N4: Tensor) -> Tensor:
        """Softmax (N, K) of what lies in these boxes of one image."""
        logits_NK, _ = self.bbox_head(self.regions(features, [boxes_N4], self.bbox_head.bins))
        scores: Tensor = logits_NK.softmax(dim=1)
        return scores
