"""The one interface behind which every system for video instance segmentation runs.

A `Predictor` lives on the accelerator and sees frames; a `Linker` lives on the CPU and sees only
predictions of one video, in frame order. Both are pure: state lives inside one call or one video.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from vis_core.types import Category, FrameBatch, FramePrediction, Hole, TrackPlan, VideoInfo
from vis_core.windows import ShardWindow, WindowSpec


class Predictor(Protocol):
    """Frames in, predictions out: one per core frame delivered, in frame order."""

    def predict(
        self, frames: Iterator[FrameBatch], window: ShardWindow
    ) -> Iterator[FramePrediction]: ...


class Linker(Protocol):
    """Decides identity on light data; returns references, never masks it was given."""

    def start(self, video: VideoInfo) -> None: ...

    def step(self, prediction: FramePrediction | Hole) -> None: ...

    def finish(self) -> list[TrackPlan]: ...


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """A named system: two config types, and how to build its two halves from them.

    Bump `predict_version` or `link_version` with every change of output: they are part of the
    fingerprints that decide what may be reused.
    """

    name: str
    predict_version: int
    link_version: int
    predict_config: type
    link_config: type
    window: Callable[[Any], WindowSpec]
    make_predictor: Callable[[Any], Predictor]
    make_linker: Callable[[Any], Linker]
    categories: Callable[[Any], list[Category]]
    # What the linker needs of every instance: for each thing, the columns one of which gives it.
    reads: Callable[[Any], Sequence[tuple[str, ...]]] = lambda config: ()
    # Columns that its instances have besides the required ones, each with the setting it takes.
    writes: Mapping[str, str] = dataclasses.field(default_factory=dict)


def link(
    linker: Linker, video: VideoInfo, predictions: Iterable[FramePrediction | Hole]
) -> list[TrackPlan]:
    """Runs a linker over one video's predictions, in any order."""

    def position(item: FramePrediction | Hole) -> tuple[int, int]:
        return item.window, item.start if isinstance(item, Hole) else item.frame_index

    linker.start(video)
    for item in sorted(predictions, key=position):
        linker.step(item)
    return linker.finish()
