"""IDOL: one picture to instances with boxes, embeddings, and masks for those that are asked for.

Nothing is kept between pictures. Modules are nested and named as in the released checkpoints.
Shape letters: B pictures, C channels, Q queries, K classes, N chosen queries, H and W the padded
picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vis_core.errors import UsageError
from vis_core.models.idol.attention import Size
from vis_core.models.idol.backbone import channels_of, make_backbone, pretrained
from vis_core.models.idol.config import IdolConfig
from vis_core.models.idol.mask_head import MaskFeatures, dynamic_masks, num_parameters
from vis_core.models.idol.mlp import Mlp
from vis_core.models.idol.position import level_paddings, padding_of
from vis_core.models.idol.transformer import LEVELS, Decoded, Tokens, Transformer, refined
from vis_core.models.weights import Loaded, load_into

MEAN = (123.675, 116.28, 103.53)  # of RGB, 0 to 255
STD = (58.395, 57.12, 57.375)
_SEEN = 3  # features of the backbone, at strides 8, 16 and 32
_MULTIPLE = 32  # the padded size is one of it
_NORM_GROUPS = 32
_BACKBONE = "detr.detr.backbone.0.backbone."
_REFINING, _BOXES = "transformer.decoder.bbox_embed.", "bbox_embed."
_RARE = 0.01  # the score that a class begins with


class _Wrapped(nn.Module):
    """A level of names that the released checkpoints have."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


class DeformableDetr(nn.Module):
    """Backbone, neck and transformer, with a class head and a box head for every decoder layer."""

    def __init__(self, config: IdolConfig) -> None:
        super().__init__()
        width, channels = config.width, channels_of(config)[-_SEEN:]
        self.transformer = Transformer(config)
        self.class_embed = nn.ModuleList(
            _class_head(width, config.num_classes) for _ in range(config.decoder_layers)
        )
        # The decoder refines with the same heads, and checkpoints hold them under both names.
        self.bbox_embed = self.transformer.decoder.bbox_embed
        self.query_embed = nn.Embedding(config.num_queries, 2 * width)
        self.input_proj = nn.ModuleList(_neck(before, width, 1) for before in channels)
        self.input_proj.append(_neck(channels[-1], width, 3))
        self.backbone = nn.ModuleList([_Wrapped(make_backbone(config))])

    def forward(self, images_B3HW: Tensor, padding_BHW: Tensor) -> Decoded:
        tokens = self.tokens(images_B3HW, padding_BHW)
        decoded: Decoded = self.transformer.decode(tokens, self.query_embed.weight)
        return decoded

    def tokens(self, images_B3HW: Tensor, padding_BHW: Tensor) -> Tokens:
        features = self.backbone[0].get_submodule("backbone")(images_B3HW)[-_SEEN:]
        features.append(features[-1])  # the coarsest level is made from the last as it is
        levels = [neck(level) for neck, level in zip(self.input_proj, features, strict=True)]
        assert len(levels) == LEVELS
        paddings = level_paddings(padding_BHW, [(x.shape[-2], x.shape[-1]) for x in levels])
        tokens: Tokens = self.transformer.encode(levels, paddings)
        return tokens


class Heads(nn.Module):
    """The detector, and what IDOL adds to it."""

    def __init__(self, config: IdolConfig) -> None:
        super().__init__()
        self.detr = DeformableDetr(config)
        self.controller = Mlp(config.width, num_parameters(config.mask_features))
        self.mask_head = MaskFeatures(config.width, config.mask_features)
        self.reid_embed_head = Mlp(config.width, config.width)
        self.controller.reset()


class Idol(nn.Module):
    """`forward` decodes; the other methods read classes, boxes, embeddings and masks from that."""

    def __init__(self, config: IdolConfig) -> None:
        super().__init__()
        self.config = config
        self.detr = Heads(config)

    def forward(self, images: Sequence[Tensor]) -> Decoded:
        """`images` (3, H, W) in RGB from 0 to 255, of any sizes."""
        images_B3HW, padding_BHW = batch_of(images)
        decoded: Decoded = self.detr.detr(images_B3HW, padding_BHW)
        return decoded

    def tokens(self, images: Sequence[Tensor]) -> Tokens:
        """What queries look at, before any of them does."""
        images_B3HW, padding_BHW = batch_of(images)
        tokens: Tokens = self.detr.detr.tokens(images_B3HW, padding_BHW)
        return tokens

    def class_logits(self, decoded: Decoded, layer: int = -1) -> Tensor:
        """(B, Q, K), each class for itself."""
        logits: Tensor = self.detr.detr.class_embed[layer](decoded.hidden[layer])
        return logits

    def boxes(self, decoded: Decoded, layer: int = -1) -> Tensor:
        """(B, Q, 4) as (cx, cy, w, h), shares of the picture without its padding."""
        layer %= len(decoded.hidden)
        head = self.detr.detr.bbox_embed[layer]
        return refined(decoded.references[layer], head(decoded.hidden[layer]))

    def embeddings(self, hidden_NC: Tensor) -> Tensor:
        """What tells instances apart, not normalised; `hidden` of the last layer."""
        embeddings: Tensor = self.detr.reid_embed_head(hidden_NC)
        return embeddings

    def mask_features(self, decoded: Decoded) -> Tensor:
        """(B, F, H / 8, W / 8), once for all queries and layers."""
        features: Tensor = self.detr.mask_head(*(decoded.tokens.level(n) for n in range(3)))
        return features

    def masks(
        self,
        decoded: Decoded,
        features_BFhw: Tensor,
        sizes: Sequence[Size],
        chosen: Sequence[Tensor],
        layer: int = -1,
    ) -> list[Tensor]:
        """Logits (N, H / 4, W / 4) for the chosen queries of every picture, (N,) each."""
        layer %= len(decoded.hidden)
        masks = []
        for picture, ((height, width), queries_N) in enumerate(zip(sizes, chosen, strict=True)):
            parameters = self.detr.controller(decoded.hidden[layer][picture, queries_N])
            shares = decoded.references[layer][picture, queries_N, :2]
            centres = shares * shares.new_tensor([width, height])
            # Distances in pixels need more digits than half precision has.
            with torch.autocast(shares.device.type, enabled=False):
                masks.append(
                    dynamic_masks(
                        features_BFhw[picture].float(), parameters.float(), centres.float()
                    )
                )
        return masks


def batch_of(images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Normalised pictures, padded to one size, and where they are padded."""
    sizes = [sizes_of(image) for image in images]
    height, width = (_multiple(max(size[axis] for size in sizes)) for axis in (0, 1))
    mean, std = (images[0].new_tensor(x, dtype=torch.float32).view(3, 1, 1) for x in (MEAN, STD))
    padded = [
        F.pad((image - mean) / std, (0, width - size[1], 0, height - size[0]))
        for image, size in zip(images, sizes, strict=True)
    ]
    return torch.stack(padded), padding_of(sizes, (height, width), images[0].device)


def sizes_of(image_3HW: Tensor) -> Size:
    return int(image_3HW.shape[-2]), int(image_3HW.shape[-1])


def convert(network: Idol, tensors: Mapping[str, Tensor], reset: Sequence[str] = ()) -> Loaded:
    """Weights into the network, every tensor accounted for; released ones need no renaming."""
    for name, tensor in tensors.items():
        twin = tensors.get(name.replace(_REFINING, _BOXES))
        if _REFINING in name and twin is not None and not _equal(tensor, twin):
            raise UsageError(f"{name}: the same box head has other weights under its two names")
    return load_into(network, tensors, reset)


def _equal(one: Tensor, other: Tensor) -> bool:
    """NaN counts as itself: that weights are not finite is said elsewhere."""
    return one.shape == other.shape and bool(
        one.isclose(other, rtol=0.0, atol=0.0, equal_nan=True).all()
    )


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file of a backbone alone by the names it has in the network; any other file as it is."""
    found = pretrained(tensors)
    return dict(tensors) if found is None else {_BACKBONE + name: found[name] for name in found}


def _multiple(length: int) -> int:
    return math.ceil(length / _MULTIPLE) * _MULTIPLE


def _class_head(width: int, classes: int) -> nn.Linear:
    head = nn.Linear(width, classes)
    nn.init.constant_(head.bias, -math.log((1 - _RARE) / _RARE))
    return head


def _neck(before: int, width: int, size: int) -> nn.Sequential:
    """To the transformer's width; 3x3 halves the size, too."""
    conv = nn.Conv2d(before, width, size, stride=2 if size == 3 else 1, padding=size // 2)
    nn.init.xavier_uniform_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, nn.GroupNorm(_NORM_GROUPS, width))
