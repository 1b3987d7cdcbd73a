"""The frames of a window as the network sees them, computed when asked for, kept within bytes.

Propagation goes through a window twice, up and down. What does not fit is computed again, in the
same batches, so that the budget changes no value.

Shapes: H x W pixels of the resized picture.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.models.seq_mask_rcnn.inputs import normalised
from vis_core.models.seq_mask_rcnn.network import Features, SeqMaskRcnn
from vis_core.models.seq_mask_rcnn.seq_prop import Query
from vis_core.models.slots import filled

_ALIGNED = 64  # bytes


class Seen(NamedTuple):
    """What all key frames share of one frame."""

    features: Features
    query: Query


class WindowFrames:
    """Pictures (H, W, 3), as bytes, of one size; `kept_bytes` bounds what is kept of them."""

    def __init__(
        self,
        network: SeqMaskRcnn,
        pictures: Sequence[npt.NDArray[np.uint8]],
        batch_size: int,
        kept_bytes: int,
    ) -> None:
        self._network, self._pictures, self._batch_size = network, pictures, batch_size
        self._kept_bytes, self.computed = kept_bytes, 0
        self._kept: collections.OrderedDict[int, list[Seen]] = collections.OrderedDict()
        self._device = next(network.parameters()).device

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, frame: int) -> Seen:
        batch, position = divmod(frame, self._batch_size)
        if batch not in self._kept:
            self._kept[batch] = self._compute(batch)
            self._forget(batch)
        self._kept.move_to_end(batch)
        return _moved(self._kept[batch][position], self._device)

    def _compute(self, batch: int) -> list[Seen]:
        start = batch * self._batch_size
        pictures = self._pictures[start : start + self._batch_size]
        self.computed += len(pictures)
        slots = range(len(pictures))
        images = filled([normalised(picture) for picture in pictures], slots, self._batch_size)
        features = self._network.features(torch.stack(images).to(self._device))
        whole = Seen(features, self._network.query(features))
        seen = _in_one_piece(_part(whole, slice(len(pictures))))
        return [_kept_part(seen, i) for i in slots]

    def _forget(self, latest: int) -> None:
        """What was not used for longest goes first; the latest stays, however large."""
        each = {batch: sum(map(_bytes, seen)) for batch, seen in self._kept.items()}
        total = sum(each.values())
        for batch in list(self._kept):
            if total <= self._kept_bytes or batch == latest:
                return
            total -= each[batch]
            del self._kept[batch]


def _tensors(seen: Seen) -> Iterator[Tensor]:
    yield from (*seen.features.levels, seen.features.c2_BCHW, seen.features.c3_BCHW)
    yield from (getattr(seen.query, field.name) for field in dataclasses.fields(seen.query))


def _rebuilt(tensors: Sequence[Tensor]) -> Seen:
    *levels, c2, c3, key, value, skip3, skip2 = tensors
    return Seen(
        Features(levels=tuple(levels), c2_BCHW=c2, c3_BCHW=c3),
        Query(key_1KHW=key, value_1VHW=value, skip3_1CHW=skip3, skip2_1CHW=skip2),
    )


def _part(seen: Seen, images: slice) -> Seen:
    return _rebuilt([tensor[images] for tensor in _tensors(seen)])


def _bytes(seen: Seen) -> int:
    return sum(tensor.nbytes for tensor in _tensors(seen))


def _in_one_piece(seen: Seen) -> Seen:
    """On the host: else what is kept lies between what comes and goes, and leaves holes there."""
    tensors = list(_tensors(seen))
    if tensors[0].device.type != "cpu":
        return seen
    sizes = [-(-tensor.nbytes // _ALIGNED) * _ALIGNED for tensor in tensors]
    pieces = torch.empty(sum(sizes), dtype=torch.uint8).split(sizes)
    return _rebuilt([_copied(*pair) for pair in zip(tensors, pieces, strict=True)])


def _copied(tensor: Tensor, piece: Tensor) -> Tensor:
    """Into a piece of memory, in the same layout."""
    strides = torch.empty_like(tensor, device="meta").stride()
    numbers = piece[: tensor.nbytes].view(tensor.dtype)
    return numbers.as_strided(tensor.shape, strides).copy_(tensor)


def _kept_part(seen: Seen, image: int) -> Seen:
    """One image's: in pinned memory of the host where the network is on an accelerator."""
    return _rebuilt([_kept_tensor(tensor[image : image + 1]) for tensor in _tensors(seen)])


def _kept_tensor(tensor: Tensor) -> Tensor:
    if tensor.device.type == "cpu":
        return tensor  # a batch goes as a whole, so that views keep nothing alive for longer
    host = torch.empty_like(tensor, device="cpu", pin_memory=True)  # in the same layout
    return host.copy_(tensor)


def _moved(seen: Seen, device: torch.device) -> Seen:
    if device.type == "cpu":
        return seen
    return _rebuilt([tensor.to(device, non_blocking=True) for tensor in _tensors(seen)])
