"""The loop of section 4.2 as the release runs it: a key frame at a time, nothing shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from vis_core.models.seq_mask_rcnn.aggregate import aggregate
from vis_core.models.seq_mask_rcnn.propagate import Start
from vis_core.models.seq_mask_rcnn.seq_prop import SeqPropHead


def propagate_plainly(
    head: SeqPropHead,
    look: Callable[[int], tuple[Tensor, Tensor, Tensor]],  # P2, C2 and C3 of a frame
    num_frames: int,
    starts: Sequence[Start],
    step: int,
) -> dict[tuple[int, int], Tensor]:
    """Soft masks (O, H, W) by (start, frame)."""
    found = {}
    for index, start in enumerate(starts):
        if not len(start.masks_OHW):
            continue
        seen = look(start.frame)
        first = head.remember(seen[0], start.masks_OHW)
        found[index, start.frame] = aggregate(head.segment(head.query(*seen), [first]))
        forward = range(start.frame + 1, num_frames)
        for frames in (forward, range(start.frame - 1, -1, -1)):
            memory = first
            for frame in frames:
                seen = look(frame)
                soft = aggregate(head.segment(head.query(*seen), [memory]))
                found[index, frame] = soft
                if (frame - start.frame) % step == 0:
                    memory = memory + head.remember(seen[0], soft)
    return found
