"""minvis: every query of a frame, linked to the frame before by one assignment (MinVIS)."""

from __future__ import annotations

from vis_core.systems.minvis.config import MinvisLinkConfig
from vis_core.systems.minvis.linker import MinvisLinker

__all__ = ["MinvisLinkConfig", "MinvisLinker"]
