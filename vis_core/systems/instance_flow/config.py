"""Settings of the matching by instance flow (Instance Flow Assembly)."""

from __future__ import annotations

import dataclasses
from typing import Literal

from vis_core.config import check, setting
from vis_core.system import LinkConfig

FlowMode = Literal["residual", "inter_avg", "inter_iou", "affinity"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class InstanceFlowLinkConfig(LinkConfig):
    """Defaults are the paper's; `epsilon` and `conflict`, which it leaves open, are ours."""

    references: int = setting(
        3,
        low=0,
        says="Frames before each that it is matched with. More bridge longer gaps and let old"
        " errors in; what the predictor did not compare is not matched.",
    )
    first: bool = setting(
        True,
        says="Match with the first frame as well, which brings its objects back whenever they"
        " reappear.",
    )
    epsilon: float = setting(
        0.06,
        low=0,
        says="How far a moved centre may be from the one it meets, as a share of sqrt(height x"
        " width). Too high links strangers, too low breaks tracks; not used by flow_mode inter_iou"
        " and affinity.",
    )
    min_similarity: float = setting(
        0.1,
        low=0,
        high=1,
        says="Lowest IoU or affinity of a link, for flow_mode inter_iou and affinity. Too high"
        " breaks tracks, too low links strangers.",
    )
    conflict: Literal["greedy", "allow", "hungarian"] = setting(
        "greedy",
        says="Who wins where several instances want one track: `greedy` the nearest, and the others"
        " take what is left; `hungarian` the assignment with the least total distance; `allow` all"
        " of them, as one mask (the paper's words).",
    )
    flow_mode: FlowMode = setting(
        "residual",
        says="What leads to the reference frame. `residual` is the paper's; the others are its"
        " baselines, for which predictions need `mean_offset`, with inter_avg, or `ref_affinity`.",
    )
    score: Literal["product", "semantic", "center"] = setting(
        "product",
        says="A track's score: the mean over its frames of class score x centre peak, or of one of"
        " the two.",
    )
    for_fusion: bool = setting(
        False, says="No effect here: every track is a result line anyway, for a fusion as well."
    )

    def __post_init__(self) -> None:
        check(self)
        if not self.references and not self.first:
            raise ValueError("references=0 with first=false leaves nothing to match with")

    def columns(self) -> list[tuple[str, ...]]:
        """What this way of linking reads of every instance."""
        leads = {"residual": [("ref_flow",)], "inter_avg": [("ref_flow",), ("mean_offset",)]}
        return [("class_scores",), ("center",), *leads.get(self.flow_mode, [("ref_affinity",)])]
