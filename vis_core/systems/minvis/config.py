"""Settings of MinVIS's linker; the defaults are those of the release."""

from __future__ import annotations

import dataclasses

_FUSION_SCORE = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MinvisLinkConfig:
    """There is nothing to tune in the matching: every query is matched, whatever its likeness."""

    # Result lines per video, the best pairs of track and category: too low loses objects of
    # crowded scenes, too high floods the results with queries that see nothing.
    topk: int = 10
    # Tracks are to be fused with those of other members: every line from a score of 0.01, instead
    # of the best `topk`.
    for_fusion: bool = False
    break_at_cuts: bool = False  # a track ends with its shot

    def __post_init__(self) -> None:
        if self.topk < 1:
            raise ValueError(f"topk: expected 1 or more, got {self.topk}")

    @property
    def lines(self) -> tuple[int | None, float]:
        """How many result lines a video gets at most, and from which score."""
        return (None, _FUSION_SCORE) if self.for_fusion else (self.topk, 0.0)
