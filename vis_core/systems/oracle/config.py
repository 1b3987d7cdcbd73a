"""Settings of the oracle: where the truth is, what a prediction carries, and how wrong it is."""

from __future__ import annotations

import dataclasses
import math

from vis_core.windows import WindowSpec


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OraclePredictConfig:
    """All noise is a pure function of (seed, video, frame, object)."""

    # A YouTube-VIS JSON; or `formula:N` for N objects per frame computed from the video's name.
    truth: str = dataclasses.field(metadata={"file": True})
    # Frames handed over at once; no effect on the rows, since there is no model.
    batch_size: int = dataclasses.field(default=8, metadata={"execution_only": True})
    seed: int = 0  # another seed makes other mistakes
    drop: float = 0.0  # share of instances that are missed; 1 finds nothing
    duplicate: float = 0.0  # share of instances found twice, the second as a proposal of its own
    false_rate: float = 0.0  # mean number of instances per frame where there is nothing
    jitter_px: float = 0.0  # standard deviation of a shift of each mask, in whole pixels
    label_noise: float = 0.0  # share of instances with another category
    score_noise: float = 0.0  # standard deviation of the scores around 0.9 (0.6 for a duplicate)
    embedding_dim: int = 0  # length of an embedding that tells objects apart; 0: none
    embedding_noise: float = 0.0  # standard deviation of its noise; at 1 as large as the signal
    centers: bool = False  # box centres, and a mean offset of zero
    ref_flow: int = 0  # references per frame before this one, besides the first frame; 0: none
    flow: bool = False  # forward flow to the next frame, at an eighth of the size
    proposals: bool = True  # the number of the object in the truth, as the oracle's linker needs

    def __post_init__(self) -> None:
        for name in ("drop", "duplicate", "label_noise"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share from 0 to 1, got {getattr(self, name)}")
        for name in ("false_rate", "jitter_px", "score_noise", "embedding_noise"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}: expected 0 or more, got {value}")
        for name, lowest in (("batch_size", 1), ("embedding_dim", 0), ("ref_flow", 0)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name}: expected {lowest} or more, got {getattr(self, name)}")
        if self.ref_flow and not self.centers:
            raise ValueError("ref_flow starts at instance centres: set centers=true as well")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OracleLinkConfig:
    """One track per proposal."""

    min_score: float = 0.0  # instances below are ignored; too high loses tracks
    min_len: int = 1  # tracks of fewer frames are dropped; too high loses short ones
    break_at_cuts: bool = False  # a track ends with its shot

    def __post_init__(self) -> None:
        if self.min_len < 1:
            raise ValueError(f"min_len: expected 1 or more frames, got {self.min_len}")


def window(config: OraclePredictConfig) -> WindowSpec:
    """References look back, flow looks one frame ahead."""
    return WindowSpec(
        halo_before=config.ref_flow,
        halo_after=1 if config.flow else 0,
        pin_first=config.ref_flow > 0,
    )
