"""DAVIS 2017: a folder of JPEG frames and a folder of palette PNG per video, lists of videos."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vis_core.data.datasets import problems as kinds
from vis_core.data.datasets.config import DataSetConfig
from vis_core.data.datasets.files import Listings, Names, first_folder, folder_of, is_inside
from vis_core.data.datasets.model import LabelledVideo
from vis_core.data.datasets.problems import Problems
from vis_core.data.datasets.reading import OBJECT, FileDataSet, Pictures, truth_of
from vis_core.errors import UsageError
from vis_core.formats.davis import read_davis_video, read_label_map
from vis_core.formats.model import IntArray, TruthTracks, VideoHeader, only_frames, select_tracks
from vis_core.formats.names import video_id_of
from vis_core.video.images import frame_names

_MASKS = ("Annotations_unsupervised", "Annotations")
_RESOLUTIONS = ("480p", "Full-Resolution", ".")
_LISTS = "ImageSets/2017"
_NUMBER = re.compile(r"([0-9]{1,9})\.[A-Za-z]+")


class _Video(NamedTuple):
    folder: str
    files: list[str]  # of the images, in order
    numbers: IntArray  # of the images, by their names
    video: LabelledVideo


class DavisTruth:
    """Label maps of the videos, whose frames are numbered anew from 0."""

    def __init__(self, root: Path, folders: Iterable[str], numbers: Sequence[IntArray]) -> None:
        self._root = str(root)
        self._folders = Names(folders)
        self._numbers = numbers

    def read(self, video: int, header: VideoHeader, problems: Problems) -> TruthTracks:
        found = read_davis_video(Path(self._root) / self._folders[video])
        if found.video.size != header.size:
            raise UsageError(f"{header.video_id!r}: its masks have changed since it was opened")
        tracks = only_frames(found, self._numbers[video])
        return truth_of(select_tracks(tracks, np.diff(tracks.offsets) > 0))


def open_davis(config: DataSetConfig) -> FileDataSet:
    root = folder_of(config.path, config.layout)
    images = first_folder(root / "JPEGImages", _RESOLUTIONS, "folders of images")
    resolution = images.relative_to(root / "JPEGImages")
    given = (config.annotations,) if config.annotations else _MASKS
    masks = first_folder(root, [f"{name}/{resolution}" for name in given], "folders of masks")
    problems = Problems(config.name)
    names = _listed(root, masks, config.split)
    found = list(itertools.islice(_videos(names, images, masks, problems), config.limit))
    return FileDataSet(
        config,
        categories=(OBJECT,),
        videos=(item.video for item in found),
        frames=Pictures(images, ([f"{v.folder}/{name}" for name in v.files] for v in found)),
        truth=DavisTruth(masks, (v.folder for v in found), [v.numbers for v in found]),
        problems=problems,
    )


def _listed(root: Path, masks: Path, split: str | None) -> list[str]:
    """Names of the videos; without any lists, all there are."""
    lists = root / _LISTS
    if split is None and not lists.is_dir():
        return sorted(path.name for path in masks.iterdir() if path.is_dir())
    path = lists / f"{split or 'train'}.txt"
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{str(path)!r}: expected a list of videos, got {error}; name one with `split`"
        ) from error


def _videos(names: list[str], images: Path, masks: Path, problems: Problems) -> Iterator[_Video]:
    pictures, labels = Listings(images), Listings(masks)
    for name in names:
        if not is_inside(name) or "/" in name:
            problems.add(kinds.UNSAFE_NAMES, name)
            continue
        files = _numbered(frame_names(pictures.names(name)))
        maps = _numbered(file for file in labels.names(name) if file.endswith(".png"))
        if not files or not maps:
            problems.add(kinds.NO_MASKS if files else kinds.MISSING_VIDEOS, name)
            continue
        for number in sorted(maps.keys() - files.keys()):
            problems.add(kinds.NO_IMAGE, f"{name}/{maps[number]}")
        try:
            size = read_label_map(masks / name / maps[min(maps)]).shape
        except UsageError as error:
            problems.add(kinds.UNREADABLE_TRUTH, str(error))
            continue
        numbers = np.array(sorted(files), np.int64)
        annotated = np.flatnonzero(np.isin(numbers, list(maps)))
        header = VideoHeader(
            video_id=video_id_of(name), height=size[0], width=size[1], num_frames=len(files)
        )
        video = LabelledVideo(header=header, annotated=annotated)
        yield _Video(name, [files[number] for number in sorted(files)], numbers, video)


def _numbered(names: Iterable[str]) -> dict[int, str]:
    found = ((_NUMBER.fullmatch(name), name) for name in names)
    return {int(match[1]): name for match, name in found if match}
