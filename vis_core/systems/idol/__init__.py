"""idol: instances with contrastive embeddings, linked through a memory bank (IDOL)."""

from __future__ import annotations

from vis_core.systems.idol.config import IdolLinkConfig
from vis_core.systems.idol.linker import IdolLinker

__all__ = ["IdolLinkConfig", "IdolLinker"]
