"""Settings of IDOL; the linker's defaults are those of the released tracker on YouTube-VIS."""

from __future__ import annotations

import dataclasses
from typing import Literal

from vis_core.association.idol import Assoc

Preset = Literal["ytvis", "ovis"]
ScoreRule = Literal["mean", "max"]

_PRESETS: dict[Preset, tuple[float, float]] = {"ytvis": (0.5, 0.2), "ovis": (0.3, 0.3)}
_SHARES = ("nms_pre", "min_score", "init_score", "add_new", "match", "emit")
_FUSION_EMIT = 0.01
_SHORTEST_PX, _LONGEST_PX = 32, 16_384  # sides of the network's input


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IdolPredictConfig:
    """The network, and how frames are shown to it. Members that differ in size are views."""

    # Of `reelmask train`, or released: `shipped:idol` comes with reelmask.
    weights: str = dataclasses.field(default="shipped:idol", metadata={"file": True})
    # Frames are made this large; none: as the weights were trained for, 480 for released ones.
    # Smaller loses small objects, larger costs time and may be unlike what was trained on.
    short_side_px: int | None = None
    # The longest other side, at which a frame becomes smaller as a whole: 16:9 needs 1.78 times the
    # short side. None: the weights' own, 1333 for released ones.
    long_edge_cap: int | None = None
    # Instances below get no mask and are forgotten, but a frame's best never is: too low costs time
    # and disk, too high leaves nothing to choose from when linking again.
    emit_floor: float = 0.05
    # Boxes of one category that overlap more are one instance: too high keeps doubles, too low
    # loses neighbours.
    nms: float = 0.9
    batch_size: int = 4  # frames that pass the network together; other sizes, other last digits
    # Threads of a network on a processor. More is faster and moves the last digits; the Ray runner
    # is faster still with a worker for each core.
    cpu_threads: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("short_side_px", _SHORTEST_PX, _LONGEST_PX),
            ("long_edge_cap", _SHORTEST_PX, _LONGEST_PX),
            ("emit_floor", 0, 1),
            ("nms", 0, 1),
            ("batch_size", 1, 4096),
            ("cpu_threads", 1, 1024),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name}: expected {low} to {high}, got {value}")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IdolLinkConfig:
    """Scores and overlaps are compared with `>`: a value exactly at a threshold is not above it."""

    # Which release's `nms_pre` and `add_new` hold where they are not given: `ytvis` 0.5 and 0.2,
    # `ovis` 0.3 and 0.3, which gives fewer and cleaner tracks in crowded scenes.
    preset: Preset = "ytvis"
    # Mask overlap above which only the better of two instances stays: too high keeps duplicates,
    # too low loses objects in front of each other.
    nms_pre: float | None = None
    # Score from which an instance like no known track starts one: too low starts false tracks, too
    # high misses objects that come in later.
    add_new: float | None = None
    # Instances below are no candidates, but a frame's best always is: too low takes noise into
    # tracks, too high tears holes into them.
    min_score: float = 0.1
    init_score: float = 0.2  # like `add_new`, while no track is remembered at all
    # Similarity above which an instance continues a track: too low mixes up ids, too high breaks
    # tracks.
    match: float = 0.5
    # Embeddings a track remembers: few follow changes of appearance, many smooth over them.
    memory: int = 3
    # Frames after which an unseen track is forgotten: too low gives objects that return a new id,
    # too high gives a newcomer an old one.
    forget: int = 10
    # `code`: a track takes one instance, and of several similar tracks the one matched most often
    # wins, as released. `report`: the most similar track, whatever other instances chose.
    assoc: Assoc = "code"
    # An instance never continues a track with a smaller cosine; none: no limit, as released, where
    # a single track in memory is continued by any instance. Too high breaks tracks.
    min_cosine: float | None = None
    # Tracks of fewer frames are dropped once they were unseen for two frames, but not within the
    # first nine: too low keeps flicker, too high loses what is briefly there.
    min_len: int = 3
    score: ScoreRule = "mean"  # over a track's own frames, per category; `max` favours long tracks
    # A track gets a result line for every category above this score: too low floods the results,
    # too high loses tracks that are unsure of their category.
    emit: float = 0.05
    multi_class: bool = True  # off: one line per track, its best category
    # Tracks are to be fused with those of other members: lines from 0.01 instead of `emit`.
    for_fusion: bool = False
    break_at_cuts: bool = False  # a track ends with its shot

    def __post_init__(self) -> None:
        for name in _SHARES:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name}: expected 0 to 1, got {value}")
        if self.min_cosine is not None and not -1 <= self.min_cosine <= 1:
            raise ValueError(f"min_cosine: expected -1 to 1, or none, got {self.min_cosine}")
        for name in ("memory", "forget", "min_len"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected 1 or more frames, got {getattr(self, name)}")

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
