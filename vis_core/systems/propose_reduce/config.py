"""Settings of propose_reduce; None stands for what the preset says."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

from vis_core.windows import WindowSpec

DataSetName = Literal["ytvis", "davis"]
Preset = Literal["release", "paper"]

# By preset and data set. `memory` is (every, about): exactly one of both.
_PROPOSE: Mapping[tuple[Preset, DataSetName], Mapping[str, Any]] = {
    ("release", "ytvis"): {"num_key_frames": 5, "memory": (1, None)},
    ("release", "davis"): {"num_key_frames": 8, "memory": (None, 10)},
    ("paper", "ytvis"): {"num_key_frames": 6, "memory": (1, None)},
    ("paper", "davis"): {"num_key_frames": 4, "memory": (1, None)},
}
_MASK_OVERLAP: Mapping[Preset, float] = {"release": 0.2, "paper": math.inf}
_INPUT: Mapping[DataSetName, tuple[int, int]] = {"ytvis": (640, 360), "davis": (854, 480)}
NETWORKS = ("resnet50", "resnet101", "resnext101_64x4d")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ProposeReducePredictConfig:
    """Which network, where it proposes, and how far it follows."""

    weights: str = dataclasses.field(default="shipped:propose_reduce", metadata={"file": True})
    # The network of a released file; files that `reelmask train` wrote say it themselves.
    network: Literal["resnet50", "resnet101", "resnext101_64x4d"] | None = None
    # Names of a released file's classes; none: ytvis19 for 40 classes, else class_1 and so on.
    classes: Literal["ytvis19", "ytvis21", "davis"] | None = None
    # Which numbers stand for those left out. `paper`: a key frame shows what was detected there,
    # detected masks may overlap, and key frames follow eq. 1.
    preset: Preset = "release"
    data_set: DataSetName = "ytvis"  # whose numbers; davis has larger pictures and a sparser memory
    # The largest picture; larger finds smaller objects and takes longer. None: what the weights
    # were trained with, or the data set's.
    long_side_px: int | None = None
    short_side_px: int | None = None
    # Frames of a window in which objects are looked for: few miss what comes and goes, many cost
    # time and repeat sequences.
    num_key_frames: int | None = None
    # A frame is remembered every so many frames, or about so many per window: too seldom loses
    # what changes, too often costs time and memory. One of both.
    memory_every: int | None = None
    memory_about: int | None = None
    min_score: float = 0.2  # of an object in a key frame; too low follows noise
    box_overlap: float = 0.5  # of boxes of a class; too low merges neighbours
    max_objects: int = 10  # of a key frame; time grows with them
    # A detected mask goes that overlaps a kept one of its key frame by as much (0.2; paper: never).
    mask_overlap: float | None = None
    # Longer videos are cut into windows of so many frames, proposed in each on its own, and linked
    # on what they share: short windows propose more often, long ones remember for longer.
    window_frames: int = 72
    # What is out of sight for all of these frames comes back with a new id; many are work done
    # twice.
    window_overlap: int = 18
    # Masks are enlarged to the video's size before they are cut at 0.5. Off, as released: after it.
    smooth: bool = False
    # Features kept for the way back; what does not fit is computed again.
    feature_bytes: int = dataclasses.field(default=2 << 30, metadata={"execution_only": True})
    batch_size: int = 8  # frames that pass the backbone together; other sizes, other last digits
    # Threads of a network on a processor. More is faster and moves the last digits; the Ray runner
    # is faster still with a worker for each core.
    cpu_threads: int = 1

    def __post_init__(self) -> None:
        if self.network is not None and self.network not in NETWORKS:
            raise ValueError(f"network: expected one of {NETWORKS}, got {self.network!r:.80}")
        for name, lowest, highest in (
            ("long_side_px", 32, 8192),
            ("short_side_px", 32, 4096),
            ("num_key_frames", 1, 10_000),
            ("memory_every", 1, 10_000),
            ("memory_about", 1, 10_000),
            ("max_objects", 1, 200),
            ("window_frames", 2, 10_000),
            ("window_overlap", 0, 9_999),
            ("feature_bytes", 0, 1 << 50),
            ("batch_size", 1, 1024),
            ("cpu_threads", 1, 1024),
            ("min_score", 0, 1),
            ("box_overlap", 0, 1),
            ("mask_overlap", 0, math.inf),
        ):
            value = getattr(self, name)
            if value is not None and not lowest <= value <= highest:
                raise ValueError(f"{name}: expected {lowest} to {highest}, got {value}")
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
class ProposeReduceLinkConfig:
    """None stands for the release's number for the chosen reduction."""

    # `hard` for YouTube-VIS; `soft` for DAVIS, without categories; `category_aware` is hard NMS of
    # near copies, then soft NMS in each category: more tracks, each for fewer categories.
    reduce: Literal["hard", "soft", "category_aware"] = "hard"
    # What a sequence's class scores are averaged over: the frames where it is visible (release),
    # or all frames of its window (paper), which ranks objects that are seen briefly low.
    score_norm: Literal["visible", "all"] = "visible"
    # Sequence IoU from which the lower-scored one goes (hard 0.5, category_aware 0.9); too high
    # leaves doubles, too low swallows neighbours.
    nms: float | None = None
    # Hard NMS ends below this best class score (0.05), but keeps one; too high loses objects.
    min_sequence_score: float | None = None
    # Soft NMS decays by exp(-IoU² / sigma) (0.5); too high leaves doubles, too low loses neighbours
    # that overlap.
    sigma: float | None = None
    # Soft NMS ends below this decayed score (0.001); too high loses tracks, too low adds noise.
    min_soft_score: float | None = None
    # Soft NMS selects at most so many per window (20), for category_aware in each category (100).
    max_tracks: int | None = None
    # Class scores below give no result line, and a track without a line is dropped (hard 0.05,
    # category_aware 0.001); too high loses tracks that are sure of no category.
    emit: float | None = None
    # IoU on the shared frames from which tracks of neighbouring windows are one; too high breaks
    # tracks at every window, too low joins different objects.
    stitch: float = 0.5
    # Tracks are to be fused with those of other members: lines from 0.01 instead of `emit`.
    for_fusion: bool = False
    break_at_cuts: bool = False  # a track ends with its shot

    def __post_init__(self) -> None:
        for name in ("nms", "stitch"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name}: expected an IoU above 0, at most 1, got {value}")
        for name in ("sigma", "min_soft_score"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected more than 0, got {value}")
        for name in ("min_sequence_score", "emit"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name}: expected 0 or more, got {value}")
        if self.max_tracks is not None and self.max_tracks < 1:
            raise ValueError(f"max_tracks: expected 1 or more, got {self.max_tracks}")
        for name in RELEASE["category_aware"]:
            if name not in RELEASE[self.reduce] and getattr(self, name) is not None:
                raise ValueError(f"{name} has no effect with reduce={self.reduce}: leave it out")

    def number(self, name: str) -> float:
        """A setting as given, else the release's."""
        if name == "emit" and self.for_fusion:
            return _FUSION_EMIT
        given = getattr(self, name)
        return float(RELEASE[self.reduce][name] if given is None else given)
