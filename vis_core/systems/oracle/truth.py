"""What the oracle sees of a truth: the objects of a frame, one video at a time."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vis_core.errors import UsageError
from vis_core.formats import ytvis
from vis_core.formats.model import VideoHeader, VideoTracks, no_tracks
from vis_core.masks import rle
from vis_core.types import Category

logger = logging.getLogger(__name__)

_MAX_LABEL = 10_000  # class scores have one number per label up to the largest


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TruthFrame:
    """The objects seen in one frame, by their number within the video."""

    objects: npt.NDArray[np.int32]  # (N,)
    labels: npt.NDArray[np.int32]  # (N,)
    masks: Sequence[bytes]  # N, none of them empty
    boxes: npt.NDArray[np.float32]  # (N, 4)

    @property
    def centers(self) -> npt.NDArray[np.floating]:
        """(N, 2) y, x of the middle of each box."""
        return centers_of(self.boxes)


def centers_of(boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.floating]:
    """(N, 2) y, x of the middle of each box."""
    return (boxes[:, [1, 0]] + boxes[:, [3, 2]]) / 2


class VideoTruth(Protocol):
    """The objects of one video."""

    num_objects: int

    def frame(self, frame_index: int) -> TruthFrame: ...


class Truth(Protocol):
    """Where the truth about videos comes from."""

    categories: list[Category]

    def video(self, video_id: str, size: rle.Size) -> VideoTruth: ...


class TruthFile:
    """A YouTube-VIS truth file."""

    def __init__(self, path: str) -> None:
        self._file = ytvis.TruthFile(path)
        self.categories = self._file.categories
        for category in self.categories:
            if not 1 <= category.label <= _MAX_LABEL:
                raise UsageError(
                    f"{path}: category ids go from 1 to {_MAX_LABEL}, got {category.label}"
                )
        self._warned = False

    def video(self, video_id: str, size: rle.Size) -> VideoTruth:
        """The truth of one video, whose masks must have this size."""
        known, path = self._file.videos.get(video_id), self._file.path
        if known is None:
            if not self._warned:
                logger.warning("%s knows no video %r: it gets no instances", path, video_id)
                self._warned = True
            nothing = VideoHeader(video_id=video_id, height=size[0], width=size[1], num_frames=0)
            return AnnotatedVideo(no_tracks(nothing))
        has = known.header.size
        if has != tuple(size):
            raise UsageError(
                f"{path}: video {video_id!r} is {has[0]} x {has[1]}, but the video is {size[0]} x"
                f" {size[1]} (height x width): the truth belongs to another video"
            )
        return AnnotatedVideo(self._file.video(video_id).tracks)


class AnnotatedVideo:
    """The tracks of one video as masks by frame; objects are numbered as their ids ascend."""

    def __init__(self, tracks: VideoTracks) -> None:
        self.num_objects = len(tracks)
        number = np.empty(len(tracks), np.int32)
        number[np.argsort(tracks.track_ids, kind="stable")] = np.arange(len(tracks))
        objects = number[tracks.owner]
        order = np.lexsort((objects, tracks.frame_index))
        self._objects = objects[order]
        self._labels = tracks.labels[tracks.owner][order].astype(np.int32)
        self._masks = [tracks.masks[i] for i in order.tolist()]
        self._boxes = rle.boxes(self._masks, tracks.video.size)
        ends = np.arange(tracks.video.num_frames + 1)
        self._offsets = np.searchsorted(tracks.frame_index[order], ends).tolist()

    def frame(self, frame_index: int) -> TruthFrame:
        known = 0 <= frame_index < len(self._offsets) - 1
        start, stop = self._offsets[frame_index : frame_index + 2] if known else (0, 0)
        return TruthFrame(
            objects=self._objects[start:stop],
            labels=self._labels[start:stop],
            masks=self._masks[start:stop],
            boxes=self._boxes[start:stop],
        )
