"""Settings of flow_match."""

from __future__ import annotations

import dataclasses
from typing import Literal

from vis_core.config import check, setting
from vis_core.system import LinkConfig, NetworkConfig
from vis_core.windows import WindowSpec

Detector = Literal[
    "motion",
    "torchvision:maskrcnn_small",
    "torchvision:maskrcnn_resnet50_fpn",
    "torchvision:maskrcnn_resnet50_fpn_v2",
]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlowMatchPredictConfig(NetworkConfig):
    """What finds the instances, and what computes the flow between frames."""

    detector: Detector = setting(
        "motion",
        says="What finds instances, without categories. `motion`: what moves on its own, without"
        " weights; `torchvision:NAME`: a network of theirs, or the small one that `reelmask train`"
        " makes.",
    )
    weights: str | None = setting(
        None, file=True, says="The network's weights; none with the motion detector."
    )
    min_score: float = setting(
        0.1,
        low=0,
        high=1,
        says="A network's instances below this score are ignored. Too low keeps noise, too high"
        " loses objects.",
    )
    flow: Literal["dis"] = setting(
        "dis", says="How flow is computed: by dense inverse search, which needs no weights."
    )
    flow_store: Literal["eighth", "full"] = setting(
        "eighth",
        says="How flow is stored. `eighth`: one value per 8 x 8 pixels, to 1/8 px; `full`: all of"
        " it, at 50 times the bytes.",
    )
    kept_masks: int = setting(
        20, low=1, high=1000, says="Best masks kept per frame. Too few lose objects in crowds."
    )
    short_side_px: int = setting(
        360,
        low=16,
        high=2160,
        says="Resize frames to this short side to look at them. Larger is slower, smaller loses"
        " small objects.",
    )
    reach: int = setting(
        24,
        low=5,
        high=240,
        says="Rows looked at on either side. Fewer turn slow objects into background; with more a"
        " moving camera blurs the background, and every shard decodes as many more frames.",
    )
    min_change: int = setting(
        12,
        low=1,
        high=255,
        says="Grey levels by which an object differs from the background. Too low finds noise and"
        " shadows.",
    )
    min_motion_px: float = setting(
        0.6,
        above=0,
        says="Motion per frame, in pixels of the resized frame, from which something moves. Too low"
        " finds the errors of the camera's estimate.",
    )
    min_area: float = setting(
        0.0012,
        above=0,
        below=1,
        says="Share of the frame an object must cover. Too low finds fragments.",
    )
    batch_size: int = setting(
        8,
        low=1,
        high=4096,
        says="Frames that pass the network together. Too low leaves a GPU idle, too high runs out"
        " of its memory; another size moves last digits.",
    )

    def __post_init__(self) -> None:
        check(self)
        if (self.detector != "motion") != (self.weights is not None):
            raise ValueError(
                f"weights: expected a file with a torchvision detector and none with motion, got"
                f" detector={self.detector}, weights={self.weights}"
            )


def window(config: FlowMatchPredictConfig) -> WindowSpec:
    """The motion detector's stencil; flow alone looks one row ahead."""
    if config.detector != "motion":
        return WindowSpec(halo_after=1)
    return WindowSpec(halo_before=config.reach, halo_after=config.reach)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlowMatchLinkConfig(LinkConfig):
    """The names and defaults of the first five are the release's."""

    max_masks: int = setting(
        100,
        low=1,
        says="Best detections used per frame. Too few lose objects, too many cost time.",
    )
    nms: float = setting(
        0.7,
        low=0,
        high=1,
        says="Masks that overlap more are one instance. Too high keeps doubles, too low loses"
        " objects.",
    )
    match: float = setting(
        0.5,
        low=0,
        high=1,
        says="Overlap needed to continue a track. Too high breaks tracks, too low mixes them up.",
    )
    patience: int = setting(
        5,
        low=0,
        says="Frames a track survives without a match. Too high leads to wrong masks, too low"
        " breaks tracks.",
    )
    min_len: int = setting(
        5, low=1, says="Tracks of fewer frames are dropped. Too high loses short ones."
    )
    preset: Literal["release", "paper"] = setting(
        "release",
        says="Whose rules hold. `paper`: a track ends at the last frame of its patience, not after"
        " it; track NMS looks at all open tracks, new and missed ones too, and cuts the current"
        " frame alone.",
    )
    one_to_one: bool = setting(
        False, says="Use the best assignment, each detection in one track; not in the paper."
    )
    reid_frames: int = setting(
        0, low=0, says="Frames in which a lost track may be found again by its shape; 0: never."
    )
    reid_match: float = setting(
        0.6,
        low=0,
        high=1,
        says="Overlap of the shapes for that. Too low joins different objects.",
    )
    for_fusion: bool = setting(
        False,
        says="Keep short tracks and map scores from length x sum, which exceeds 1, to 0 to 1 in the"
        " same order, because tracks are fused with those of other members. On by itself where a"
        " job has several members.",
    )
