"""Objects of key frames, followed through a video in both directions.

Propose-Reduce, section 3.1.2 and algorithm 1.

Every key frame has its own memory, and each direction starts anew from it. But all of them look at
the same frames: one sweep forward and one backward serve all key frames, so that a frame's features
are needed twice, and its objects go through the layers together.

Shapes: O objects of one key frame, H x W pixels of the padded image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from vis_core.models.seq_mask_rcnn.aggregate import aggregate
from vis_core.models.seq_mask_rcnn.key_frames import remembered
from vis_core.models.seq_mask_rcnn.memory import Growing, Memory
from vis_core.models.seq_mask_rcnn.seq_prop import Query, SeqPropHead


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What propagation needs of a frame."""

    p2_1CHW: Tensor
    query: Query


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """The objects of a key frame."""

    frame: int
    masks_OHW: Tensor  # 0..1, as large as the padded image or smaller

    def __repr__(self) -> str:
        return f"Start(frame {self.frame}, {len(self.masks_OHW)} objects)"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The objects of one start in one frame."""

    start: int  # its place among the starts
    frame: int
    masks_OHW: Tensor  # soft

    def __repr__(self) -> str:
        return f"Found(start {self.start}, frame {self.frame}, {len(self.masks_OHW)} objects)"


def propagate(
    head: SeqPropHead,
    view: Callable[[int], View],
    num_frames: int,
    starts: Sequence[Start],
    step: int,
) -> Iterator[Found]:
    """Every start with objects in every frame once: first those from it on, then those before.

    `view` is asked once per frame and direction, in order, up and then down. The key frame itself
    is segmented, too: what was detected there only begins the memory.
    """
    for start in starts:
        if not 0 <= start.frame < num_frames:
            raise ValueError(f"{start} is outside of {num_frames} frames")
    firsts: dict[int, Memory] = {}
    yield from _sweep_up(head, view, num_frames, starts, step, firsts)
    yield from _sweep_down(head, view, num_frames, starts, step, firsts)


def _sweep_up(
    head: SeqPropHead,
    view: Callable[[int], View],
    num_frames: int,
    starts: Sequence[Start],
    step: int,
    firsts: dict[int, Memory],
) -> Iterator[Found]:
    """Fills `firsts`: what each start remembers of its key frame."""
    memories: dict[int, Growing] = {}
    plans = [remembered(start.frame, range(start.frame, num_frames), step) for start in starts]
    for frame in range(num_frames):
        begin = {i: starts[i].masks_OHW for i in _at(starts, frame)}
        if not begin and not memories:
            continue
        seen = view(frame)
        new = _remember(head, seen, begin)
        firsts.update(new)
        memories.update({i: Growing(new[i], 1 + len(plans[i])) for i in new})
        yield from _visit(head, seen, frame, memories, plans)


def _sweep_down(
    head: SeqPropHead,
    view: Callable[[int], View],
    num_frames: int,
    starts: Sequence[Start],
    step: int,
    firsts: Mapping[int, Memory],
) -> Iterator[Found]:
    memories: dict[int, Growing] = {}
    plans = [remembered(start.frame, range(start.frame, -1, -1), step) for start in starts]
    for frame in range(num_frames - 1, -1, -1):
        if memories:
            yield from _visit(head, view(frame), frame, memories, plans)
        memories.update({i: Growing(firsts[i], 1 + len(plans[i])) for i in _at(starts, frame)})


def _at(starts: Sequence[Start], frame: int) -> list[int]:
    """Starts with objects at this frame."""
    return [i for i, start in enumerate(starts) if start.frame == frame and len(start.masks_OHW)]


def _visit(
    head: SeqPropHead,
    seen: View,
    frame: int,
    memories: dict[int, Growing],
    plans: Sequence[Sequence[int]],
) -> Iterator[Found]:
    """Finds the objects of all memories, and adds to those whose plan has this frame."""
    order = sorted(memories)
    known = [memories[i].memory for i in order]
    parts = head.segment(seen.query, known).split([len(memory) for memory in known])
    masks = {i: aggregate(part) for i, part in zip(order, parts, strict=True)}
    due = {i: masks[i] for i in order if frame in plans[i]}
    for i, new in _remember(head, seen, due).items():
        memories[i].add(new)
    for i in order:
        yield Found(start=i, frame=frame, masks_OHW=masks[i])


def _remember(head: SeqPropHead, seen: View, masks: Mapping[int, Tensor]) -> dict[int, Memory]:
    """The memory of one frame for each of several starts."""
    if not masks:
        return {}
    numbers = [len(of_one) for of_one in masks.values()]
    together = head.remember(seen.p2_1CHW, torch.cat(list(masks.values())), numbers)
    return dict(zip(masks, together.split(numbers), strict=True))
