"""MOTS text: one file per video, a line per frame and object: `frame id class height width rle`.

An id is 1000 times the class plus the object's number, from 1. Masks of a frame may not overlap:
the higher score owns a pixel. Class 10 marks regions to ignore. Scores are lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vis_core.errors import UsageError
from vis_core.formats.label_maps import LabelMaps, regions
from vis_core.formats.model import IntArray, VideoHeader, VideoTracks, make_tracks
from vis_core.formats.names import file_name, video_id_of
from vis_core.masks import rle
from vis_core.video.uris import open_regular

IGNORE_CLASS = 10
_PER_CLASS = 999
_MAX_LINE = 16 << 20


class MotsWriter:
    """Writes a file per video; counts what overlaps cost."""

    def __init__(self, folder: Path, one_class: int | None) -> None:
        self._folder = folder
        self._one_class = one_class
        self.num_pixels = self.hidden_pixels = 0

    def add(self, tracks: VideoTracks, frames: IntArray) -> None:
        classes = self._classes(tracks)
        ids = _mots_ids(classes, tracks)
        maps = LabelMaps(tracks)
        id_of_label = np.zeros(maps.num_labels + 1, np.int64)
        id_of_label[maps.labels] = ids
        header = tracks.video
        shown = 0
        path = self._folder / f"{file_name(header.video_id)}.txt"
        with path.open("w", encoding="ascii", newline="\n") as out:
            for frame in np.unique(tracks.frame_index).tolist():
                labels, crops = regions(maps.frame(frame))
                shown += sum(int(np.count_nonzero(crop.mask)) for crop in crops)
                masks = rle.encode_crops(crops, header.size)
                for object_id, mask in sorted(
                    zip(id_of_label[labels].tolist(), masks, strict=True)
                ):
                    out.write(
                        f"{frame} {object_id} {object_id // 1000} {header.height} {header.width}"
                        f" {mask.decode('ascii')}\n"
                    )
        self.num_pixels += maps.num_pixels
        self.hidden_pixels += maps.num_pixels - shown

    def close(self) -> None:
        """Every file is written as its video comes."""

    def _classes(self, tracks: VideoTracks) -> IntArray:
        if self._one_class is not None:
            return np.full(len(tracks), self._one_class)
        if (tracks.labels == IGNORE_CLASS).any() or (tracks.labels < 1).any():
            raise UsageError(
                f"video {tracks.video.video_id!r} has tracks of label {IGNORE_CLASS} or below 1;"
                f" in MOTS class {IGNORE_CLASS} marks regions to ignore: --set mots_class=2 puts"
                " all tracks under one class"
            )
        return tracks.labels


def _mots_ids(classes: IntArray, tracks: VideoTracks) -> IntArray:
    order = np.argsort(classes, kind="stable")
    ranked = classes[order]
    number = np.arange(len(order)) - np.searchsorted(ranked, ranked) + 1
    if (number > _PER_CLASS).any():
        raise UsageError(
            f"video {tracks.video.video_id!r} has more than {_PER_CLASS} tracks of one class, which"
            " MOTS cannot number; leave out weak ones with --set min_score=…"
        )
    ids = np.empty(len(classes), np.int64)
    ids[order] = ranked * 1000 + number
    return ids


def read_mots(folder: str) -> Iterator[VideoTracks]:
    """Every `.txt` of a folder, sorted by name."""
    root = Path(folder)
    if not root.is_dir():
        raise UsageError(f"{folder!r} is no folder; expected one text file per video")
    for path in sorted(root.glob("*.txt")):
        yield read_mots_video(path)


def read_mots_video(path: Path, num_frames: int | None = None) -> VideoTracks:
    """One file; regions to ignore are left out. Without `num_frames` the last line's frame ends."""
    rows: list[tuple[int, int, int]] = []
    masks: list[bytes] = []
    sizes: set[rle.Size] = set()
    last = -1
    with open_regular(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), b""), 1):
            words = line.split()
            if not words:
                continue
            where = f"{path}, line {number}"
            if len(words) != 6 or not all(word.isdigit() and len(word) < 10 for word in words[:5]):
                raise UsageError(f"{where}: expected `frame id class height width rle`")
            frame, object_id, label, height, width = map(int, words[:5])
            sizes.add((height, width))
            last = max(last, frame)
            if label != IGNORE_CLASS:
                rows.append((frame, object_id, label))
                masks.append(words[5])
    if len(sizes) != 1:
        raise UsageError(f"{path}: expected masks of one size, got {sorted(sizes)[:3]}")
    (size,) = sizes
    columns = np.array(rows, np.int64).reshape(-1, 3)
    ids, first, owner = np.unique(columns[:, 1], return_index=True, return_inverse=True)
    labels = columns[first, 2]
    if (labels[owner] != columns[:, 2]).any():
        raise UsageError(f"{path}: an object changes its class; expected one class per id")
    return make_tracks(
        VideoHeader(
            video_id=video_id_of(path.stem),
            height=size[0],
            width=size[1],
            num_frames=last + 1 if num_frames is None else num_frames,
        ),
        track_ids=ids,
        labels=labels,
        scores=np.ones(len(ids)),
        owner=owner,
        frame_index=columns[:, 0],
        masks=masks,
    )
