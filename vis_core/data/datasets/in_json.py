"""Layouts whose truth is one JSON file: YouTube-VIS, OVIS, UVO, COCO, and `reelmask synth`."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vis_core.data.datasets import problems as kinds
from vis_core.data.datasets.config import DataSetConfig
from vis_core.data.datasets.files import Listings, annotation_file, folder_of, is_inside
from vis_core.data.datasets.json_truth import Entry, JsonFile
from vis_core.data.datasets.model import LabelledVideo
from vis_core.data.datasets.problems import Problems
from vis_core.data.datasets.reading import FileDataSet, FrameReader, Movies, Pictures
from vis_core.data.synth.write import TRUTH
from vis_core.errors import UsageError
from vis_core.formats.model import IntArray

_YTVIS_IMAGES = ("JPEGImages", ".")
_OVIS_IMAGES = ("train", "train/JPEGImages", "Images/train", "JPEGImages", "Images", ".")
_UVO_ANNOTATIONS = (".", "annotations", "VideoDenseSet", "VideoSparseSet", "FrameSet")
_UVO_IMAGES = (
    "uvo_videos_dense_frames",
    "uvo_videos_sparse_frames",
    "uvo_videos_frames",
    "JPEGImages",
    ".",
)
_UVO_MOVIES = ("uvo_videos_dense", "uvo_videos_sparse", "videos", ".")
_TRIED = 20  # entries that decide which folder holds the frames
_LAST_NUMBER = re.compile(r"([0-9]{1,9})\.[^./]*$")


class _Usable(NamedTuple):
    """An entry with frames, and which of them are there."""

    entry: Entry
    frames: IntArray


def open_ytvis(config: DataSetConfig) -> FileDataSet:
    root = folder_of(config.path, config.layout)
    path = annotation_file(root, config.annotations, (".", "annotations"), "")
    return _with_images(config, root, path, _YTVIS_IMAGES, ("videos",))


def open_ovis(config: DataSetConfig) -> FileDataSet:
    root = folder_of(config.path, config.layout)
    path = annotation_file(root, config.annotations, (".", "annotations"), "")
    return _with_images(config, root, path, _OVIS_IMAGES, ("videos",))


def open_coco(config: DataSetConfig) -> FileDataSet:
    root = folder_of(config.path, config.layout)
    given = config.annotations
    if given is None and config.split is not None:
        given = f"annotations/instances_{config.split}.json"
    path = annotation_file(root, given, ("annotations", "."), "instances_")
    split = config.split or path.stem.removeprefix("instances_")
    folders = (f"images/{split}", split, "images", "JPEGImages", ".")
    return _with_images(config, root, path, folders, ("images",))


def open_uvo(config: DataSetConfig) -> FileDataSet:
    """Dense and sparse videos, and the set of single frames; images, or the MP4 they come from."""
    config = dataclasses.replace(config, class_agnostic=True)
    root = folder_of(config.path, config.layout)
    path = annotation_file(root, config.annotations, _UVO_ANNOTATIONS, "")
    problems = Problems(config.name)
    file = JsonFile(path, problems, ("videos", "images"), class_agnostic=True)
    names = [entry.files[0] for entry in file.entries[:_TRIED]]
    images = _holder(root, _UVO_IMAGES, names)
    if images is not None:
        return _from_images(config, file, images, problems)
    names = [_movie(entry) for entry in file.entries[:_TRIED]]
    movies = _holder(root, _UVO_MOVIES, names)
    if movies is None:
        raise _no_frames(config, file, (*_UVO_IMAGES, *_UVO_MOVIES))
    return _from_movies(config, file, movies, problems)


def open_synth(config: DataSetConfig) -> FileDataSet:
    root = folder_of(config.path, config.layout)
    path = annotation_file(root, config.annotations or TRUTH, (), "")
    problems = Problems(config.name)
    file = JsonFile(path, problems, ("videos",), class_agnostic=config.class_agnostic)
    return _from_movies(config, file, root, problems)


def _with_images(
    config: DataSetConfig, root: Path, path: Path, folders: Sequence[str], lists: Sequence[str]
) -> FileDataSet:
    problems = Problems(config.name)
    file = JsonFile(path, problems, lists, class_agnostic=config.class_agnostic)
    images = _holder(root, folders, [entry.files[0] for entry in file.entries[:_TRIED]])
    if images is None:
        raise _no_frames(config, file, folders)
    return _from_images(config, file, images, problems)


def _from_images(
    config: DataSetConfig,
    file: JsonFile,
    images: Path,
    problems: Problems,
) -> FileDataSet:
    usable = list(itertools.islice(_with_files(file, images, problems), config.limit))
    frames = Pictures(images, (item.entry.files for item in usable))
    return _made(config, file, usable, frames, problems)


def _from_movies(
    config: DataSetConfig,
    file: JsonFile,
    movies: Path,
    problems: Problems,
) -> FileDataSet:
    usable = list(itertools.islice(_with_movies(file, movies, problems), config.limit))
    frames = Movies(
        movies,
        (_movie(item.entry) for item in usable),
        config.cache_short_side_px,
        [_numbers(item.entry) for item in usable],
    )
    return _made(config, file, usable, frames, problems)


def _made(
    config: DataSetConfig,
    file: JsonFile,
    usable: Sequence[_Usable],
    frames: FrameReader,
    problems: Problems,
) -> FileDataSet:
    return FileDataSet(
        config,
        categories=file.categories,
        videos=(
            LabelledVideo(header=entry.header, annotated=there, seed=entry.seed)
            for entry, there in usable
        ),
        frames=frames,
        truth=file.truth([item.entry for item in usable]),
        problems=problems,
    )


def _with_files(file: JsonFile, images: Path, problems: Problems) -> Iterator[_Usable]:
    """Entries with images; a frame whose image is missing is never drawn."""
    listings = Listings(images)
    for entry in file.entries:
        there = np.array([listings.has(name) for name in entry.files])
        if len(there) > 1 and not there.any():
            problems.add(kinds.MISSING_VIDEOS, entry.header.video_id)
            continue
        for place in np.flatnonzero(~there).tolist():
            problems.add(kinds.MISSING_IMAGES, entry.files[place])
        if there.any():
            yield _Usable(entry, np.flatnonzero(there))


def _with_movies(file: JsonFile, movies: Path, problems: Problems) -> Iterator[_Usable]:
    listings = Listings(movies)
    for entry in file.entries:
        if not is_inside(_movie(entry)):
            problems.add(kinds.UNSAFE_NAMES, entry.header.video_id)
        elif not listings.has(_movie(entry)):
            problems.add(kinds.MISSING_VIDEOS, _movie(entry))
        else:
            yield _Usable(entry, np.arange(entry.header.num_frames))


def _movie(entry: Entry) -> str:
    return f"{entry.header.video_id}.mp4"


def _numbers(entry: Entry) -> IntArray:
    """Places of the frames in the MP4: the numbers in their names, if each has one of its own."""
    found = [_LAST_NUMBER.search(name) for name in entry.files]
    numbers = np.array([int(match[1]) for match in found if match], np.int64)
    if len(numbers) == len(found) and (np.diff(numbers) > 0).all():
        return numbers
    return np.arange(len(found))


def _holder(root: Path, folders: Sequence[str], names: Iterable[str]) -> Path | None:
    """The first folder below which one of some files is."""
    names = [name for name in names if is_inside(name)]
    for folder in folders:
        if any((root / folder / name).is_file() for name in names):
            return root / folder
    return None


def _no_frames(config: DataSetConfig, file: JsonFile, folders: Sequence[str]) -> UsageError:
    entry = file.entries[0]
    return UsageError(
        f"{config.name}: expected frames such as {entry.files[0]!r} of {file.path} in one of"
        f" {', '.join(folders)}, got none; docs/datasets.md shows the tree"
    )
