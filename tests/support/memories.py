"""Memories of several frames, as propagation makes them."""

from __future__ import annotations

from vis_core.models.seq_mask_rcnn.memory import Growing, Memory


def grown(first: Memory, *later: Memory) -> Memory:
    growing = Growing(first, 1 + len(later))
    for frame in later:
        growing.add(frame)
    return growing.memory
