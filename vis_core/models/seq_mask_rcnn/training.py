"""One training step's losses: detection in one frame of a clip, and finding there the objects of
another (Propose-Reduce, section 3.1.3).

Shapes: B clips, A anchors of a picture, N regions, G or O true objects, H x W pixels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from vis_core.config import check, setting
from vis_core.models.seeded_sampler import SeededSampler
from vis_core.models.seq_mask_rcnn import heads, rpn
from vis_core.models.seq_mask_rcnn.aggregate import aggregate
from vis_core.models.seq_mask_rcnn.inputs import MEAN, STD, padded
from vis_core.models.seq_mask_rcnn.losses import (
    attention_losses,
    mask_losses,
    proposal_losses,
    region_losses,
    soft_iou_losses,
)
from vis_core.models.seq_mask_rcnn.network import Features, SeqMaskRcnn, Size
from vis_core.models.seq_mask_rcnn.seq_prop import fit_masks
from vis_core.models.seq_mask_rcnn.targets import BACKGROUND, IGNORED, assign, inside, mask_targets

_ANCHORS = 64  # sampled of each picture
_MOST_FOLLOWED = 5  # objects of a clip
_OTHER_FRAME = 0x5851F42D  # a pair's second frame samples by a seed of its own


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SeqMaskRcnnLearning:
    """The defaults are as released."""

    detect_in: Literal["first", "both"] = setting(
        "first", says="Frames of a pair in which detection is learned."
    )
    class_weight: float = setting(
        1.0,
        low=0.01,
        high=100,
        says="What telling classes apart counts beside the rest; a network from nothing needs"
        " more.",
    )
    regions: int = setting(
        128,
        low=8,
        high=4096,
        says="Regions of each picture that the box head learns from; few suffice in mosaics.",
    )
    from_truth: bool = setting(
        False,
        says="Take regions from true boxes, moved a little, while the proposal network learns"
        " nothing: to learn classes and masks first, at a fraction of the time.",
    )
    attention_loss: float = setting(
        0.0,
        low=0,
        high=100,
        says="Weight of a loss of ours: places of an object are to read from places of the same"
        " object. From scratch, all objects are followed at once for long without it.",
    )

    def __post_init__(self) -> None:
        check(self)


class View(NamedTuple):
    """A frame of a clip and its objects; ids are the clip's own."""

    picture_3HW: Tensor  # RGB bytes
    boxes_G4: Tensor  # around the masks, end exclusive
    labels_G: Tensor  # from 1
    ids_G: Tensor
    masks_GHW: Tensor  # bytes

    @property
    def size(self) -> Size:
        return int(self.picture_3HW.shape[1]), int(self.picture_3HW.shape[2])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Regions:
    """The sampled regions of one picture; the objects come first."""

    boxes_N4: Tensor
    owner_N: Tensor  # the true object of each of the first `objects`
    labels_N: Tensor
    objects: int


class SeqMaskRcnnLosses(nn.Module):
    """The network with its losses; every one a sum, its count beside it."""

    def __init__(self, network: SeqMaskRcnn, learning: SeqMaskRcnnLearning) -> None:
        super().__init__()
        self.network, self._learning = network, learning
        self._anchors = SeededSampler(_ANCHORS, 0.5, 0x5A)
        self._regions = SeededSampler(learning.regions, 0.25, 0xA5)
        self._proposing = rpn.ProposalConfig()

    def forward(
        self, clips: Sequence[Sequence[View]], seeds: Sequence[int]
    ) -> dict[str, tuple[Tensor, int]]:
        """Clips of one frame, or of two: what is in the second is looked for in the first."""
        first = [clip[0] for clip in clips]
        second = [clip[1] for clip in clips if len(clip) > 1]
        both = self.network.features(batch_of([view.picture_3HW for view in (*first, *second)]))
        features, guides = _split(both, [len(first), len(second)])
        if self._learning.detect_in == "both":
            more = [seed ^ _OTHER_FRAME for seed in seeds[: len(second)]]
            found = self._detection_losses(both, [*first, *second], [*seeds, *more])
        else:
            found = self._detection_losses(features, first, seeds)
        if second:
            # In half precision what tells one object's memory from another's is lost in rounding.
            with torch.autocast(both.c2_BCHW.device.type, enabled=False):
                features, guides = _full_precision(features), _full_precision(guides)
                found |= self._propagation_losses(features, guides, first, second, seeds)
        return found

    # --- detection -----------------------------------------------------------------------------

    def _detection_losses(
        self, features: Features, views: Sequence[View], seeds: Sequence[int]
    ) -> dict[str, tuple[Tensor, int]]:
        if self._learning.from_truth:
            found: dict[str, tuple[Tensor, int]] = {}
            proposals = [self._moved(view, seed) for view, seed in zip(views, seeds, strict=True)]
        else:
            proposals, found = self._proposal_losses(features, views, seeds)
        regions = self._sampled(views, proposals, seeds)
        return found | self._region_losses(features, views, regions)

    def _proposal_losses(
        self, features: Features, views: Sequence[View], seeds: Sequence[int]
    ) -> tuple[list[Tensor], dict[str, tuple[Tensor, int]]]:
        network = self.network
        config, rules = network.config, network.rules
        kind = torch.get_default_dtype()
        answers = [(x.to(kind), y.to(kind)) for x, y in network.rpn_head(features.levels)]
        levels = rpn.anchors_of(features.levels, config.anchor_scale, legacy=config.legacy)
        anchors_A4 = torch.cat(levels)
        owners = []
        for view in views:
            owner_A = assign(
                rules, anchors_A4, self._truth(view), positive=0.7, negative=0.3, closest=0.3
            )
            if config.legacy:  # as released; later practice learns from anchors at the edge, too
                owner_A[~inside(anchors_A4, view.size)] = IGNORED
            owners.append(owner_A)
        self._anchors.seeds = seeds
        objects, background = self._anchors([_signs(owner_A) for owner_A in owners])
        logits_BA = torch.cat([logits for logits, _ in answers], dim=1)
        offsets_BA4 = torch.cat([offsets for _, offsets in answers], dim=1)
        objectness = boxes = logits_BA.sum() * 0
        for i, view in enumerate(views):
            chosen = torch.where(objects[i].bool() | background[i].bool())[0]
            owner = owners[i][chosen]
            targets = self._offsets(anchors_A4[chosen], self._truth(view), owner, rpn.STDS)
            one, other = proposal_losses(
                logits_BA[i, chosen], offsets_BA4[i, chosen], owner >= 0, targets
            )
            objectness, boxes = objectness + one, boxes + other
        proposals = []
        for i, view in enumerate(views):
            of_one = [(logits[i].detach(), offsets[i].detach()) for logits, offsets in answers]
            proposals.append(rpn.propose(rules, self._proposing, levels, of_one, view.size)[0])
        number = self._anchors.sampled
        return proposals, {"objectness": (objectness, number), "proposal_box": (boxes, number)}

    def _sampled(
        self, views: Sequence[View], proposals: Sequence[Tensor], seeds: Sequence[int]
    ) -> list[_Regions]:
        """True boxes are regions as well, and always among the objects."""
        boxes, owners = [], []
        for view, of_one in zip(views, proposals, strict=True):
            truth = self._truth(view)
            boxes.append(torch.cat([truth, of_one]))
            owners.append(
                assign(
                    self.network.rules, boxes[-1], truth, positive=0.5, negative=0.5, closest=None
                )
            )
        self._regions.seeds = seeds
        objects, background = self._regions([_signs(owner_A) for owner_A in owners])
        found = []
        for i, view in enumerate(views):
            is_object = objects[i].bool()
            is_object[: len(view.labels_G)] = True
            here, elsewhere = torch.where(is_object)[0], torch.where(background[i])[0]
            owner = owners[i][here]
            found.append(
                _Regions(
                    boxes_N4=boxes[i][torch.cat([here, elsewhere])],
                    owner_N=owner,
                    labels_N=torch.cat([view.labels_G[owner], torch.zeros_like(elsewhere)]),
                    objects=len(here),
                )
            )
        return found

    def _region_losses(
        self, features: Features, views: Sequence[View], regions: Sequence[_Regions]
    ) -> dict[str, tuple[Tensor, int]]:
        network, rules, kind = self.network, self.network.rules, torch.get_default_dtype()
        boxes = [of_one.boxes_N4 for of_one in regions]
        labels_N = torch.cat([of_one.labels_N for of_one in regions])
        if not len(labels_N):  # of true boxes alone, where nothing is seen: live norms need some
            nothing = features.c2_BCHW.sum().to(kind) * 0
            return dict.fromkeys(("class", "box", "mask"), (nothing, 0))
        logits_NK, offsets_NK4 = network.bbox_head(
            network.regions(features, boxes, network.bbox_head.bins)
        )
        targets_N4 = torch.cat(
            [
                self._offsets(
                    of_one.boxes_N4,
                    self._truth(view),
                    functional.pad(
                        of_one.owner_N, (0, len(of_one.labels_N) - of_one.objects), value=BACKGROUND
                    ),
                    heads.STDS,
                )
                for view, of_one in zip(views, regions, strict=True)
            ]
        )
        classes, where = region_losses(
            logits_NK.to(kind), offsets_NK4.to(kind), labels_N, targets_N4
        )
        objects = [of_one.boxes_N4[: of_one.objects] for of_one in regions]
        wanted = torch.cat(
            [
                mask_targets(rules, view.masks_GHW, of_one.owner_N, own, 2 * heads.MASK_BINS)
                for view, of_one, own in zip(views, regions, objects, strict=True)
            ]
        )
        own_labels = torch.cat([of_one.labels_N[: of_one.objects] for of_one in regions])
        masks = logits_NK.sum() * 0
        if len(wanted):
            logits = network.mask_head(network.regions(features, objects, heads.MASK_BINS))
            masks = mask_losses(logits.to(kind), own_labels, wanted).sum()
        return {
            "class": (classes, len(labels_N)),
            "box": (where, len(labels_N)),
            "mask": (masks, len(wanted)),
        }

    # --- propagation ---------------------------------------------------------------------------

    def _propagation_losses(
        self,
        features: Features,
        guides: Features,
        first: Sequence[View],
        second: Sequence[View],
        seeds: Sequence[int],
    ) -> dict[str, tuple[Tensor, int]]:
        """What the mask head sees in the true boxes of one frame is looked for in the other."""
        head, total, number = self.network.prop_head, features.c2_BCHW.sum() * 0, 0
        attention = total
        ones = [1] * len(first)
        pairs = zip(_split(features, ones), _split(guides, ones), strict=True)
        for (here, around), query, guide, seed in zip(pairs, first, second, seeds, strict=True):
            there, wanted = _followed(guide, query, seed)
            if not len(there):
                continue
            boxes_O4 = self._truth(guide)[there]
            with torch.no_grad():
                soft_OHW = self.network.soft_masks(
                    around, [boxes_O4], [guide.labels_G[there]], guide.size
                )[0]
            memory = head.remember(around.levels[0], soft_OHW)
            seen = self.network.query(here)
            found_OHW = aggregate(head.segment(seen, [memory]))
            size = found_OHW.shape[1], found_OHW.shape[2]
            truth_OHW = fit_masks(query.masks_GHW[wanted], size)
            total = total + soft_iou_losses(found_OHW, truth_OHW).sum()
            number += len(there)
            if self._learning.attention_loss:
                remembered_OHW = fit_masks(guide.masks_GHW[there], size)
                losses_O = attention_losses(memory, seen.key_1KHW, remembered_OHW, truth_OHW)
                attention = attention + losses_O.sum()
        found = {"propagation": (total, number)}
        return found | ({"attention": (attention, number)} if self._learning.attention_loss else {})

    def _moved(self, view: View, seed: int) -> Tensor:
        """Two boxes beside every true one, off by up to a tenth of its sides."""
        truth_G4 = self._truth(view)
        if not len(truth_G4):
            return truth_G4
        random = torch.Generator().manual_seed(seed ^ 0x77)
        shares = torch.rand(2, len(truth_G4), 4, generator=random).to(truth_G4) * 0.2 - 0.1
        sides = (truth_G4[:, 2:] - truth_G4[:, :2]).repeat(1, 2)
        return self.network.rules.clip((truth_G4 + shares * sides).flatten(0, 1), view.size)

    # --- helpers -------------------------------------------------------------------------------

    def _truth(self, view: View) -> Tensor:
        """Boxes by the network's rules."""
        edge = self.network.rules.edge
        return view.boxes_G4 - view.boxes_G4.new_tensor([0.0, 0.0, edge, edge])

    def _offsets(
        self, boxes_N4: Tensor, truth_G4: Tensor, owner_N: Tensor, stds: Sequence[float]
    ) -> Tensor:
        """(N, 4) to each box's object; zeros for those without one."""
        found = torch.zeros_like(boxes_N4)
        objects = owner_N >= 0
        found[objects] = self.network.rules.encode(
            boxes_N4[objects], truth_G4[owner_N[objects]], stds
        )
        return found


def batch_of(pictures: Sequence[Tensor]) -> Tensor:
    """Normalised pictures, padded to one size."""
    sizes = [padded((int(p.shape[1]), int(p.shape[2]))) for p in pictures]
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
    kind = torch.get_default_dtype()
    mean, std = (pictures[0].new_tensor(x, dtype=kind).view(3, 1, 1) for x in (MEAN, STD))
    return torch.stack(
        [
            functional.pad(
                (picture.to(kind) - mean) / std,
                (0, width - picture.shape[2], 0, height - picture.shape[1]),
            )
            for picture in pictures
        ]
    )


def _split(features: Features, numbers: list[int]) -> list[Features]:
    """Those of the first images, of the next ones, and so on.

    Gradients of slices would each be as large as the whole; those of a split are put together once.
    """
    levels = zip(*(level.split(numbers) for level in features.levels), strict=True)
    c2s, c3s = features.c2_BCHW.split(numbers), features.c3_BCHW.split(numbers)
    return [
        Features(levels=of_some, c2_BCHW=c2, c3_BCHW=c3)
        for of_some, c2, c3 in zip(levels, c2s, c3s, strict=True)
    ]


def _full_precision(features: Features) -> Features:
    kind = torch.get_default_dtype()
    return Features(
        levels=tuple(level.to(kind) for level in features.levels),
        c2_BCHW=features.c2_BCHW.to(kind),
        c3_BCHW=features.c3_BCHW.to(kind),
    )


def _followed(guide: View, query: View, seed: int) -> tuple[Tensor, Tensor]:
    """Places, in both, of the objects that both show; of many a few at random."""
    here, there = torch.where(guide.ids_G[:, None] == query.ids_G[None, :])
    if len(here) > _MOST_FOLLOWED:
        random = torch.Generator().manual_seed(seed ^ 0x3C)
        chosen = torch.randperm(len(here), generator=random)[:_MOST_FOLLOWED].to(here.device)
        here, there = here[chosen], there[chosen]
    return here, there


def _signs(owner_A: Tensor) -> Tensor:
    """As samplers want it: 1 object, 0 background, -1 left out."""
    return torch.where(owner_A >= 0, 1, torch.where(owner_A == BACKGROUND, 0, -1))
