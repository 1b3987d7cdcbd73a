"""A data set in parts that every layout brings: a table of videos, who reads frames, who truth."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, overload

import numpy as np

from vis_core.columns import offsets_of
from vis_core.data.datasets import problems as kinds
from vis_core.data.datasets.config import DataSetConfig
from vis_core.data.datasets.files import Names
from vis_core.data.datasets.model import LabelledVideo, Pixels
from vis_core.data.datasets.problems import Problems
from vis_core.data.frame_cache import FrameCache
from vis_core.errors import SourceError, UsageError
from vis_core.formats.model import BoolArray, IntArray, TruthTracks, VideoHeader, VideoTracks
from vis_core.types import Category
from vis_core.video.images import read_frame
from vis_core.video.uris import local_uri

logger = logging.getLogger(__name__)

OBJECT = Category(label=1, name="object", source="truth")
_SHAPE_TOLERANCE = 0.02  # between the shapes of a frame and of its truth: sides are rounded


class Videos(Sequence[LabelledVideo]):
    """All videos of a data set in a few arrays; COCO has a hundred thousand."""

    def __init__(self, videos: Iterable[LabelledVideo]) -> None:
        ids, facts, annotated = list[str](), list[tuple[int, ...]](), []
        for video in videos:
            header = video.header
            ids.append(header.video_id)
            seed = -1 if video.seed is None else video.seed
            facts.append((header.height, header.width, header.num_frames, seed))
            annotated.append(video.annotated)
        self._ids = Names(ids)
        self._facts = np.array(facts, np.int32).reshape(-1, 4)
        self._offsets = offsets_of([len(frames) for frames in annotated])
        self._annotated = np.concatenate([np.zeros(0, np.int64), *annotated]).astype(np.int32)

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> LabelledVideo: ...
    @overload
    def __getitem__(self, index: slice) -> list[LabelledVideo]: ...
    def __getitem__(self, index: int | slice) -> LabelledVideo | list[LabelledVideo]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return [self._video(place) for place in places]
        return self._video(places)

    def _video(self, place: int) -> LabelledVideo:
        height, width, num_frames, seed = self._facts[place].tolist()
        return LabelledVideo(
            header=VideoHeader(
                video_id=self._ids[place], height=height, width=width, num_frames=num_frames
            ),
            annotated=self._annotated[self._offsets[place] : self._offsets[place + 1]].astype(
                np.int64
            ),
            seed=None if seed < 0 else seed,
        )


class FrameReader(Protocol):
    """Pixels by position of the video and frame; raises SourceError where there are none."""

    may_be_smaller: bool  # than the truth says, by one factor

    def read(self, video: int, frame_index: int) -> Pixels: ...


class TruthReader(Protocol):
    """Tracks by position of the video; raises UsageError where the files are wrong."""

    def read(self, video: int, header: VideoHeader, problems: Problems) -> TruthTracks: ...


class FileDataSet:
    """A data set on disk. Holds no open file, so that a pickled copy is as good."""

    def __init__(
        self,
        config: DataSetConfig,
        *,
        categories: Sequence[Category],
        videos: Iterable[LabelledVideo],
        frames: FrameReader,
        truth: TruthReader,
        problems: Problems,
    ) -> None:
        self.name = config.name
        self.categories: Sequence[Category] = (
            (OBJECT,) if config.class_agnostic else tuple(categories)
        )
        self.videos: Sequence[LabelledVideo] = Videos(videos)
        self.problems = problems  # those of the files as a whole; what is read later adds to them
        self._class_agnostic = config.class_agnostic
        self._strict = config.strict
        self._frames = frames
        self._truth = truth
        self._noted: set[tuple[int, int]] = set()  # video and frame, -1 for the truth
        self._check()

    def __repr__(self) -> str:
        return f"FileDataSet({self.name!r}, {len(self.videos)} videos)"

    def truth(self, video: int) -> TruthTracks:
        """Raises SourceError where the masks of this video cannot be read."""
        header = self.videos[video].header
        problems = Problems(self.name)
        try:
            found = self._truth.read(video, header, problems)
        except (UsageError, SourceError) as error:
            self._note((video, -1), kinds.UNREADABLE_TRUTH, header.video_id)
            raise SourceError(f"{self.name}: {error}") from error
        if problems:
            self._note_all((video, -1), problems)
            if self._strict:
                raise problems.refuse()
        return _class_agnostic(found) if self._class_agnostic else found

    def frame(self, video: int, frame_index: int) -> Pixels:
        """Raises SourceError where this frame cannot be read."""
        header = self.videos[video].header
        if not 0 <= frame_index < header.num_frames:
            raise IndexError(
                f"{self.name}, video {header.video_id!r}: expected a frame of"
                f" {header.num_frames}, got {frame_index}"
            )
        try:
            pixels = self._frames.read(video, frame_index)
        except SourceError as error:
            what = f"{header.video_id}, frame {frame_index}"
            self._note((video, frame_index), kinds.UNREADABLE_IMAGES, what)
            raise SourceError(f"{self.name}: {error}") from error
        self._check_shape(pixels, header, video, frame_index)
        return pixels

    def _note(self, place: tuple[int, int], kind: str, what: str) -> None:
        problems = Problems(self.name)
        problems.add(kind, what)
        self._note_all(place, problems)

    def _note_all(self, place: tuple[int, int], problems: Problems) -> None:
        """Counts and tells what was found in a video or frame, which may be read many times."""
        if place not in self._noted:
            self._noted.add(place)
            self.problems.merge(problems)
            for line in problems.summary():
                logger.warning("%s: %s", self.name, line)

    def _check(self) -> None:
        for line in self.problems.summary():
            logger.warning("%s: %s", self.name, line)
        if not len(self.videos):
            found = "; ".join(self.problems.summary()) or "nothing to read"
            raise UsageError(
                f"{self.name}: expected videos with frames and masks, got none that can be used"
                f" ({found}); docs/datasets.md shows the tree of this layout"
            )
        if self.problems and self._strict:
            raise self.problems.refuse()

    def _check_shape(
        self, pixels: Pixels, header: VideoHeader, video: int, frame_index: int
    ) -> None:
        """Sides may be smaller by one factor, never turned or cut: masks would lie elsewhere."""
        height, width = pixels.shape[:2]
        stretch = (height / header.height) / (width / header.width)
        same_shape = abs(stretch - 1) <= _SHAPE_TOLERANCE + 1 / min(height, width)
        if (height, width) == header.size or (self._frames.may_be_smaller and same_shape):
            return
        what = f"{header.video_id}, frame {frame_index}"
        self._note((video, frame_index), kinds.OTHER_SIZES, what)
        raise SourceError(
            f"{self.name}, {what}: expected {header.height} x {header.width} pixels (height x"
            f" width) as the masks have, got {height} x {width}; pictures or masks of another"
            " version of the data set?"
        )


def _class_agnostic(truth: TruthTracks) -> TruthTracks:
    tracks = truth.tracks
    entries = dataclasses.replace(tracks.entries, labels=np.ones_like(tracks.entries.labels))
    labels = np.ones_like(tracks.labels)
    return dataclasses.replace(
        truth, tracks=dataclasses.replace(tracks, labels=labels, entries=entries)
    )


def truth_of(tracks: VideoTracks, crowd: BoolArray | None = None) -> TruthTracks:
    """The truth that these tracks are; without word about crowds, there are none."""
    total = np.bincount(tracks.owner, weights=tracks.areas, minlength=len(tracks))
    flags = np.zeros(len(tracks), bool) if crowd is None else crowd
    means = total / np.maximum(np.diff(tracks.offsets), 1)
    return TruthTracks(tracks=tracks, crowd=flags, mean_areas=means)


class Pictures:
    """Frames as files: paths below a root, those of each video one after the other."""

    may_be_smaller = False

    def __init__(self, root: Path, files: Iterable[Sequence[str]]) -> None:
        self._root = str(root)
        lengths: list[int] = []
        names: list[str] = []
        for row in files:
            names += row
            lengths.append(len(row))
        self._names = Names(names)
        self._offsets = offsets_of(lengths)

    def path(self, video: int, frame_index: int) -> Path:
        return Path(self._root) / self._names[int(self._offsets[video]) + frame_index]

    def read(self, video: int, frame_index: int) -> Pixels:
        # As an address, so that no name is taken for one.
        return read_frame(local_uri(str(self.path(video, frame_index))))


class Movies:
    """Frames in one MP4 per video; `numbers` are the places of its frames there, if not all."""

    may_be_smaller = True

    def __init__(
        self,
        root: Path,
        files: Iterable[str],
        short_side_px: int | None,
        numbers: Sequence[IntArray] | None = None,
    ) -> None:
        self._root = str(root)
        self._files = Names(files)
        self._cache = FrameCache(short_side_px)
        self._numbers = numbers

    def read(self, video: int, frame_index: int) -> Pixels:
        path = Path(self._root) / self._files[video]
        number = frame_index if self._numbers is None else int(self._numbers[video][frame_index])
        frames = self._cache.frames(path)
        if number >= len(frames):
            raise SourceError(
                f"{path}: expected more than {number} frames, as the annotations say, got"
                f" {len(frames)}"
            )
        return np.array(frames[number])
