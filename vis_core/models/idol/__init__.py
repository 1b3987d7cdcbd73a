"""IDOL's network: Deformable DETR with masks and embeddings per query."""

from __future__ import annotations

from vis_core.models.idol.config import IdolConfig
from vis_core.models.idol.network import Idol

__all__ = ["Idol", "IdolConfig"]
