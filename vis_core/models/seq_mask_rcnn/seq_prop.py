"""The Seq-Prop head: remembers masks of frames, finds the same objects in another.

Propose-Reduce, section 3.1.3; the decoder has C3 beside C2, as released.

What depends on the frame alone (`Query`) is apart from what depends on the objects, so that it is
computed once for all of them.

Shapes: O objects, C channels, H x W pixels of the grid at hand; P2 and C2 are at stride 4, C3 at
stride 8, keys and values at stride 16. Layers have the names of released files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from vis_core.models.seq_mask_rcnn.memory import Memory

_AT_ONCE = 4  # objects; what a processor computes of more does not stay in its caches


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """What looking for objects needs of a frame, whichever they are."""

    key_1KHW: Tensor
    value_1VHW: Tensor
    skip3_1CHW: Tensor  # of C3
    skip2_1CHW: Tensor  # of C2

    def __repr__(self) -> str:
        names = [field.name for field in dataclasses.fields(self)]
        shapes = (f"{name} {tuple(getattr(self, name).shape)}" for name in names)
        return f"Query({', '.join(shapes)})"


class ResBlock(nn.Module):
    """Activation first; the shortcut sees the input as it is."""

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.downsample: nn.Module | None = None
        if stride != 1 or before != after:
            self.downsample = nn.Conv2d(before, after, 3, stride=stride, padding=1)
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y: Tensor = self.conv2(functional.relu(self.conv1(functional.relu(x_BCHW))))
        return y + (x_BCHW if self.downsample is None else self.downsample(x_BCHW))


class Refine(nn.Module):
    """One step up: what a frame's finer features add to the objects' coarser ones."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.convFS = nn.Conv2d(before, width, 3, padding=1)
        self.ResFS = ResBlock(width, width)
        self.ResMM = ResBlock(width, width)

    def skip(self, features_1CHW: Tensor) -> Tensor:
        found: Tensor = self.ResFS(self.convFS(features_1CHW))
        return found

    def forward(self, skip_1CHW: Tensor, coarser_OCHW: Tensor) -> Tensor:
        found: Tensor = self.ResMM(skip_1CHW + _larger(coarser_OCHW, 2))
        return found


class SeqPropHead(nn.Module):
    """`width` channels throughout; C2 and C3 may have any number."""

    def __init__(self, width: int, c2: int, c3: int) -> None:
        super().__init__()
        self.enc_pos = nn.Conv2d(1, width, 7, padding=3)
        self.enc_fuse = _fuse(width)
        self.atn_key = nn.Conv2d(2 * width, width // 4, 1)
        self.atn_value = nn.Conv2d(2 * width, width, 1)
        self.qry_fuse = _fuse(width)
        self.qry_atn_key = nn.Conv2d(2 * width, width // 4, 1)
        self.qry_atn_value = nn.Conv2d(2 * width, width, 1)
        self.convFM = nn.Conv2d(2 * width, width, 3, padding=1)
        self.ResMM = ResBlock(width, width)
        self.RF3 = Refine(c3, width)
        self.RF2 = Refine(c2, width)
        self.pred2 = nn.Conv2d(width, 2, 3, padding=1)
        # From scratch: what is alike is to have like keys, in memory and query.
        self.qry_fuse.load_state_dict(self.enc_fuse.state_dict())
        self.qry_atn_key.load_state_dict(self.atn_key.state_dict())

    def remember(
        self, p2_1CHW: Tensor, masks_OHW: Tensor, numbers: Sequence[int] | None = None
    ) -> Memory:
        """The memory of one frame; `masks_OHW` in 0..1, as large as the padded image or smaller.

        `numbers` of objects that belong together, where there are several such groups.
        """
        height, width = p2_1CHW.shape[-2:]
        masks_O1HW = fit_masks(masks_OHW, (4 * height, 4 * width))[:, None].to(p2_1CHW)
        masks_O1HW = functional.interpolate(masks_O1HW, size=(height, width), mode="bilinear")
        parts = _parts(masks_O1HW, numbers or [len(masks_O1HW)])
        x = torch.cat([self.enc_fuse(p2_1CHW + self.enc_pos(part)) for part in parts])
        return Memory.of(self.atn_key(x), self.atn_value(x))

    def query(self, p2_1CHW: Tensor, c2_1CHW: Tensor, c3_1CHW: Tensor) -> Query:
        x = self.qry_fuse(p2_1CHW)
        return Query(
            key_1KHW=self.qry_atn_key(x),
            value_1VHW=self.qry_atn_value(x),
            skip3_1CHW=self.RF3.skip(c3_1CHW),
            skip2_1CHW=self.RF2.skip(c2_1CHW),
        )

    def segment(self, query: Query, memories: Sequence[Memory]) -> Tensor:
        """Soft masks (O, H, W) of the objects of all memories, before they share the pixels.

        Memories may differ in length, hence a list.
        """
        read_OVHW = torch.cat([memory.read(query.key_1KHW) for memory in memories])
        if not len(read_OVHW):
            height, width = query.skip2_1CHW.shape[-2:]
            return read_OVHW.new_zeros(0, 4 * height, 4 * width)
        parts = _parts(read_OVHW, [len(memory) for memory in memories])
        return torch.cat([self._decode(part, query) for part in parts])

    def _decode(self, read_OVHW: Tensor, query: Query) -> Tensor:
        values_OVHW = query.value_1VHW.expand(len(read_OVHW), -1, -1, -1)
        x = self.ResMM(self.convFM(torch.cat([read_OVHW, values_OVHW], dim=1)))
        x = self.RF3(query.skip3_1CHW, x)
        x = self.RF2(query.skip2_1CHW, x)
        logits_O2HW = self.pred2(functional.relu(x))
        # A softmax of two is a sigmoid of their difference, and enlarging is linear.
        return _larger(logits_O2HW[:, 1:] - logits_O2HW[:, :1], 4)[:, 0].sigmoid()


def fit_masks(masks_OHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Zeros to the right and below, up to the padded (height, width).

    A canvas may be one pixel larger than the image (their sizes are rounded apart), not more.
    """
    missing_y, missing_x = (
        want - have for want, have in zip(size, masks_OHW.shape[1:], strict=True)
    )
    if min(missing_y, missing_x) < -1:
        raise ValueError(
            f"masks: expected at most {size[0]} x {size[1]} pixels, got"
            f" {masks_OHW.shape[1]} x {masks_OHW.shape[2]}"
        )
    return functional.pad(masks_OHW, (0, missing_x, 0, missing_y))


def _fuse(width: int) -> nn.Sequential:
    return nn.Sequential(ResBlock(width, width, 2), ResBlock(width, 2 * width, 2))


def _parts(x_OCHW: Tensor, numbers: Sequence[int]) -> Sequence[Tensor]:
    """Objects that go through the layers together: on accelerators all.

    On processors a few, none of two groups: a group's rounding is then what it is alone.
    """
    if x_OCHW.device.type != "cpu":
        return [x_OCHW]
    sizes = [min(_AT_ONCE, number - at) for number in numbers for at in range(0, number, _AT_ONCE)]
    return x_OCHW.split(sizes) if sizes else [x_OCHW]


def _larger(x_OCHW: Tensor, factor: int) -> Tensor:
    return functional.interpolate(x_OCHW, scale_factor=factor, mode="bilinear")
