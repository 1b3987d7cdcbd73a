"""Settings of propose_reduce; None stands for what the preset says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from vis_core.config import check, setting
from vis_core.system import LinkConfig, NetworkConfig
from vis_core.windows import WindowSpec

DataSetName = Literal["ytvis", "davis"]
Preset = Literal["release", "paper"]
Network = Literal["resnet50", "resnet101", "resnext101_64x4d"]

# By preset and data set. `memory` is (every, about): exactly one of both.
_PROPOSE: Mapping[tuple[Preset, DataSetName], Mapping[str, Any]] = {
    ("release", "ytvis"): {"num_key_frames": 5, "memory": (1, None)},
    ("release", "davis"): {"num_key_frames": 8, "memory": (None, 10)},
    ("paper", "ytvis"): {"num_key_frames": 6, "memory": (1, None)},
    ("paper", "davis"): {"num_key_frames": 4, "memory": (1, None)},
}
_MASK_OVERLAP: Mapping[Preset, float] = {"release": 0.2, "paper": math.inf}
_INPUT: Mapping[DataSetName, tuple[int, int]] = {"ytvis": (640, 360), "davis": (854, 480)}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProposeReducePredictConfig(NetworkConfig):
    """Which network, where it proposes, and how far it follows."""

    weights: str = setting(
        "shipped:propose_reduce",
        file=True,
        says="A file of `reelmask train`, or a released one; `shipped:propose_reduce` comes with"
        " reelmask.",
    )
    network: Network | None = setting(
        None,
        says="The network of a released file; files of `reelmask train` say it themselves.",
    )
    classes: Literal["ytvis19", "ytvis21", "davis"] | None = setting(
        None,
        says="Class names of a released file. None: ytvis19 for 40 classes, davis for one, else"
        " class_1 and so on.",
    )
    preset: Preset = setting(
        "release",
        says="Whose numbers stand for settings left out. `paper`: a key frame shows what was"
        " detected there, detected masks may overlap, and key frames follow equation 1.",
    )
    data_set: DataSetName = setting(
        "ytvis",
        says="The data set whose numbers hold; davis has larger pictures and remembers more"
        " seldom.",
    )
    long_side_px: int | None = setting(
        None,
        low=32,
        high=8192,
        says="Longest side of a picture. Larger finds smaller objects and takes longer; none: as"
        " the weights were trained, or the data set's.",
    )
    short_side_px: int | None = setting(
        None,
        low=32,
        high=4096,
        says="Longest short side of a picture; given together with `long_side_px`.",
    )
    num_key_frames: int | None = setting(
        None,
        low=1,
        high=10_000,
        says="Frames of a window in which objects are looked for. Too few miss what comes and goes,"
        " too many cost time and repeat sequences; none: the preset's.",
    )
    memory_every: int | None = setting(
        None,
        low=1,
        high=10_000,
        says="Remember a frame every so many; give this or `memory_about`. Too seldom loses what"
        " changes, too often costs time and memory; neither: the preset's.",
    )
    memory_about: int | None = setting(
        None,
        low=1,
        high=10_000,
        says="Remember about so many frames per window; give this or `memory_every`. Too few lose"
        " what changes, too many cost time and memory.",
    )
    min_score: float = setting(
        0.2, low=0, high=1, says="Lowest score of an object in a key frame. Too low follows noise."
    )
    box_overlap: float = setting(
        0.5,
        low=0,
        high=1,
        says="Of two boxes of a class that overlap more, only the better one stays. Too low merges"
        " neighbours.",
    )
    max_objects: int = setting(
        10, low=1, high=200, says="Most objects of a key frame; time grows with them."
    )
    mask_overlap: float | None = setting(
        None,
        low=0,
        says="A detected mask is dropped where it overlaps a kept one of its key frame by as much;"
        " none: the preset's (release 0.2, paper never).",
    )
    window_frames: int = setting(
        72,
        low=2,
        high=10_000,
        says="Longer videos are cut into windows of so many frames, proposed in each on its own,"
        " and linked on what they share. Short windows propose more often, long ones remember for"
        " longer.",
    )
    window_overlap: int = setting(
        18,
        low=0,
        high=9_999,
        says="Frames that neighbouring windows share. What is out of sight for all of them comes"
        " back with a new id; too many do work twice.",
    )
    smooth: bool = setting(
        False,
        says="Enlarge masks to the video's size before they are cut at 0.5. Off, as released: after"
        " it.",
    )
    feature_bytes: int = setting(
        2 << 30,
        low=0,
        high=1 << 50,
        execution_only=True,
        says="Memory for features kept for the way back; what does not fit is computed again.",
    )
    batch_size: int = setting(
        8,
        low=1,
        high=1024,
        says="Frames that pass the backbone together. Too low leaves a GPU idle, too high runs out"
        " of its memory; another size moves last digits.",
    )

    def __post_init__(self) -> None:
        check(self)
        if (self.long_side_px is None) != (self.short_side_px is None):
            raise ValueError("long_side_px and short_side_px: expected both or neither")
        if self.long_side_px is not None and self.long_side_px < (self.short_side_px or 0):
            raise ValueError(
                f"expected short_side_px up to long_side_px, got {self.short_side_px} and"
                f" {self.long_side_px}"
            )
        if self.memory_every is not None and self.memory_about is not None:
            raise ValueError("memory_every and memory_about: expected one of both")
        if self.window_overlap >= self.window_frames:
            raise ValueError(
                f"window_overlap: expected less than window_frames ({self.window_frames}), got"
                f" {self.window_overlap}"
            )

    @property
    def key_frames(self) -> int:
        given = self.num_key_frames
        return (
            int(_PROPOSE[self.preset, self.data_set]["num_key_frames"]) if given is None else given
        )

    @property
    def memory(self) -> tuple[int | None, int | None]:
        """(every, about)"""
        if self.memory_every is None and self.memory_about is None:
            every, about = _PROPOSE[self.preset, self.data_set]["memory"]
            return every, about
        return self.memory_every, self.memory_about

    @property
    def highest_mask_overlap(self) -> float:
        return _MASK_OVERLAP[self.preset] if self.mask_overlap is None else self.mask_overlap

    @property
    def released_input(self) -> tuple[int, int]:
        """(long, short) side of a released network's pictures."""
        return _INPUT[self.data_set]


def window(config: ProposeReducePredictConfig) -> WindowSpec:
    return WindowSpec(
        num_frames=config.window_frames, overlap=config.window_overlap, whole_windows=True
    )


# The release's numbers; a way of reduction has no step for those it does not name.
RELEASE: Mapping[str, Mapping[str, float]] = {
    "hard": {"nms": 0.5, "min_sequence_score": 0.05, "emit": 0.05},
    "soft": {"sigma": 0.5, "min_soft_score": 0.001, "max_tracks": 20},
    "category_aware": {
        "nms": 0.9,
        "min_sequence_score": 0.05,
        "sigma": 0.5,
        "min_soft_score": 0.001,
        "max_tracks": 100,
        "emit": 0.001,
    },
}
_FUSION_EMIT = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProposeReduceLinkConfig(LinkConfig):
    """None stands for the release's number for the chosen reduction."""

    reduce: Literal["hard", "soft", "category_aware"] = setting(
        "hard",
        says="How sequences are reduced: `hard` for YouTube-VIS; `soft` for DAVIS, without"
        " categories; `category_aware` is hard NMS of near copies, then soft NMS in each category:"
        " more tracks, each for fewer categories.",
    )
    score_norm: Literal["visible", "all"] = setting(
        "visible",
        says="Frames over which a sequence's class scores are averaged: those where it is `visible`"
        " (release), or `all` of its window (paper), which ranks briefly seen objects low.",
    )
    nms: float | None = setting(
        None,
        above=0,
        high=1,
        says="Sequence IoU from which hard NMS drops the lower score (hard 0.5, category_aware"
        " 0.9). Too high leaves doubles, too low swallows neighbours.",
    )
    min_sequence_score: float | None = setting(
        None,
        low=0,
        says="Hard NMS ends below this best class score (0.05), but keeps one sequence. Too high"
        " loses objects.",
    )
    sigma: float | None = setting(
        None,
        above=0,
        says="Soft NMS decays scores by exp(-IoU² / sigma) (0.5). Too high leaves doubles, too low"
        " loses neighbours that overlap.",
    )
    min_soft_score: float | None = setting(
        None,
        above=0,
        says="Soft NMS ends below this decayed score (0.001). Too high loses tracks, too low adds"
        " noise.",
    )
    max_tracks: int | None = setting(
        None,
        low=1,
        says="Most sequences that soft NMS selects per window (20), for category_aware in each"
        " category (100).",
    )
    emit: float | None = setting(
        None,
        low=0,
        says="Class scores below give no result line, and a track without a line is dropped (hard"
        " 0.05, category_aware 0.001). Too high loses tracks that are sure of no category.",
    )
    stitch: float = setting(
        0.5,
        above=0,
        high=1,
        says="IoU on the shared frames from which tracks of neighbouring windows are one. Too high"
        " breaks tracks at every window, too low joins different objects.",
    )
    for_fusion: bool = setting(
        False,
        says="Give result lines from a score of 0.01 instead of `emit`, because tracks are fused"
        " with those of other members. On by itself where a job has several members.",
    )

    def __post_init__(self) -> None:
        check(self)
        for name in RELEASE["category_aware"]:
            if name not in RELEASE[self.reduce] and getattr(self, name) is not None:
                raise ValueError(f"{name} has no effect with reduce={self.reduce}: leave it out")

    def number(self, name: str) -> float:
        """A setting as given, else the release's."""
        if name == "emit" and self.for_fusion:
            return _FUSION_EMIT
        given = getattr(self, name)
        return float(RELEASE[self.reduce][name] if given is None else given)
