"""What every data set is, whatever its layout on disk: videos with frames and truth.

A set of images is a data set of videos with one frame each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vis_core.formats.model import TruthTracks, VideoHeader
from vis_core.types import Category

Pixels = npt.NDArray[np.uint8]  # (H, W, 3), RGB


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LabelledVideo:
    """One video of a data set. Its `annotated` frames are those whose truth is complete."""

    header: VideoHeader
    annotated: npt.NDArray[np.int64]  # ascending frame indices; SA-V has every fourth, say
    seed: int | None = None  # of a synthetic clip


class DataSet(Protocol):
    """Headers at once; truth and pixels of a video when they are asked for.

    Instances are small to pickle: loader processes get a copy each.
    """

    name: str  # for messages and logs: the layout and where it lies
    categories: Sequence[Category]  # labels as the files have them
    videos: Sequence[LabelledVideo]

    def truth(self, video: int) -> TruthTracks:
        """The truth about the video at this position in `videos`."""
        ...

    def frame(self, video: int, frame_index: int) -> Pixels:
        """One frame, RGB; smaller than the header says where frames are kept small."""
        ...
