"""Which data set, and how much of it: one entry of a job's list `data`."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Literal, TypeAlias

Layout: TypeAlias = Literal["ytvis", "ovis", "uvo", "davis", "coco", "mask_folders", "sav", "synth"]
LAYOUT_NAMES: tuple[str, ...] = typing.get_args(Layout)
# A setting without effect is a mistake: layouts that know it.
_FOR = {
    "split": ("davis", "coco", "mask_folders"),
    "annotations": ("ytvis", "ovis", "uvo", "davis", "coco", "sav", "synth"),
    "cache_short_side_px": ("uvo", "sav", "synth"),
}
_SMALLEST_PX, _LARGEST_PX = 16, 65_535


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DataSetConfig:
    """One folder in one of the layouts that docs/datasets.md shows."""

    layout: Layout
    path: str
    # The file with the truth, below `path`, where there are several; for davis the folder of the
    # masks, for sav `manual` or `auto`.
    annotations: str | None = None
    split: str | None = None  # of layouts that keep several side by side, such as `train2017`
    # Too low: the set is hardly seen beside others. Too high: the others are.
    weight: float = 1.0
    # Off: what is wrong is counted and left out. On: it is an error, before training begins.
    strict: bool = False
    class_agnostic: bool = False  # all instances are of one category, `object`
    limit: int | None = None  # the first so many usable videos
    # MP4 frames are kept with this short side, at most. Too low: small objects are lost. None:
    # full size, which takes 3 bytes per pixel and frame on disk.
    cache_short_side_px: int | None = None

    def __post_init__(self) -> None:
        if self.layout not in LAYOUT_NAMES:
            raise ValueError(
                f"layout: expected one of {', '.join(LAYOUT_NAMES)}, got {self.layout!r:.80}"
            )
        for name in ("path", "annotations", "split"):
            if getattr(self, name) == "":
                raise ValueError(f"{name}: expected a name, got empty text")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise ValueError(f"weight: expected a finite number above 0, got {self.weight}")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit: expected 1 or more, got {self.limit}")
        side = self.cache_short_side_px
        if side is not None and not _SMALLEST_PX <= side <= _LARGEST_PX:
            raise ValueError(
                f"cache_short_side_px: expected {_SMALLEST_PX} to {_LARGEST_PX}, got {side}"
            )
        for name, layouts in _FOR.items():
            if getattr(self, name) is not None and self.layout not in layouts:
                raise ValueError(
                    f"{name}: expected nothing with layout {self.layout}, where it has no effect,"
                    f" got {getattr(self, name)!r:.80}"
                )

    @property
    def name(self) -> str:
        """For messages and logs."""
        return f"{self.layout} at {self.path}"
