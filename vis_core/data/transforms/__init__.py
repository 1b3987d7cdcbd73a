"""Transforms that all systems share: pictures and masks of a clip, changed alike or apart.

A clip's transform is a function of the clip, the config and a generator made of (seed, data set,
epoch, index).
"""

from vis_core.data.transforms.clip import transform
from vis_core.data.transforms.config import TransformConfig

__all__ = ["TransformConfig", "transform"]
