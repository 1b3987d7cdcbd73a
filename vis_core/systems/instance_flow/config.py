"""Settings of the matching by instance flow (Instance Flow Assembly)."""

from __future__ import annotations

import dataclasses
from typing import Literal

FlowMode = Literal["residual", "inter_avg", "inter_iou", "affinity"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InstanceFlowLinkConfig:
    """Defaults are the paper's; `epsilon` and `conflict`, which it leaves open, are ours."""

    # Frames before each that it is matched with; more bridge longer gaps and let old errors in.
    # What the predictor did not compare is not matched.
    references: int = 3
    # Whether the first frame is one of them: brings its objects back whenever they reappear.
    first: bool = True
    # Farthest a moved centre may be from the one it meets, as a share of sqrt(height x width); too
    # high links strangers, too low breaks tracks. Not for inter_iou and affinity.
    epsilon: float = 0.06
    # Least IoU or affinity of a link, for flow_mode inter_iou and affinity; too high breaks tracks.
    min_similarity: float = 0.1
    # Who wins if several instances want one track: `greedy` the nearest, and the others take what
    # is left; `hungarian` the least total distance; `allow` all, as one mask (the paper's words).
    conflict: Literal["greedy", "allow", "hungarian"] = "greedy"
    # What leads to the reference frame: `residual` is the paper's; the others are its baselines,
    # for which predictions need `mean_offset` (inter_avg) or `ref_affinity`.
    flow_mode: FlowMode = "residual"
    # A track's score: mean over its frames of class score x centre peak, or of one of them.
    score: Literal["product", "semantic", "center"] = "product"
    break_at_cuts: bool = False  # a track ends with its shot

    def columns(self) -> list[tuple[str, ...]]:
        """What this way of linking reads of every instance."""
        leads = {"residual": [("ref_flow",)], "inter_avg": [("ref_flow",), ("mean_offset",)]}
        return [("class_scores",), ("center",), *leads.get(self.flow_mode, [("ref_affinity",)])]

    def __post_init__(self) -> None:
        if self.references < 0:
            raise ValueError(f"references: expected 0 or more frames, got {self.references}")
        if not self.references and not self.first:
            raise ValueError("references=0 with first=false leaves nothing to match with")
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon: expected 0 or more, got {self.epsilon}")
        if not 0 <= self.min_similarity <= 1:
            raise ValueError(f"min_similarity: expected 0 to 1, got {self.min_similarity}")
