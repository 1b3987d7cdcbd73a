"""Settings of MinVIS's linker; the defaults are those of the release."""

from __future__ import annotations

import dataclasses

from vis_core.config import setting
from vis_core.system import LinkConfig

_FUSION_SCORE = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MinvisLinkConfig(LinkConfig):
    """There is nothing to tune in the matching: every query is matched, whatever its likeness."""

    topk: int = setting(
        10,
        low=1,
        says="Result lines per video: the best pairs of track and category. Too low loses objects"
        " of crowded scenes, too high floods the results with queries that see nothing.",
    )
    for_fusion: bool = setting(
        False,
        says="Keep every line from a score of 0.01, instead of the best `topk`, because tracks are"
        " fused with those of other members. On by itself where a job has several members.",
    )

    @property
    def lines(self) -> tuple[int | None, float]:
        """How many result lines a video gets at most, and from which score."""
        return (None, _FUSION_SCORE) if self.for_fusion else (self.topk, 0.0)
