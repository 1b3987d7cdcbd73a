"""Images whose masks are PNG files: one per object (Open Images), or one per image (PASCAL VOC)."""

from __future__ import annotations

import collections
import itertools
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image

from vis_core.columns import offsets_of
from vis_core.data.datasets import problems as kinds
from vis_core.data.datasets.config import DataSetConfig
from vis_core.data.datasets.files import Listings, Names, folder_of, is_inside
from vis_core.data.datasets.model import LabelledVideo
from vis_core.data.datasets.problems import Problems
from vis_core.data.datasets.reading import OBJECT, FileDataSet, Pictures, truth_of
from vis_core.errors import SourceError, UsageError
from vis_core.formats.davis import read_label_map
from vis_core.formats.label_maps import regions
from vis_core.formats.model import BoolArray, TruthTracks, VideoHeader, make_tracks
from vis_core.masks import rle
from vis_core.types import Category
from vis_core.video.images import IMAGE_EXTENSIONS, read_frame
from vis_core.video.limits import Limits
from vis_core.video.uris import local_uri

_MASK_NAME = re.compile(r"(.+)_([^_]+)_([^_]+)\.png")  # image id, label, id of the box
_SHAPE_TOLERANCE = 0.02
_VOC_LISTS = "ImageSets/Segmentation"
_FIRST = np.zeros(1, np.int64)


class _Image(NamedTuple):
    file: str
    header: VideoHeader
    masks: list[str]  # below the folder of masks
    labels: list[int]


def open_mask_folders(config: DataSetConfig) -> FileDataSet:
    root = folder_of(config.path, config.layout)
    if (root / "SegmentationObject").is_dir():
        return _open_voc(config, root)
    if (root / "masks").is_dir():
        return _open_separate(config, root)
    raise UsageError(
        f"{config.path!r}: expected a folder `masks` with one PNG per object, or"
        " `SegmentationObject` with one per image, got neither; docs/datasets.md shows the trees"
    )


def _videos(images: Iterable[_Image]) -> Iterator[LabelledVideo]:
    return (LabelledVideo(header=image.header, annotated=_FIRST) for image in images)


# --- one file per object --------------------------------------------------------------------------


class SeparateMasks:
    """A binary PNG per object, which may have another resolution than its image."""

    def __init__(self, root: Path, images: Sequence[_Image]) -> None:
        self._root = str(root)
        self._files = Names(name for image in images for name in image.masks)
        self._labels = np.array([label for image in images for label in image.labels], np.int64)
        self._offsets = offsets_of([len(image.masks) for image in images])

    def read(self, video: int, header: VideoHeader, problems: Problems) -> TruthTracks:
        first, last = self._offsets[video : video + 2].tolist()
        masks, labels = [], []
        for place in range(first, last):
            name = self._files[place]
            try:
                mask = _scaled(_binary(Path(self._root) / name), header.size, name)
            except SourceError as error:
                problems.add(kinds.MALFORMED_MASKS, str(error))
                continue
            if not mask.any():
                problems.add(kinds.EMPTY_MASKS, name)
                continue
            masks += rle.encode(mask[None])
            labels.append(int(self._labels[place]))
        return truth_of(
            make_tracks(
                header,
                track_ids=np.arange(1, len(masks) + 1),
                labels=labels,
                scores=np.ones(len(masks)),
                owner=np.arange(len(masks)),
                frame_index=np.zeros(len(masks)),
                masks=masks,
            )
        )


def _open_separate(config: DataSetConfig, root: Path) -> FileDataSet:
    if config.split is not None:
        raise UsageError(
            f"split: expected nothing at {config.path!r}, which has no lists of images"
        )
    problems = Problems(config.name)
    masks = _masks_by_image(root / "masks")
    labels = sorted({label for group in masks.values() for _, label in group})
    numbers = {label: number for number, label in enumerate(labels, 1)}
    found = list(itertools.islice(_separate(root, masks, numbers, problems), config.limit))
    return FileDataSet(
        config,
        categories=[Category(label=n, name=name, source="truth") for name, n in numbers.items()],
        videos=_videos(found),
        frames=Pictures(root / "images", ([image.file] for image in found)),
        truth=SeparateMasks(root / "masks", found),
        problems=problems,
    )


def _masks_by_image(folder: Path) -> Mapping[str, list[tuple[str, str]]]:
    """Mask file and label, by image; also those in folders one level below, as they are packed."""
    found: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
    below = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    listings = Listings(folder)
    for prefix in ("", *(f"{name}/" for name in below)):
        for name in listings.names(prefix):
            if match := _MASK_NAME.fullmatch(name):
                found[match[1]].append((prefix + name, sys.intern(match[2])))
    return {image: sorted(group) for image, group in sorted(found.items())}


def _separate(
    root: Path,
    masks: Mapping[str, list[tuple[str, str]]],
    numbers: Mapping[str, int],
    problems: Problems,
) -> Iterator[_Image]:
    files = _by_stem(Listings(root / "images").names())
    for image_id, group in masks.items():
        if image_id not in files:
            for name, _ in group:
                problems.add(kinds.NO_IMAGE, name)
            continue
        try:
            size = upright_size(root / "images" / files[image_id])
        except SourceError as error:
            problems.add(kinds.UNREADABLE_IMAGES, str(error))
            continue
        yield _Image(
            file=files[image_id],
            header=_header(image_id, size),
            masks=[name for name, _ in group],
            labels=[numbers[label] for _, label in group],
        )


def _by_stem(names: Iterable[str]) -> dict[str, str]:
    """Image files by their names without ending; of several the last in order."""
    pairs = (name.rpartition(".") for name in sorted(names))
    return {
        stem: f"{stem}.{ending}"
        for stem, _, ending in pairs
        if f".{ending}".lower() in IMAGE_EXTENSIONS
    }


def _binary(path: Path) -> BoolArray:
    return np.asarray(read_frame(local_uri(str(path))).any(axis=2))


def _scaled(mask: BoolArray, size: rle.Size, name: str) -> BoolArray:
    """The mask at the size of its image; each pixel takes the value at its centre."""
    height, width = mask.shape
    if (height, width) == size:
        return mask
    ratio = (height / size[0]) / (width / size[1])
    if abs(ratio - 1) > _SHAPE_TOLERANCE + 1 / min(height, width, *size):
        raise SourceError(f"{name}: {height} x {width}, but its image is {size[0]} x {size[1]}")
    rows = ((np.arange(size[0]) + 0.5) * height / size[0]).astype(np.int64)
    columns = ((np.arange(size[1]) + 0.5) * width / size[1]).astype(np.int64)
    return mask[rows[:, None], columns]


def upright_size(path: Path) -> rle.Size:
    """Height and width as the picture is shown; reads its header alone."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=("JPEG", "PNG")) as image:
                turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
                width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SourceError(f"{path}: expected a JPEG or PNG picture; {error}") from error
    if width * height > Limits().max_frame_pixels:
        raise SourceError(f"{path}: {width} x {height} pixels are too many")
    return (width, height) if turned else (height, width)


# --- one file per image ---------------------------------------------------------------------------


class ObjectMaps:
    """A palette PNG per image, whose values are numbers of objects; the void between is nothing."""

    def __init__(self, root: Path, images: Sequence[_Image]) -> None:
        self._root = str(root)
        self._files = Names(image.masks[0] for image in images)

    def read(self, video: int, header: VideoHeader, problems: Problems) -> TruthTracks:
        path = Path(self._root) / self._files[video]
        label_map = read_label_map(path)
        if label_map.shape != header.size:
            raise UsageError(f"{path}: has changed since it was opened")
        numbers, crops = regions(label_map)
        return truth_of(
            make_tracks(
                header,
                track_ids=numbers,
                labels=np.ones(len(numbers)),
                scores=np.ones(len(numbers)),
                owner=np.arange(len(numbers)),
                frame_index=np.zeros(len(numbers)),
                masks=rle.encode_crops(crops, header.size),
            )
        )


def _open_voc(config: DataSetConfig, root: Path) -> FileDataSet:
    problems = Problems(config.name)
    found = list(itertools.islice(_voc(root, config.split, problems), config.limit))
    return FileDataSet(
        config,
        categories=(OBJECT,),
        videos=_videos(found),
        frames=Pictures(root / "JPEGImages", ([image.file] for image in found)),
        truth=ObjectMaps(root / "SegmentationObject", found),
        problems=problems,
    )


def _voc(root: Path, split: str | None, problems: Problems) -> Iterator[_Image]:
    maps = {n.removesuffix(".png"): n for n in Listings(root / "SegmentationObject").names()}
    files = _by_stem(Listings(root / "JPEGImages").names())
    for image_id in sorted(maps) if split is None else _listed(root, split):
        if not is_inside(image_id) or "/" in image_id:
            problems.add(kinds.UNSAFE_NAMES, image_id)
        elif image_id not in maps:
            problems.add(kinds.NO_MASKS, image_id)
        elif image_id not in files:
            problems.add(kinds.NO_IMAGE, maps[image_id])
        else:
            path = root / "SegmentationObject" / maps[image_id]
            try:
                header = _header(image_id, upright_size(path))
            except SourceError as error:
                problems.add(kinds.UNREADABLE_TRUTH, str(error))
                continue
            yield _Image(file=files[image_id], header=header, masks=[maps[image_id]], labels=[])


def _listed(root: Path, split: str) -> list[str]:
    path = root / _VOC_LISTS / f"{split}.txt"
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, ValueError) as error:
        raise UsageError(f"{str(path)!r}: expected a list of images, got {error}") from error


def _header(video_id: str, size: rle.Size) -> VideoHeader:
    return VideoHeader(video_id=video_id, height=size[0], width=size[1], num_frames=1)
