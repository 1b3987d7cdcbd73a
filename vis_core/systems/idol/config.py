"""Settings of IDOL; the linker's defaults are those of the released tracker on YouTube-VIS."""

from __future__ import annotations

import dataclasses
from typing import Literal

from vis_core.association.idol import Assoc
from vis_core.config import setting
from vis_core.system import LinkConfig, NetworkConfig

Preset = Literal["ytvis", "ovis"]
ScoreRule = Literal["mean", "max"]

_PRESETS: dict[Preset, tuple[float, float]] = {"ytvis": (0.5, 0.2), "ovis": (0.3, 0.3)}
_FUSION_EMIT = 0.01
_SHORTEST_PX, _LONGEST_PX = 32, 16_384  # sides of the network's input


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IdolPredictConfig(NetworkConfig):
    """The network, and how frames are shown to it. Members that differ in size are views."""

    weights: str = setting(
        "shipped:idol",
        file=True,
        says="A file of `reelmask train`, or a released one; `shipped:idol` comes with reelmask.",
    )
    short_side_px: int | None = setting(
        None,
        low=_SHORTEST_PX,
        high=_LONGEST_PX,
        says="Frames are resized to this short side; none: as the weights were trained, 480 for"
        " released ones. Too small loses small objects, too large costs time.",
    )
    long_edge_cap: int | None = setting(
        None,
        low=_SHORTEST_PX,
        high=_LONGEST_PX,
        says="Longest other side, at which a frame shrinks as a whole; 16:9 needs 1.78 times the"
        " short side. None: the weights' own, 1333 for released ones.",
    )
    emit_floor: float = setting(
        0.05,
        low=0,
        high=1,
        says="Instances below this score get no mask, but a frame's best always does. Too low costs"
        " time and disk, too high leaves nothing to choose from when linking again.",
    )
    nms: float = setting(
        0.9,
        low=0,
        high=1,
        says="Boxes of one category that overlap more are one instance. Too high keeps doubles, too"
        " low loses neighbours.",
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IdolLinkConfig(LinkConfig):
    """Scores and overlaps are compared with `>`: a value exactly at a threshold is not above it."""

    preset: Preset = setting(
        "ytvis",
        says="Which release's `nms_pre` and `add_new` hold where they are not given: ytvis 0.5 and"
        " 0.2, ovis 0.3 and 0.3, which gives fewer and cleaner tracks in crowded scenes.",
    )
    nms_pre: float | None = setting(
        None,
        low=0,
        high=1,
        says="Of two instances whose masks overlap more, only the better one stays. Too high keeps"
        " duplicates, too low loses objects in front of each other.",
    )
    add_new: float | None = setting(
        None,
        low=0,
        high=1,
        says="Score from which an instance like no known track starts one. Too low starts false"
        " tracks, too high misses objects that come in later.",
    )
    min_score: float = setting(
        0.1,
        low=0,
        high=1,
        says="Instances below are no candidates, but a frame's best always is. Too low takes noise"
        " into tracks, too high tears holes into them.",
    )
    init_score: float = setting(
        0.2, low=0, high=1, says="Like `add_new`, while no track is remembered at all."
    )
    match: float = setting(
        0.5,
        low=0,
        high=1,
        says="Similarity above which an instance continues a track. Too low mixes up ids, too high"
        " breaks tracks.",
    )
    memory: int = setting(
        3,
        low=1,
        says="Embeddings a track remembers: few follow changes of appearance, many smooth over"
        " them.",
    )
    forget: int = setting(
        10,
        low=1,
        says="Frames after which an unseen track is forgotten. Too low gives objects that return a"
        " new id, too high gives a newcomer an old one.",
    )
    assoc: Assoc = setting(
        "code",
        says="`code`, as released: of several similar tracks the one matched most often wins, and"
        " it takes one instance. `report`: the most similar track, whatever others chose.",
    )
    min_cosine: float | None = setting(
        None,
        low=-1,
        high=1,
        says="An instance never continues a track with a smaller cosine; none, as released: no"
        " limit, so a single remembered track takes any instance. Too high breaks tracks.",
    )
    min_len: int = setting(
        3,
        low=1,
        says="Tracks of fewer frames are dropped once they were unseen for two frames, but not"
        " within the first nine. Too low keeps flicker, too high loses what shows briefly.",
    )
    score: ScoreRule = setting(
        "mean",
        says="A track's score per category, over its own frames; `max` favours long tracks.",
    )
    emit: float = setting(
        0.05,
        low=0,
        high=1,
        says="A track gets a result line for every category above this score. Too low floods the"
        " results, too high loses tracks that are unsure of their category.",
    )
    multi_class: bool = setting(True, says="Off: one line per track, its best category.")
    for_fusion: bool = setting(
        False,
        says="Give result lines from a score of 0.01 instead of `emit`, because tracks are fused"
        " with those of other members. On by itself where a job has several members.",
    )

    @property
    def max_overlap(self) -> float:
        """`nms_pre`, or the preset's."""
        return _PRESETS[self.preset][0] if self.nms_pre is None else self.nms_pre

    @property
    def new_score(self) -> float:
        """`add_new`, or the preset's."""
        return _PRESETS[self.preset][1] if self.add_new is None else self.add_new

    @property
    def emit_score(self) -> float:
        return _FUSION_EMIT if self.for_fusion else self.emit
