"""Settings of the sequence reduction; defaults are those of the released code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

# The release's numbers; a way of reduction has no step for those it does not name.
RELEASE: Mapping[str, Mapping[str, float]] = {
    "hard": {"nms": 0.5, "min_score": 0.05, "emit": 0.05},
    "soft": {"sigma": 0.5, "min_soft_score": 0.001, "max_tracks": 20},
    "category_aware": {
        "nms": 0.9,
        "min_score": 0.05,
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
    min_score: float | None = None
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
        for name in ("min_score", "emit"):
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
