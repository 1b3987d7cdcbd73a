"""propose_reduce: sequences proposed from key frames, reduced by their overlap (Propose-Reduce)."""

from vis_core.systems.propose_reduce.config import ProposeReduceLinkConfig
from vis_core.systems.propose_reduce.linker import ProposeReduceLinker

__all__ = ["ProposeReduceLinkConfig", "ProposeReduceLinker"]
