"""The systems that can run, by name."""

from __future__ import annotations

from vis_core.config import unknown_name
from vis_core.errors import UsageError
from vis_core.system import System
from vis_core.systems.flow_match import FLOW_MATCH
from vis_core.systems.idol import IDOL
from vis_core.systems.instance_flow import InstanceFlowLinkConfig, InstanceFlowLinker
from vis_core.systems.link_only import link_only
from vis_core.systems.minvis import MinvisLinkConfig, MinvisLinker
from vis_core.systems.oracle import ORACLE
from vis_core.systems.propose_reduce import PROPOSE_REDUCE

_ALL = (
    FLOW_MATCH,
    IDOL,
    link_only(
        "instance_flow",
        InstanceFlowLinkConfig,
        InstanceFlowLinker,
        InstanceFlowLinkConfig.columns,
        "Instances grouped around centres, linked by the flow of centres (IFA).",
    ),
    link_only(
        "minvis",
        MinvisLinkConfig,
        MinvisLinker,
        lambda config: [("prev_query", "embedding")],
        "Every query of a frame, linked to the frame before by one assignment (MinVIS).",
    ),
    ORACLE,
    PROPOSE_REDUCE,
)

SYSTEMS: dict[str, System] = {system.name: system for system in _ALL}


def get_system(name: str) -> System:
    """The system of this name; an unknown one is an error that names the nearest."""
    if name not in SYSTEMS:
        raise UsageError(unknown_name("system", name, sorted(SYSTEMS)))
    return SYSTEMS[name]
