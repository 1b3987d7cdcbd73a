"""Which data set, and how much of it: one entry of a job's list `data`."""

from __future__ import annotations

import dataclasses
import typing
from typing import Literal, TypeAlias

from vis_core.config import brief, check, setting

Layout: TypeAlias = Literal["ytvis", "ovis", "uvo", "davis", "coco", "mask_folders", "sav", "synth"]
LAYOUT_NAMES: tuple[str, ...] = typing.get_args(Layout)
# A setting without effect is a mistake: layouts that know it.
_FOR = {
    "split": ("davis", "coco", "mask_folders"),
    "annotations": ("ytvis", "ovis", "uvo", "davis", "coco", "sav", "synth"),
    "cache_short_side_px": ("uvo", "sav", "synth"),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DataSetConfig:
    """One folder in one of the layouts that docs/datasets.md shows."""

    layout: Layout = setting(says="How the folder is laid out.")
    path: str = setting(says="The folder.")
    annotations: str | None = setting(
        None,
        says="The file with the truth, below `path`, where there are several; for davis the folder"
        " of the masks, for sav `manual` or `auto`.",
    )
    split: str | None = setting(
        None, says="Part of a layout that keeps several side by side, such as `train2017`."
    )
    weight: float = setting(
        1.0,
        above=0,
        says="Too low: the set is hardly seen beside others. Too high: the others are.",
    )
    strict: bool = setting(
        False,
        says="Off: what is wrong is counted and left out. On: it is an error, before training"
        " begins.",
    )
    class_agnostic: bool = setting(False, says="All instances are of one category, `object`.")
    limit: int | None = setting(None, low=1, says="The first so many usable videos.")
    cache_short_side_px: int | None = setting(
        None,
        low=16,
        high=65_535,
        says="MP4 frames are kept with this short side, at most. Too low loses small objects; none:"
        " full size, which takes 3 bytes per pixel and frame on disk.",
    )

    def __post_init__(self) -> None:
        check(self)
        for name in ("path", "annotations", "split"):
            if getattr(self, name) == "":
                raise ValueError(f"{name}: expected a name, got empty text")
        for name, layouts in _FOR.items():
            if getattr(self, name) is not None and self.layout not in layouts:
                raise ValueError(
                    f"{name}: expected nothing with layout {self.layout}, where it has no effect,"
                    f" got {brief(getattr(self, name))}"
                )

    @property
    def name(self) -> str:
        """For messages and logs."""
        return f"{self.layout} at {self.path}"
