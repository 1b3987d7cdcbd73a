"""YouTube-VIS JSON, which OVIS and UVO share: truth files, and lists of results.

A truth file names its videos by number (`id`) and by `file_names`: the folder of the first name is
our `video_id`, unless the entry has a `video_id` of its own; the position in the list is the
`frame_index`. A results file names videos by number only and has no track ids.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vis_core.errors import UsageError
from vis_core.formats import fields
from vis_core.formats.json_index import JsonIndex, Place
from vis_core.formats.model import (
    FloatArray,
    IntArray,
    TruthTracks,
    VideoHeader,
    VideoTracks,
    boxes_xywh,
    make_tracks,
)
from vis_core.formats.names import relative_path
from vis_core.formats.output import JsonLists, VideoSpool, dumps
from vis_core.formats.segmentations import read_segmentations, write_segmentation
from vis_core.types import Category

# --- reading a truth file -------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TruthVideo:
    """A video of a truth file: `number` is its id there, and decides the order of ties."""

    number: int
    header: VideoHeader


class TruthFile:
    """A truth file: structure checked at once, masks of a video when they are asked for."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._index = JsonIndex(path)
        self.categories: list[Category] = []
        self.videos: dict[str, TruthVideo] = {}
        self._annotations: dict[int, list[Place]] = {}
        lengths = self._walk()
        self.categories.sort(key=lambda category: category.label)
        self._check(lengths)

    def video(self, video_id: str) -> TruthTracks:
        """The truth about one video; annotations in the order of the file."""
        video = self.videos[video_id]
        rows = self._index.read(self._annotations.get(video.number, []))
        ids = [row.get("id", position) for position, row in enumerate(rows)]
        where = f"{self.path}: video {video_id!r}, annotation"
        tracks = _tracks_of(video.header, rows, ids, np.ones(len(rows)), where)
        return TruthTracks(
            tracks=tracks,
            crowd=np.array([bool(row.get("iscrowd", 0)) for row in rows], bool),
            mean_areas=_mean_areas(rows, tracks, self.path),
        )

    def _walk(self) -> dict[tuple[int, int], str]:
        """Reads everything once; returns the length of each annotation's list, and its name."""
        lengths: dict[tuple[int, int], str] = {}
        labels: set[int] = set()
        annotated: list[tuple[int, int, str]] = []
        for key, place, value in self._index.elements():
            if key == "categories":
                self.categories.append(self._category(value))
            elif key == "videos":
                self._add_video(value)
            elif key == "annotations":
                where = f"{self.path}: annotation {fields.record(value, self.path).get('id')}"
                if "id" in value:
                    fields.whole(value, "id", where)
                number = fields.whole(value, "video_id", where)
                label = fields.whole(value, "category_id", where)
                labels.add(label)
                annotated.append((number, len(fields.a_list(value, "segmentations", where)), where))
                self._annotations.setdefault(number, []).append(place)
        known = {category.label for category in self.categories}
        if len(known) < len(self.categories):
            raise UsageError(f"{self.path}: two categories have the same id")
        if unknown := sorted(labels - known):
            raise UsageError(
                f"{self.path}: annotations name categories {unknown[:5]} that are not listed under"
                " 'categories'; is this a truth file in YouTube-VIS format?"
            )
        for number, length, where in annotated:
            lengths.setdefault((number, length), where)
        return lengths

    def _category(self, value: Any) -> Category:
        row = fields.record(value, f"{self.path}: categories")
        label = fields.whole(row, "id", f"{self.path}: categories")
        return Category(label=label, name=str(row.get("name", label)), source="truth")

    def _add_video(self, value: Any) -> None:
        row = fields.record(value, f"{self.path}: videos")
        where = f"{self.path}: video {row.get('id')}"
        number = fields.whole(row, "id", where)
        names = row.get("file_names")
        header = VideoHeader(
            video_id=self._video_id(row, names, number),
            height=fields.whole(row, "height", where, lowest=1),
            width=fields.whole(row, "width", where, lowest=1),
            num_frames=self._length(row, names, where),
        )
        if header.video_id in self.videos:
            raise UsageError(f"{self.path}: two videos are called {header.video_id!r}")
        self.videos[header.video_id] = TruthVideo(number=number, header=header)

    def _video_id(self, row: Mapping[str, Any], names: Any, number: int) -> str:
        if isinstance(row.get("video_id"), str):
            return str(row["video_id"])
        first = names[0] if isinstance(names, list) and names else None
        folder = first.rpartition("/")[0] if isinstance(first, str) else ""
        return folder or str(number)

    def _length(self, row: Mapping[str, Any], names: Any, where: str) -> int:
        if not isinstance(names, list):
            return fields.whole(row, "length", where)
        if "length" in row and fields.whole(row, "length", where) != len(names):
            raise UsageError(f"{where}: its length is {row['length']}, but it names {len(names)}")
        return len(names)

    def _check(self, lengths: Mapping[tuple[int, int], str]) -> None:
        if not self.videos:
            raise UsageError(
                f"{self.path}: no videos; expected a truth file in YouTube-VIS format, an object"
                " with the lists 'videos', 'annotations' and 'categories'"
            )
        by_number = {video.number: video.header for video in self.videos.values()}
        if len(by_number) < len(self.videos):
            raise UsageError(f"{self.path}: two videos have the same id")
        wrong = []
        for (number, length), where in sorted(lengths.items()):
            header = by_number.get(number)
            if header is None:
                raise UsageError(f"{where}: there is no video {number}")
            if length != header.num_frames:
                wrong.append(
                    f"{header.video_id!r} ({length} masks or nulls for {header.num_frames} frames)"
                )
        if wrong:
            raise UsageError(
                f"{self.path}: in {len(wrong)} videos a list of segmentations is not as long as"
                f" the video: {'; '.join(wrong[:5])}; each needs one mask or null per frame"
            )


def _mean_areas(rows: Sequence[Mapping[str, Any]], tracks: VideoTracks, path: str) -> FloatArray:
    """As the file says, over frames with an area; where it says nothing, from the masks."""
    owned = np.bincount(tracks.owner, weights=tracks.areas, minlength=len(tracks))
    means = owned / np.maximum(np.diff(tracks.offsets), 1)
    for position, row in enumerate(rows):
        given = row.get("areas")
        if isinstance(given, list):
            some = [{"area": area} for area in given if area]
            where = f"{path}: areas of annotation {row.get('id')}"
            means[position] = np.mean([fields.number(a, "area", where) for a in some] or [0.0])
    return np.asarray(means, np.float64)


# --- reading a results file -----------------------------------------------------------------------


class ResultsFile:
    """A results file: lines of (video number, category, score, masks), read by video."""

    def __init__(self, path: str, truth: TruthFile, *, skip_strangers: bool = False) -> None:
        """With `skip_strangers`, results of videos that the truth does not know are passed over."""
        self.path = path
        self._index = JsonIndex(path)
        self._lines: dict[str, list[Place]] = {}
        self._headers: dict[str, VideoHeader] = {}
        self._labels: collections.Counter[int] = collections.Counter()
        names = {video.number: name for name, video in truth.videos.items()}
        strangers: set[int] = set()
        for position, (key, place, value) in enumerate(self._index.elements()):
            where = f"{path}: result {position}"
            if key:
                raise UsageError(
                    f"{path}: expected a list of results, got an object with {key!r}; a truth file"
                    " belongs after --truth"
                )
            row = fields.record(value, where)
            number = fields.whole(row, "video_id", where)
            label = fields.whole(row, "category_id", where)
            fields.number(row, "score", where)
            masks = fields.a_list(row, "segmentations", where)
            if number not in names:
                strangers.add(number)
                continue
            self._labels[label] += 1
            self._lines.setdefault(names[number], []).append(place)
            self._note(truth.videos[names[number]].header, masks)
        if strangers and not skip_strangers:
            some = ", ".join(map(str, sorted(strangers)[:5]))
            raise UsageError(
                f"{path}: {len(strangers)} of its videos are not in {truth.path}: ids {some}"
                f"{', …' if len(strangers) > 5 else ''}; results of another data set or split?"
                " --set videos=common scores what both have"
            )

    def labels(self) -> dict[tuple[str, int], int]:
        """How many result lines each label has; a file has one member, without a name."""
        return {("", label): count for label, count in self._labels.items()}

    def name_of(self, member: str, label: int) -> str | None:
        """A results file names no categories: labels are those of the truth."""
        return None

    def headers(self) -> Mapping[str, VideoHeader]:
        """Videos that have results; lengths and sizes as these results have them."""
        return self._headers

    def tracks(self, wanted: Collection[str]) -> Iterator[VideoTracks]:
        """The results of the wanted videos, each video once, lines in the order of the file."""
        for video_id, places in self._lines.items():
            if video_id in wanted:
                yield self._video(self._headers[video_id], places)

    def _note(self, expected: VideoHeader, masks: list[Any]) -> None:
        """Remembers what the video looks like; of several views the one that is unexpected."""
        size = expected.size
        first = next((mask for mask in masks if isinstance(mask, dict)), None)
        if first is not None and isinstance(first.get("size"), list) and len(first["size"]) == 2:
            size = first["size"]
        found = dataclasses.replace(expected, height=size[0], width=size[1], num_frames=len(masks))
        if found != expected:
            self._headers[expected.video_id] = found
        self._headers.setdefault(expected.video_id, found)

    def _video(self, header: VideoHeader, places: Sequence[Place]) -> VideoTracks:
        rows = self._index.read(places)
        scores = np.array([row["score"] for row in rows], np.float64)
        where = f"{self.path}: video {header.video_id!r}, result"
        return _tracks_of(header, rows, range(len(rows)), scores, where)


def _tracks_of(
    header: VideoHeader,
    rows: Sequence[Mapping[str, Any]],
    ids: Sequence[int],
    scores: FloatArray,
    where: str,
) -> VideoTracks:
    """Annotations or result lines of one video."""
    owner: list[int] = []
    frames: list[int] = []
    masks: list[bytes] = []
    for position, (row, name) in enumerate(zip(rows, ids, strict=True)):
        seen, found = read_segmentations(row["segmentations"], header.size, f"{where} {name}")
        owner += [position] * len(seen)
        frames += seen
        masks += found
    return make_tracks(
        header,
        track_ids=ids,
        labels=[row["category_id"] for row in rows],
        scores=scores,
        owner=owner,
        frame_index=frames,
        masks=masks,
    )


# --- writing --------------------------------------------------------------------------------------


class ResultsWriter:
    """A list of result lines, one per entry of a track."""

    def __init__(self, path: Path, numbers: Mapping[str, int]) -> None:
        self._path = path
        self._numbers = numbers
        self._spool = VideoSpool(path.parent)

    def add(self, tracks: VideoTracks, frames: IntArray) -> None:
        masks = [_segmentations(tracks, position) for position in range(len(tracks))]
        lines = tracks.entries
        rows = [
            {
                "video_id": self._numbers[tracks.video.video_id],
                "category_id": label,
                "score": score,
                "segmentations": masks[track],
            }
            for track, label, score in zip(
                lines.track.tolist(), lines.labels.tolist(), lines.scores.tolist(), strict=True
            )
        ]
        self._spool.add(tracks.video.video_id, rows)

    def close(self) -> None:
        with self._spool, self._path.open("w", encoding="ascii") as out:
            separator = "["
            for _, rows in self._spool.in_order():
                for row in rows:
                    out.write(f"{separator}\n{dumps(row)}")
                    separator = ","
            out.write("[]\n" if separator == "[" else "\n]\n")


class TruthWriter:
    """A truth file: each track an annotation, to train on or to correct."""

    def __init__(
        self, path: Path, numbers: Mapping[str, int], categories: Sequence[Category]
    ) -> None:
        self._path = path
        self._numbers = numbers
        self._categories = categories
        self._spool = VideoSpool(path.parent)

    def add(self, tracks: VideoTracks, frames: IntArray) -> None:
        header = tracks.video
        number = self._numbers[header.video_id]
        folder = relative_path(header.video_id)
        boxes = boxes_xywh(tracks)
        video = {
            "id": number,
            "video_id": header.video_id,
            "height": header.height,
            "width": header.width,
            "length": header.num_frames,
            "file_names": [f"{folder}/{frame:05d}.jpg" for frame in range(header.num_frames)],
        }
        annotations = []
        for position in range(len(tracks)):
            mine = tracks.of_track(position)
            seen: list[int] = tracks.frame_index[mine].tolist()
            annotations.append(
                {
                    "video_id": number,
                    "category_id": int(tracks.labels[position]),
                    "iscrowd": 0,
                    "height": header.height,
                    "width": header.width,
                    "length": header.num_frames,
                    "track_id": int(tracks.track_ids[position]),
                    "score": float(tracks.scores[position]),
                    "segmentations": _segmentations(tracks, position),
                    "areas": _spread(seen, tracks.areas[mine].tolist(), header.num_frames),
                    "bboxes": _spread(seen, boxes[mine].tolist(), header.num_frames),
                }
            )
        self._spool.add(header.video_id, {"video": video, "annotations": annotations})

    def close(self) -> None:
        head = {
            "info": {"description": "exported by reelmask"},
            "categories": [
                {"id": category.label, "name": category.name} for category in self._categories
            ],
        }
        with self._spool, JsonLists(self._path, head, ("videos", "annotations")) as out:
            count = 0
            for _, found in self._spool.in_order():
                out.add("videos", found["video"])
                for row in found["annotations"]:
                    count += 1
                    out.add("annotations", {"id": count, **row})


def _segmentations(tracks: VideoTracks, position: int) -> list[Any]:
    mine = tracks.of_track(position)
    rows = [write_segmentation(mask, tracks.video.size) for mask in tracks.masks[mine]]
    return _spread(tracks.frame_index[mine].tolist(), rows, tracks.video.num_frames)


def _spread(frames: Sequence[int], values: Sequence[Any], length: int) -> list[Any]:
    """A value per frame, null where there is none."""
    row: list[Any] = [None] * length
    for frame, value in zip(frames, values, strict=True):
        row[frame] = value
    return row
