"""instance_flow: instances grouped around centres, linked by the flow of centres (IFA)."""

from vis_core.systems.instance_flow.config import InstanceFlowLinkConfig
from vis_core.systems.instance_flow.linker import InstanceFlowLinker

__all__ = ["InstanceFlowLinkConfig", "InstanceFlowLinker"]
