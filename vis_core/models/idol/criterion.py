"""IDOL's losses over a batch: which pictures learn to find what, and which are contrasted.

Shape letters: G objects of a picture, Q queries, K classes, N matched queries, H and W the picture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vis_core.models.idol import losses
from vis_core.models.idol.losses import MASK_STRIDE
from vis_core.models.idol.matching import Match, contrast_sets, match_queries
from vis_core.models.idol.network import Idol, sizes_of
from vis_core.models.idol.transformer import Decoded, Tokens

Sum = tuple[Tensor, int]  # over so many

_OF_LAYER = ("loss_ce", "loss_bbox", "loss_giou", "loss_mask", "loss_dice")
_OF_PAIRS = ("loss_reid", "loss_reid_aux")
_MASK_LEVELS = 3  # strides 8, 16, 32


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What there is to find in the picture at this position of the batch."""

    picture: int
    boxes_G4: Tensor  # (cx, cy, w, h), shares of the picture
    labels_G: Tensor
    masks_GHW: Tensor


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Where the objects of a target are in another picture; `valid` ones are seen there."""

    target: int
    picture: int
    boxes_G4: Tensor
    valid_G: Tensor


def losses_of(
    network: Idol,
    decoded: Decoded,
    pictures: Sequence[Tensor],
    targets: Sequence[Target],
    pairs: Sequence[Pair],
    seeds: Sequence[int],
) -> dict[str, Sum]:
    """Sums of all layers, the last without a suffix; without pairs there is no contrast.

    `seeds`, one for each pair, decide which negatives the cosine loss sees.
    """
    features = network.mask_features(decoded)
    sizes = [sizes_of(picture) for picture in pictures]
    last = len(decoded.hidden) - 1
    found: dict[str, Sum] = {}
    matches: list[Match] = []
    for layer in range(last + 1):
        matches = _matches(network, decoded, layer, targets)
        chosen = [torch.zeros(0, dtype=torch.long, device=features.device) for _ in pictures]
        for target, match in zip(targets, matches, strict=True):
            chosen[target.picture] = match.queries_N
        masks = network.masks(decoded, features, sizes, chosen, layer)
        totals = _layer_losses(network, decoded, layer, targets, matches, masks)
        number = sum(len(match.queries_N) for match in matches)
        suffix = "" if layer == last else f"_{layer}"
        found |= {f"{name}{suffix}": (totals[i], number) for i, name in enumerate(_OF_LAYER)}
    if pairs:
        found |= _contrast(network, decoded, targets, matches, pairs, seeds)
    return found


@torch.no_grad()
def _matches(network: Idol, decoded: Decoded, layer: int, targets: Sequence[Target]) -> list[Match]:
    scores = network.class_logits(decoded, layer).float().sigmoid()
    boxes = network.boxes(decoded, layer).float()
    return [
        match_queries(
            scores[target.picture], boxes[target.picture], target.boxes_G4, target.labels_G
        )
        for target in targets
    ]


def _layer_losses(
    network: Idol,
    decoded: Decoded,
    layer: int,
    targets: Sequence[Target],
    matches: Sequence[Match],
    masks: Sequence[Tensor],
) -> Tensor:
    """The five sums of `_OF_LAYER`."""
    logits = network.class_logits(decoded, layer).float()
    boxes = network.boxes(decoded, layer).float()
    padded = _padded(decoded.tokens)
    total = logits.new_zeros(len(_OF_LAYER))
    for target, match in zip(targets, matches, strict=True):
        picture, queries, objects = target.picture, match.queries_N, match.objects_N
        truth = losses.mask_truth(target.masks_GHW, padded)
        total = total + torch.stack(
            [
                losses.class_loss(logits[picture], queries, target.labels_G[objects]),
                *losses.box_losses(boxes[picture, queries], target.boxes_G4[objects]),
                *losses.mask_losses(masks[picture].float(), truth[objects]),
            ]
        )
    return total


def _padded(tokens: Tokens) -> tuple[int, int]:
    """The size of the batch: its finest level is at twice the stride of the masks."""
    height, width = tokens.sizes[0]
    return height * 2 * MASK_STRIDE, width * 2 * MASK_STRIDE


def _contrast(
    network: Idol,
    decoded: Decoded,
    targets: Sequence[Target],
    matches: Sequence[Match],
    pairs: Sequence[Pair],
    seeds: Sequence[int],
) -> dict[str, Sum]:
    """The two sums of `_OF_PAIRS`, over the objects seen in both pictures."""
    embeddings = network.embeddings(decoded.hidden[-1]).float()
    # Where nothing is contrasted, gradients are zero.
    total, number = embeddings.new_zeros(2) + embeddings.sum() * 0, 0
    for pair, seed in zip(pairs, seeds, strict=True):
        target = targets[pair.target]
        anchors_GC = embeddings[target.picture, matches[pair.target].best_G]
        others_QC = embeddings[pair.picture]
        random = torch.Generator().manual_seed(seed)
        for g, positive_Q, negative_Q in _sets(network, decoded, target, pair):
            positives, negatives = others_QC[positive_Q], others_QC[negative_Q]
            drawn = losses.drawn_negatives(len(positives), len(negatives), random)
            contrast = losses.contrast_loss(anchors_GC[g], positives, negatives)
            cosine = losses.cosine_loss(
                anchors_GC[g], positives, negatives[drawn.to(negatives.device)]
            )
            total = total + torch.stack([contrast, cosine])
            number += 1
    return {name: (total[i], number) for i, name in enumerate(_OF_PAIRS)}


@torch.no_grad()
def _sets(
    network: Idol, decoded: Decoded, target: Target, pair: Pair
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Of each object seen in both pictures: which queries of the other show it, which do not."""
    scores = network.class_logits(decoded).float()[pair.picture].sigmoid()
    boxes = decoded.references[-1][pair.picture].float()
    positive_GQ, negative_GQ = contrast_sets(
        scores, boxes, pair.boxes_G4, target.labels_G, pair.valid_G
    )
    for g in torch.where(pair.valid_G)[0].tolist():
        yield g, positive_GQ[g], negative_GQ[g]


def token_loss(network: Idol, tokens: Tokens, targets: Sequence[Target]) -> Sum:
    """How surprised the first class head is by an object's category, read from the tokens on it.

    A loss of ours: over a mean of the object's tokens in each of three levels, summed.
    """
    head, padded = network.detr.detr.class_embed[0], _padded(tokens)
    total, number = tokens.memory_BSC.new_zeros(()).float(), 0
    for level in range(_MASK_LEVELS):
        logits_BSK = head(tokens.level(level).flatten(2).transpose(1, 2)).float()
        total = total + logits_BSK.sum() * 0  # where there is no object, gradients are zero
        for target in targets:
            masks = losses.mask_truth(target.masks_GHW, padded, 2 * MASK_STRIDE << level)
            shares_GS = masks.flatten(1).float()
            seen = torch.where(shares_GS.any(1))[0]
            shares = shares_GS[seen] / shares_GS[seen].sum(1, keepdim=True)
            means = shares @ logits_BSK[target.picture]
            total = total + F.cross_entropy(means, target.labels_G[seen], reduction="sum")
            number += len(seen)
    return total, number
