"""Settings of flow_match."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from vis_core.windows import WindowSpec

_DETECTORS = (
    *("motion", "torchvision:maskrcnn_small"),
    *("torchvision:maskrcnn_resnet50_fpn", "torchvision:maskrcnn_resnet50_fpn_v2"),
)
_FLOWS = ("dis",)
_OVERLAPS = ("nms", "match", "reid_match")
_LOWEST = {"max_masks": 1, "patience": 0, "min_len": 1, "reid_frames": 0}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlowMatchPredictConfig:
    """What finds the instances, and what computes the flow between frames."""

    # `motion`: what moves on its own; needs no weights. `torchvision:NAME`: a network of theirs,
    # or the small one that `reelmask train` makes. Either way without categories.
    detector: str = "motion"
    weights: str | None = dataclasses.field(default=None, metadata={"file": True})  # of a network
    min_score: float = 0.1  # of a network's instances; too low is noise, too high loses objects
    flow: str = "dis"  # dense inverse search; needs no weights
    # `eighth`: one value per 8 x 8 pixels, to 1/8 px. `full`: all there is, 50 times the bytes.
    flow_store: Literal["eighth", "full"] = "eighth"
    kept_masks: int = 20  # best ones per frame; too few lose objects in crowds
    # Frames are made this small to be looked at: larger is slower, smaller loses small objects.
    short_side_px: int = 360
    # Rows looked at on either side. Fewer: slow objects become background. More: a moving camera
    # blurs the background, and every shard needs as many frames more.
    reach: int = 24
    min_change: int = 12  # grey levels beyond the background; too low finds noise and shadows
    min_motion_px: float = 0.6  # of the small picture, per frame; too low finds the camera's errors
    min_area: float = 0.0012  # share of the frame an object must cover; too low finds fragments
    batch_size: int = 8  # frames that pass the network together; other sizes, other last digits
    # Threads of a network on a processor. More is faster and moves the last digits; the Ray runner
    # is faster still with a worker for each core.
    cpu_threads: int = 1

    def __post_init__(self) -> None:
        for name, legal in (("detector", _DETECTORS), ("flow", _FLOWS)):
            if getattr(self, name) not in legal:
                raise ValueError(
                    f"{name}: expected one of {', '.join(legal)}, got {getattr(self, name)!r}"
                )
        if (self.detector != "motion") != (self.weights is not None):
            raise ValueError(
                f"weights: expected a file with a torchvision detector and none with motion, got"
                f" detector={self.detector}, weights={self.weights}"
            )
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score: expected 0 to 1, got {self.min_score}")
        for name, low, high in (
            ("kept_masks", 1, 1000),
            ("short_side_px", 16, 2160),
            ("reach", 5, 240),
            ("min_change", 1, 255),
            ("batch_size", 1, 4096),
            ("cpu_threads", 1, 1024),
        ):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {getattr(self, name)}")
        if not (math.isfinite(self.min_motion_px) and self.min_motion_px > 0):
            raise ValueError(f"min_motion_px: expected more than 0, got {self.min_motion_px}")
        if not 0 < self.min_area < 1:
            raise ValueError(f"min_area: expected a share between 0 and 1, got {self.min_area}")


def window(config: FlowMatchPredictConfig) -> WindowSpec:
    """The motion detector's stencil; flow alone looks one row ahead."""
    if config.detector != "motion":
        return WindowSpec(halo_after=1)
    return WindowSpec(halo_before=config.reach, halo_after=config.reach)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlowMatchLinkConfig:
    """The names and defaults of the first five are the release's."""

    max_masks: int = 100  # best detections used per frame; too few lose objects, too many cost time
    nms: float = (
        0.7  # masks overlapping more are one; too high keeps doubles, too low loses objects
    )
    match: float = 0.5  # overlap needed to continue a track; too high breaks, too low mixes up
    patience: int = 5  # frames a track survives without a match; too high leads to wrong masks
    min_len: int = 5  # tracks of fewer frames are dropped; too high loses short ones
    # `paper`: a track ends at the last frame of its patience, not after it; track NMS looks at all
    # open tracks, new and missed ones too, and cuts the current frame alone.
    preset: Literal["release", "paper"] = "release"
    one_to_one: bool = False  # best assignment, each detection in one track; not in the paper
    reid_frames: int = 0  # frames a lost track may still be found again, by its shape; 0: never
    reid_match: float = 0.6  # overlap of the shapes for that; too low joins different objects
    # Tracks are to be fused with those of other members: short ones are kept, and scores are
    # brought from length x sum, which exceeds 1, to 0 to 1 in the same order.
    for_fusion: bool = False
    break_at_cuts: bool = False  # a track ends with its shot

    def __post_init__(self) -> None:
        for name in _OVERLAPS:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected 0 to 1, got {getattr(self, name)}")
        for name, lowest in _LOWEST.items():
            if getattr(self, name) < lowest:
                raise ValueError(f"{name}: expected {lowest} or more, got {getattr(self, name)}")
