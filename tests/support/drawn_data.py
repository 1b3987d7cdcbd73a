"""A data set in memory, whose truth is written down frame by frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import cv2
import numpy as np

from vis_core.data.datasets.model import LabelledVideo
from vis_core.formats.model import TruthTracks, VideoHeader, make_tracks
from vis_core.masks import rle
from vis_core.types import Category

SIZE = (12, 20)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrawnVideo:
    """Who is seen in each frame; where and how they look follows from their numbers."""

    seen: Sequence[Collection[int]]  # per frame the ids of those seen in it
    labels: Mapping[int, int] = dataclasses.field(default_factory=dict)  # by id; others have 1
    crowd: Collection[int] = ()
    annotated: Sequence[int] | None = None  # None: every frame
    size: tuple[int, int] = SIZE
    kept_size: tuple[int, int] | None = None  # of the frames, where they are kept smaller

    @property
    def annotated_frames(self) -> list[int]:
        return list(range(len(self.seen)) if self.annotated is None else self.annotated)

    def mask(self, track: int, frame: int) -> np.ndarray:
        """(H, W) what this one covers; nothing in a frame in which it is not seen."""
        covered = np.zeros(self.size, bool)
        if track in self.seen[frame]:
            top, left = track % (self.size[0] - 4), (track + frame) % (self.size[1] - 4)
            covered[top : top + 4, left : left + 4] = True
        return covered

    def picture(self, frame: int) -> np.ndarray:
        """(H, W, 3) of the frame's number and the rows' and columns', as it is kept."""
        rows, columns = np.indices(self.size)
        whole = np.stack([np.full(self.size, frame), rows, columns], axis=2).astype(np.uint8)
        if self.kept_size is None:
            return whole
        return cv2.resize(whole, self.kept_size[::-1], interpolation=cv2.INTER_AREA)


class DrawnDataSet:
    """The same as any other data set, without a disk; counts nothing, keeps nothing."""

    def __init__(self, drawn: Sequence[DrawnVideo], name: str = "drawn") -> None:
        self.name, self.drawn = name, drawn
        labels = {label for video in drawn for label in video.labels.values()} | {1}
        self.categories = [Category(label=k, name=f"class {k}") for k in sorted(labels)]
        self.videos = [
            LabelledVideo(
                header=VideoHeader(
                    video_id=f"{name}-{position}",
                    height=video.size[0],
                    width=video.size[1],
                    num_frames=len(video.seen),
                ),
                annotated=np.array(video.annotated_frames, np.int64),
            )
            for position, video in enumerate(drawn)
        ]

    def truth(self, video: int) -> TruthTracks:
        drawn = self.drawn[video]
        ids = sorted(set().union(*drawn.seen))
        places = [
            (position, frame)
            for position, track in enumerate(ids)
            for frame in drawn.annotated_frames
            if track in drawn.seen[frame]
        ]
        dense = np.array([drawn.mask(ids[k], frame) for k, frame in places], bool)
        tracks = make_tracks(
            self.videos[video].header,
            track_ids=ids,
            labels=[drawn.labels.get(track, 1) for track in ids],
            scores=np.ones(len(ids)),
            owner=[k for k, _ in places],
            frame_index=[frame for _, frame in places],
            masks=rle.encode(dense.reshape(-1, *drawn.size)),
        )
        return TruthTracks(
            tracks=tracks,
            crowd=np.array([track in drawn.crowd for track in ids], bool),
            mean_areas=np.full(len(ids), 16.0),
        )

    def frame(self, video: int, frame_index: int) -> np.ndarray:
        return self.drawn[video].picture(frame_index)


def plain_video(num_frames: int, annotated: Sequence[int] | None = None) -> DrawnVideo:
    """One instance that is seen in all frames."""
    return DrawnVideo(seen=[{1}] * num_frames, annotated=annotated)
