"""Settings of the oracle: where the truth is, what a prediction carries, and how wrong it is."""

from __future__ import annotations

import dataclasses

from vis_core.config import check, setting
from vis_core.system import LinkConfig, PredictConfig
from vis_core.windows import WindowSpec


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OraclePredictConfig(PredictConfig):
    """All noise is a pure function of (seed, video, frame, object)."""

    truth: str = setting(
        file=True,
        says="A YouTube-VIS JSON with the truth; or `formula:N` for N objects per frame, computed"
        " from the video's name.",
    )
    seed: int = setting(0, says="Another seed makes other mistakes.")
    drop: float = setting(
        0.0, low=0, high=1, says="Share of instances that are missed; 1 finds nothing."
    )
    duplicate: float = setting(
        0.0,
        low=0,
        high=1,
        says="Share of instances found twice, the second time as a proposal of its own.",
    )
    false_rate: float = setting(
        0.0, low=0, says="Mean number of instances per frame where there is nothing."
    )
    jitter_px: float = setting(
        0.0,
        low=0,
        says="Standard deviation of a shift of each mask, in whole pixels.",
    )
    label_noise: float = setting(
        0.0, low=0, high=1, says="Share of instances with another category."
    )
    score_noise: float = setting(
        0.0,
        low=0,
        says="Standard deviation of the scores around 0.9 (0.6 for a duplicate).",
    )
    embedding_dim: int = setting(
        0, low=0, says="Length of an embedding that tells objects apart; 0: none."
    )
    embedding_noise: float = setting(
        0.0,
        low=0,
        says="Standard deviation of the embedding's noise; 1 is as large as the signal.",
    )
    centers: bool = setting(False, says="Predict box centres, and a mean offset of zero.")
    ref_flow: int = setting(
        0,
        low=0,
        says="References per frame before this one, besides the first frame; 0: none.",
    )
    flow: bool = setting(
        False, says="Predict forward flow to the next frame, at an eighth of the size."
    )
    proposals: bool = setting(
        True, says="Predict the object's number in the truth, as the oracle's linker needs it."
    )

    def __post_init__(self) -> None:
        check(self)
        if self.ref_flow and not self.centers:
            raise ValueError("ref_flow starts at instance centres: set centers=true as well")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class OracleLinkConfig(LinkConfig):
    """One track per proposal."""

    min_score: float = setting(
        0.0, says="Instances below this score are ignored. Too high loses tracks."
    )
    min_len: int = setting(
        1, low=1, says="Tracks of fewer frames are dropped. Too high loses short ones."
    )
    for_fusion: bool = setting(
        False, says="No effect here: every track is a result line anyway, for a fusion as well."
    )


def window(config: OraclePredictConfig) -> WindowSpec:
    """References look back, flow looks one frame ahead."""
    return WindowSpec(
        halo_before=config.ref_flow,
        halo_after=1 if config.flow else 0,
        pin_first=config.ref_flow > 0,
    )
