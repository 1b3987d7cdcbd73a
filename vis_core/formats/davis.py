"""DAVIS: one folder per video, one palette PNG per frame, whose values are object numbers.

A pixel has one owner, 0 is background, 255 void. Labels, scores and track ids are lost: object 1 is
the track of the best score.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vis_core.errors import UsageError
from vis_core.formats.label_maps import LabelMap, LabelMaps, regions
from vis_core.formats.model import IntArray, VideoHeader, VideoTracks, make_tracks
from vis_core.formats.names import file_name, video_id_of
from vis_core.masks import rle
from vis_core.video.uris import open_regular

VOID = 255
MOST_OBJECTS = 254
_MAX_PIXELS = 64_000_000
_FRAME = re.compile(r"(\d{1,9})\.png")


class DavisWriter:
    """Writes a folder per video; counts what overlaps cost."""

    def __init__(self, folder: Path, max_objects: int) -> None:
        self._folder = folder
        self._max_objects = max_objects
        self.num_pixels = self.hidden_pixels = self.tracks_left_out = 0

    def add(self, tracks: VideoTracks, frames: IntArray) -> None:
        maps = LabelMaps(tracks, self._max_objects)
        folder = self._folder / file_name(tracks.video.video_id)
        folder.mkdir()
        shown = 0
        for frame in frames.tolist():
            label_map = maps.frame(frame)
            shown += int(np.count_nonzero(label_map))
            write_label_map(folder / f"{frame:05d}.png", label_map)
        self.tracks_left_out += len(tracks) - maps.num_labels
        self.num_pixels += maps.num_pixels
        self.hidden_pixels += maps.num_pixels - shown

    def close(self) -> None:
        """Every file is written as its video comes."""


def write_label_map(path: Path, label_map: LabelMap) -> None:
    image = Image.fromarray(label_map.astype(np.uint8))
    image.putpalette(_palette())  # makes it mode P
    image.save(path, format="PNG")


@functools.cache
def _palette() -> bytes:
    """The colours of PASCAL VOC and DAVIS: three bits of a number each become a bit of a colour."""
    numbers = np.arange(256)
    colors = np.zeros((256, 3), np.int64)
    for place in range(3):
        bits = numbers[:, None] >> (3 * place + np.arange(3)) & 1
        colors |= bits << (7 - place)
    return colors.astype(np.uint8).tobytes()


def read_davis(folder: str) -> Iterator[VideoTracks]:
    """Every video of a folder of folders, sorted by name; void counts as background."""
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"{folder!r} is no folder; expected one folder of PNG files per video")
    for path in sorted(root.iterdir()):
        if path.is_dir():
            yield read_davis_video(path)


def read_davis_video(folder: Path) -> VideoTracks:
    """The video in one folder; a file's number is its frame."""
    files = {}
    for path in folder.iterdir():
        if match := _FRAME.fullmatch(path.name):
            files[int(match[1])] = path
    if not files:
        raise UsageError(f"{str(folder)!r} holds no frames; expected 00000.png, 00001.png, …")
    size: rle.Size | None = None
    labels: list[IntArray] = []
    masks: list[bytes] = []
    for _, path in sorted(files.items()):
        label_map = read_label_map(path)
        if size is not None and label_map.shape != size:
            raise UsageError(f"{path}: its size is {label_map.shape}, that of others is {size}")
        size = label_map.shape
        found, crops = regions(label_map)
        labels.append(found)
        masks += rle.encode_crops(crops, size)
    assert size is not None
    frames = np.repeat(np.array(sorted(files)), [len(found) for found in labels])
    every = np.concatenate(labels)
    ids = np.unique(every)
    return make_tracks(
        VideoHeader(
            video_id=video_id_of(folder.name),
            height=size[0],
            width=size[1],
            num_frames=max(files) + 1,
        ),
        track_ids=ids,
        labels=np.ones(len(ids)),
        scores=np.ones(len(ids)),
        owner=np.searchsorted(ids, every),
        frame_index=frames,
        masks=masks,
    )


def read_label_map(path: Path) -> LabelMap:
    """(H, W) numbers of one PNG; colours are refused, since they are not the numbers."""
    try:
        with open_regular(path) as file, Image.open(file, formats=["PNG"]) as image:
            if image.mode not in ("P", "L", "1"):
                raise UsageError(
                    f"{path}: mode {image.mode}, expected a palette image (P); a tool that read it"
                    " as colours has lost the object numbers"
                )
            if image.width * image.height > _MAX_PIXELS:
                raise UsageError(f"{path}: {image.width} x {image.height} is more than allowed")
            found = np.array(image, np.uint16)
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise UsageError(f"{path} cannot be read as PNG: {error}") from error
    found[found == VOID] = 0
    return found
