"""What a direction remembers of its objects, and how a frame reads it (section 3.3).

Shapes: O objects, M remembered places (frames x grid), K key and V value channels, H x W the grid
at stride 16.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Keys and values of every object. Adding a frame gives another memory."""

    keys_OMK: Tensor
    values_OMV: Tensor

    @classmethod
    def of(cls, keys_OKHW: Tensor, values_OVHW: Tensor) -> Memory:
        """The memory of one frame."""
        return cls(keys_OMK=_places(keys_OKHW), values_OMV=_places(values_OVHW))

    def __add__(self, later: Memory) -> Memory:
        return Memory(
            keys_OMK=torch.cat([self.keys_OMK, later.keys_OMK], dim=1),
            values_OMV=torch.cat([self.values_OMV, later.values_OMV], dim=1),
        )

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


def _places(grid_OCHW: Tensor) -> Tensor:
    """(O, H * W, C)"""
    return grid_OCHW.flatten(2).transpose(1, 2)
