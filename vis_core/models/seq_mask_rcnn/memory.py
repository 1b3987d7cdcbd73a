"""What a direction remembers of its objects, and how a frame reads it.

Propose-Reduce, sections 3.1.2 and 3.1.3.

Shapes: O objects, M remembered places (frames x grid), K key and V value channels, H x W the grid
at stride 16.
"""

from __future__ import annotations

import dataclasses

from torch import Tensor
from torch.nn import functional


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Keys and values of every object."""

    keys_OMK: Tensor
    values_OMV: Tensor

    @classmethod
    def of(cls, keys_OKHW: Tensor, values_OVHW: Tensor) -> Memory:
        """The memory of one frame."""
        return cls(keys_OMK=_places(keys_OKHW), values_OMV=_places(values_OVHW))

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.keys_OMK)

    def __repr__(self) -> str:
        return f"Memory(keys {tuple(self.keys_OMK.shape)}, values {tuple(self.values_OMV.shape)})"

    def split(self, sizes: list[int]) -> list[Memory]:
        """The memories of the first objects, of the next ones, and so on."""
        parts = zip(self.keys_OMK.split(sizes), self.values_OMV.split(sizes), strict=True)
        return [Memory(keys_OMK=keys, values_OMV=values) for keys, values in parts]

    def read(self, query_1KHW: Tensor) -> Tensor:
        """Values (O, V, H, W): for each place the mean of all, weighted by how alike keys are."""
        queries, keys = _places(query_1KHW).expand(len(self), -1, -1), self.keys_OMK
        scale = queries.shape[-1] ** -0.5
        # Processors have a kernel that never holds all similarities, for keys as wide as values.
        narrower = self.values_OMV.shape[-1] - queries.shape[-1]
        if queries.device.type == "cpu" and narrower > 0:
            queries, keys = (functional.pad(x, (0, narrower)) for x in (queries, keys))
        read_O1MV = functional.scaled_dot_product_attention(
            queries[:, None], keys[:, None], self.values_OMV[:, None], scale=scale
        )
        return read_O1MV[:, 0].transpose(1, 2).unflatten(2, query_1KHW.shape[-2:])


class Growing:
    """A memory to which frames are added where room was made for them at the start.

    Joining what there is with every new frame would copy all of it each time, and leave holes of
    every size between what stays.
    """

    def __init__(self, first: Memory, num_frames: int) -> None:
        """`first` is copied; it may be the beginning of several."""
        self._keys_OMK, self._values_OMV = (
            part.new_empty(part.shape[0], part.shape[1] * num_frames, part.shape[2])
            for part in (first.keys_OMK, first.values_OMV)
        )
        self._end = 0
        self.add(first)

    def add(self, frame: Memory) -> None:
        begin, self._end = self._end, self._end + frame.keys_OMK.shape[1]
        self._keys_OMK[:, begin : self._end] = frame.keys_OMK
        self._values_OMV[:, begin : self._end] = frame.values_OMV

    @property
    def memory(self) -> Memory:
        """What is remembered so far."""
        return Memory(
            keys_OMK=self._keys_OMK[:, : self._end], values_OMV=self._values_OMV[:, : self._end]
        )


def _places(grid_OCHW: Tensor) -> Tensor:
    """(O, H * W, C), place after place: how numbers lie decides how their products are rounded."""
    return grid_OCHW.flatten(2).transpose(1, 2).contiguous()
