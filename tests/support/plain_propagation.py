"""Propose-Reduce's algorithm 1 as the release runs it: a key frame at a time, nothing shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vis_core.models.seq_mask_rcnn.aggregate import aggregate
from vis_core.models.seq_mask_rcnn.memory import Memory
from vis_core.models.seq_mask_rcnn.propagate import Start
from vis_core.models.seq_mask_rcnn.seq_prop import SeqPropHead


class PlainMemory(Memory):
    """Reads by a softmax over all places, every similarity held at once."""

    def read(self, query_1KHW: Tensor) -> Tensor:
        queries_KQ = query_1KHW[0].flatten(1)
        alike_OMQ = (self.keys_OMK @ queries_KQ) / len(queries_KQ) ** 0.5
        read_OVQ = self.values_OMV.mT @ alike_OMQ.softmax(dim=1)
        return read_OVQ.unflatten(2, query_1KHW.shape[-2:])


def joined(first: Memory, later: Memory) -> Memory:
    """Of the kind of the first."""
    return type(first)(
        keys_OMK=torch.cat([first.keys_OMK, later.keys_OMK], dim=1),
        values_OMV=torch.cat([first.values_OMV, later.values_OMV], dim=1),
    )


def plain(memory: Memory) -> PlainMemory:
    return PlainMemory(keys_OMK=memory.keys_OMK, values_OMV=memory.values_OMV)


def propagate_plainly(
    head: SeqPropHead,
    look: Callable[[int], tuple[Tensor, Tensor, Tensor]],  # P2, C2 and C3 of a frame
    num_frames: int,
    starts: Sequence[Start],
    step: int,
    *,
    by_formula: bool = True,  # off: memories read with the same kernel, so that rounding is alike
) -> dict[tuple[int, int], Tensor]:
    """Soft masks (O, H, W) by (start, frame)."""
    found = {}
    for index, start in enumerate(starts):
        if not len(start.masks_OHW):
            continue
        seen = look(start.frame)
        first = head.remember(seen[0], start.masks_OHW)
        first = plain(first) if by_formula else first
        found[index, start.frame] = aggregate(head.segment(head.query(*seen), [first]))
        forward = range(start.frame + 1, num_frames)
        for frames in (forward, range(start.frame - 1, -1, -1)):
            memory = first
            for frame in frames:
                seen = look(frame)
                soft = aggregate(head.segment(head.query(*seen), [memory]))
                found[index, frame] = soft
                if (frame - start.frame) % step == 0:
                    memory = joined(memory, head.remember(seen[0], soft))
    return found
