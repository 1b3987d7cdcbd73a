"""Truth files (YouTube-VIS JSON), read with suspicion, one video at a time."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vis_core.errors import UsageError
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
    """A YouTube-VIS JSON: structure checked at once, masks of a video when it is asked for."""

    def __init__(self, path: str) -> None:
        self._path = path
        content = _load(path)
        self.categories = [self._category(row) for row in self._rows(content, "categories")]
        videos = self._rows(content, "videos")
        self._videos = {self._video_id(row): row for row in videos}
        if len(self._videos) < len(videos) or len({row["id"] for row in videos}) < len(videos):
            raise UsageError(f"{path}: two videos have the same id")
        self._annotations: dict[int, list[Mapping[str, Any]]] = {}
        known = {row["id"] for row in videos}
        labels = {category.label for category in self.categories}
        for row in self._rows(content, "annotations"):
            self._check_annotation(row, known, labels)
            self._annotations.setdefault(row["video_id"], []).append(row)
        self._warned = False

    def video(self, video_id: str, size: rle.Size) -> VideoTruth:
        """The truth of one video, whose masks must have this size."""
        row = self._videos.get(video_id)
        if row is None:
            if not self._warned:
                logger.warning("%s knows no video %r: it gets no instances", self._path, video_id)
                self._warned = True
            return AnnotatedVideo([], size, self._where(video_id))
        if (row["height"], row["width"]) != tuple(size):
            raise UsageError(
                f"{self._where(video_id)} is {row['height']} x {row['width']}, but the video is "
                f"{size[0]} x {size[1]} (height x width): the truth belongs to another video"
            )
        annotations = sorted(self._annotations.get(row["id"], []), key=lambda a: a["id"])
        return AnnotatedVideo(annotations, size, self._where(video_id))

    def _where(self, video_id: str) -> str:
        return f"{self._path}: video {video_id!r}"

    def _rows(self, content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
        rows = content.get(name)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UsageError(f"{self._path}: expected a list of objects under {name!r}")
        for row in rows:
            _whole(row, "id", f"{self._path}: {name}")
        return rows

    def _category(self, row: Mapping[str, Any]) -> Category:
        label = row["id"]
        if not 1 <= label <= _MAX_LABEL:
            raise UsageError(f"{self._path}: category ids go from 1 to {_MAX_LABEL}, got {label}")
        return Category(label=label, name=str(row.get("name", label)), source="truth")

    def _video_id(self, row: Mapping[str, Any]) -> str:
        where = f"{self._path}: video {row['id']}"
        for name in ("height", "width"):
            _whole(row, name, where)
        given = row.get("video_id")
        if isinstance(given, str):
            return given
        names = row.get("file_names")
        if not (isinstance(names, list) and names and isinstance(names[0], str)):
            raise UsageError(f"{where}: expected a `video_id`, or `file_names` in a folder")
        return names[0].rpartition("/")[0]

    def _check_annotation(self, row: Mapping[str, Any], videos: set[int], labels: set[int]) -> None:
        where = f"{self._path}: annotation {row['id']}"
        if _whole(row, "video_id", where) not in videos:
            raise UsageError(f"{where}: there is no video {row['video_id']}")
        if _whole(row, "category_id", where) not in labels:
            raise UsageError(f"{where}: there is no category {row['category_id']}")
        if not isinstance(row.get("segmentations"), list):
            raise UsageError(f"{where}: expected a list under 'segmentations', null where unseen")


class AnnotatedVideo:
    """The annotations of one video, as masks by frame."""

    def __init__(
        self, annotations: Sequence[Mapping[str, Any]], size: rle.Size, where: str
    ) -> None:
        self.num_objects = len(annotations)
        seen = _seen(annotations, size, where)
        objects = np.array([item[1] for item in seen], np.int32)
        frames = np.array([item[0] for item in seen], np.int64)
        self._masks = [item[2] for item in seen]
        self._boxes = rle.boxes(self._masks, size)
        self._objects = objects
        self._labels = np.array([annotations[k]["category_id"] for k in objects], np.int32)
        length = int(frames[-1]) + 1 if len(frames) else 0
        self._offsets = np.searchsorted(frames, np.arange(length + 1)).tolist()

    def frame(self, frame_index: int) -> TruthFrame:
        known = 0 <= frame_index < len(self._offsets) - 1
        start, stop = self._offsets[frame_index : frame_index + 2] if known else (0, 0)
        return TruthFrame(
            objects=self._objects[start:stop],
            labels=self._labels[start:stop],
            masks=self._masks[start:stop],
            boxes=self._boxes[start:stop],
        )


def _seen(
    annotations: Sequence[Mapping[str, Any]], size: rle.Size, where: str
) -> list[tuple[int, int, bytes]]:
    """(frame, object, mask) of every mask with a pixel, ascending."""
    found: list[tuple[int, int, bytes]] = []
    for number, row in enumerate(annotations):
        here = f"{where}, annotation {row['id']}"
        present = [(i, s) for i, s in enumerate(row["segmentations"]) if s is not None]
        masks = _masks(present, size, here)
        for (frame, _), mask, area in zip(present, masks, rle.areas(masks, size), strict=True):
            if area:
                found.append((frame, number, mask))
    return sorted(found)


def _masks(present: Sequence[tuple[int, Any]], size: rle.Size, where: str) -> list[bytes]:
    """Masks of one object, all at once where they are compressed run lengths."""
    usual = [s for _, s in present if isinstance(s, dict) and s.get("size") == list(size)]
    texts = [s["counts"] for s in usual if isinstance(s.get("counts"), str)]
    if len(texts) == len(present):
        with contextlib.suppress(ValueError):  # the bad one is named below
            return rle.validate_counts([text.encode() for text in texts], size)
    return [mask_of(s, size, f"{where}, frame {i}") for i, s in present]


def mask_of(segmentation: Any, size: rle.Size, where: str) -> bytes:
    """One segmentation of a truth file: compressed or plain run lengths, or polygons."""
    try:
        if isinstance(segmentation, list):
            return rle.encode_polygons(segmentation, size)
        if not isinstance(segmentation, dict):
            raise ValueError(f"expected run lengths or polygons, got {segmentation!r:.40}")
        if list(segmentation.get("size", [])) != list(size):
            raise ValueError(f"its size is {segmentation.get('size')!r:.40}, expected {list(size)}")
        counts = segmentation.get("counts")
        if isinstance(counts, str):
            return rle.validate_counts([counts.encode()], size)[0]
        if isinstance(counts, list):
            return rle.encode_runs([counts], size)[0]
        raise ValueError(f"counts: expected text or a list, got {counts!r:.40}")
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"{where}: {error}") from error


def _load(path: str) -> dict[str, Any]:
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read the truth {path!r}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not a truth file (JSON): {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected a JSON object with videos, annotations, categories")
    return content


def _whole(row: Mapping[str, Any], name: str, where: str) -> int:
    value = row.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise UsageError(f"{where}: expected a whole number under {name!r}, got {value!r:.40}")
    return value
