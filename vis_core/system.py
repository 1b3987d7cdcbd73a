"""The one interface behind which every system for video instance segmentation runs.

A `Predictor` lives on the accelerator and sees frames; a `Linker` lives on the CPU and sees only
predictions of one video, in frame order. Both are pure: state lives inside one call or one video.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from vis_core.config import check, setting
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
class PredictConfig:
    """Settings of every predictor; a system's own config adds to them.

    One with rules between settings has a `__post_init__` of its own, which checks the bounds first.
    """

    batch_size: int = setting(
        8,
        low=1,
        high=4096,
        execution_only=True,
        says="Frames handed over at once. Too high costs memory.",
    )

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig(PredictConfig):
    """Settings of every predictor with a network; rows differ in last digits between them."""

    weights: str | None = setting(
        None, file=True, says="The file or folder that the network's weights come from."
    )
    batch_size: int = setting(
        4,
        low=1,
        high=4096,
        says="Frames that pass the network together. Too low leaves a GPU idle, too high runs out"
        " of its memory; another size moves last digits.",
    )
    cpu_threads: int = setting(
        1,
        low=1,
        high=1024,
        says="Threads of a network on a processor. More is faster and moves last digits; the Ray"
        " runner is faster still, with a worker for each core.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LinkConfig:
    """Settings of every linker; a system's own config adds to them, as with predictors."""

    break_at_cuts: bool = setting(
        False, says="A track ends with its shot. Off follows the release, across cuts."
    )
    for_fusion: bool = setting(
        False,
        says="Tracks are to be fused with those of other members: more result lines, from lower"
        " scores. On by itself where a job has several members.",
    )

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """A named system: two config types, and how to build its two halves from them.

    Bump `predict_version` or `link_version` with every change of output: they are part of the
    fingerprints that decide what may be reused.
    """

    name: str
    predict_version: int
    link_version: int
    predict_config: type[PredictConfig]
    link_config: type[LinkConfig]
    window: Callable[[Any], WindowSpec]
    make_predictor: Callable[[Any], Predictor]
    make_linker: Callable[[Any], Linker]
    categories: Callable[[Any], list[Category]]
    says: str = ""  # one sentence on the method, for a list of systems
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
