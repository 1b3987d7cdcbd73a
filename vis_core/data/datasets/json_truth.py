"""Truth in one JSON file: YouTube-VIS lists of masks per video, COCO masks per image.

The file is walked through once. What stays in memory are a few numbers per annotation, a name per
frame; an annotation is read by its place when its video is asked for.
"""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from vis_core.columns import offsets_of
from vis_core.config import brief
from vis_core.data.datasets import problems as kinds
from vis_core.data.datasets.files import is_inside
from vis_core.data.datasets.problems import Flaw, Problems
from vis_core.data.datasets.reading import truth_of
from vis_core.errors import UsageError
from vis_core.formats import fields
from vis_core.formats.json_index import JsonIndex, Place
from vis_core.formats.model import (
    IntArray,
    TruthTracks,
    VideoHeader,
    VideoTracks,
    make_tracks,
    select_tracks,
)
from vis_core.formats.segmentations import read_segmentations
from vis_core.types import Category

Row: TypeAlias = Mapping[str, Any]
_FINE, _BOX_ALONE, _EMPTY = 0, 1, 2  # what an annotation looks like before its masks are decoded
_COLUMNS = ("id", "video", "label", "length", "state", "start", "stop")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One video of the file: `number` is its id there."""

    number: int
    header: VideoHeader
    files: tuple[str, ...]
    seed: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """What the two kinds of file call things."""

    number: str  # how an annotation names its video
    masks: str
    box: str
    entry: Callable[[Row, str], Entry]
    items: Callable[[Row], list[Any]]  # one mask or null per frame of an annotation


class JsonTruth:
    """Masks of the videos of one file, by position of the entry that was kept."""

    def __init__(
        self, path: Path, family: str, starts: IntArray, stops: IntArray, offsets: IntArray
    ) -> None:
        self._path = str(path)
        self._family = family
        self._starts, self._lengths = starts, (stops - starts).astype(np.int32)
        self._offsets = offsets

    def read(self, video: int, header: VideoHeader, problems: Problems) -> TruthTracks:
        rows = self._rows(video)
        where = f"{self._path}: video {header.video_id!r}"
        try:
            tracks = self._tracks(header, rows, where)
        except UsageError:
            rows = [row for row in rows if self._is_sound(header, row, where, problems)]
            tracks = self._tracks(header, rows, where)
        seen = np.diff(tracks.offsets) > 0
        for place in np.flatnonzero(~seen).tolist():
            problems.add(kinds.EMPTY_MASKS, f"annotation {rows[place].get('id')}")
        crowd = np.array([bool(row.get("iscrowd", 0)) for row in rows], bool)
        return truth_of(select_tracks(tracks, seen), crowd[seen])

    def _rows(self, video: int) -> list[Row]:
        mine = slice(int(self._offsets[video]), int(self._offsets[video + 1]))
        starts = self._starts[mine]
        pairs = zip(starts.tolist(), (starts + self._lengths[mine]).tolist(), strict=True)
        return JsonIndex(self._path).read([Place(start, stop) for start, stop in pairs])

    def _is_sound(self, header: VideoHeader, row: Row, where: str, problems: Problems) -> bool:
        try:
            self._tracks(header, [row], where)
        except UsageError as error:
            problems.add(kinds.MALFORMED_MASKS, f"annotation {row.get('id')}: {error}")
            return False
        return True

    def _tracks(self, header: VideoHeader, rows: Sequence[Row], where: str) -> VideoTracks:
        owner: list[int] = []
        frames: list[int] = []
        masks: list[bytes] = []
        items = FAMILIES[self._family].items
        for position, row in enumerate(rows):
            name = f"{where}, annotation {row.get('id')}"
            seen, found = read_segmentations(items(row), header.size, name)
            owner += [position] * len(seen)
            frames += seen
            masks += found
        return make_tracks(
            header,
            track_ids=_ids(rows),
            labels=[row["category_id"] for row in rows],
            scores=np.ones(len(rows)),
            owner=owner,
            frame_index=frames,
            masks=masks,
        )


def _ids(rows: Sequence[Row]) -> list[int]:
    """Those of the file, where they tell annotations apart."""
    ids = [row.get("id") for row in rows]
    whole = [value for value in ids if isinstance(value, int) and abs(value) < 2**62]
    return whole if len(set(whole)) == len(rows) else list(range(len(rows)))


class JsonFile:
    """A truth file as it was walked through: entries, categories, annotations that fit."""

    def __init__(
        self, path: Path, problems: Problems, lists: Sequence[str], *, class_agnostic: bool
    ) -> None:
        """`lists` are those that may hold its videos: `videos`, `images`; the first one counts."""
        self.path = path
        self._lists = tuple(lists)
        self.entries: list[Entry] = []
        self.categories: list[Category] = []
        self.family = ""
        self._problems = problems
        self._columns = {name: array.array("q") for name in _COLUMNS}
        self._walk()
        self.categories.sort(key=lambda category: category.label)
        self._rows = self._sound_rows(class_agnostic)

    def truth(self, kept: Sequence[Entry]) -> JsonTruth:
        """The annotations of these entries, in this order."""
        places = {entry.number: place for place, entry in enumerate(kept)}
        numbers = self._rows["video"]
        known, inverse = np.unique(numbers, return_inverse=True)
        of_known = np.array([places.get(number, -1) for number in known.tolist()], np.int64)
        place = of_known[inverse] if len(known) else np.zeros(0, np.int64)
        order = np.argsort(place, kind="stable")
        order = order[place[order] >= 0]
        return JsonTruth(
            self.path,
            self.family,
            self._rows["start"][order],
            self._rows["stop"][order],
            offsets_of(np.bincount(place[order], minlength=len(kept))),
        )

    def _walk(self) -> None:
        numbers: set[int] = set()
        ids: set[str] = set()
        for key, place, value in JsonIndex(str(self.path)).elements():
            try:
                if key == "categories":
                    self._add_category(value)
                elif key in self._lists and self.family in ("", key):
                    self._add_entry(key, value, numbers, ids)
                elif key == "annotations":
                    self._add_annotation(value, place)
            except Flaw as flaw:
                self._problems.add(flaw.kind, str(flaw))
            except UsageError as error:
                self._problems.add(kinds.MALFORMED_ENTRIES, str(error))
        if not self.entries:
            lists = " or ".join(map(repr, self._lists))
            found = "; ".join(self._problems.summary()) or "no such list"
            raise UsageError(
                f"{self.path}: expected a list {lists} beside 'annotations' and 'categories', got"
                f" nothing usable ({found})"
            )

    def _add_category(self, value: Any) -> None:
        row = fields.record(value, "categories")
        label = fields.whole(row, "id", "categories")
        if any(category.label == label for category in self.categories):
            self._problems.add(kinds.REPEATED_IDS, f"category {label}")
            return
        name = str(row.get("name", label))
        self.categories.append(Category(label=label, name=name, source="truth"))

    def _add_entry(self, key: str, value: Any, numbers: set[int], ids: set[str]) -> None:
        self.family = key
        row = fields.record(value, key)
        entry = FAMILIES[key].entry(row, f"{key}, id {brief(row.get('id'))}")
        if entry.number in numbers or entry.header.video_id in ids:
            self._problems.add(kinds.REPEATED_IDS, f"{entry.header.video_id} ({entry.number})")
            return
        numbers.add(entry.number)
        ids.add(entry.header.video_id)
        self.entries.append(entry)

    def _add_annotation(self, value: Any, place: Place) -> None:
        row = fields.record(value, "annotations")
        where = f"annotation {brief(row.get('id'))}"
        by_image = "images" in self._lists and ("image_id" in row or len(self._lists) == 1)
        family = FAMILIES["images" if by_image else "videos"]
        masks = row.get(family.masks)
        length = len(masks) if family.masks == "segmentations" and isinstance(masks, list) else 1
        found = {
            "id": row["id"] if isinstance(row.get("id"), int) and abs(row["id"]) < 2**62 else -1,
            "video": fields.whole(row, family.number, where),
            "label": fields.whole(row, "category_id", where),
            "length": length,
            "state": _state(masks, row.get(family.box)),
            "start": place.start,
            "stop": place.stop,
        }
        for name, number in found.items():
            self._columns[name].append(number)

    def _sound_rows(self, class_agnostic: bool) -> dict[str, IntArray]:
        """Without annotations that belong nowhere, or have nothing to show."""
        rows = {name: np.array(column, np.int64) for name, column in self._columns.items()}
        numbers = np.array([entry.number for entry in self.entries], np.int64)
        lengths = np.array([entry.header.num_frames for entry in self.entries], np.int64)
        order = np.argsort(numbers)
        place = order[np.searchsorted(numbers, rows["video"], sorter=order) % len(order)]
        labels = [category.label for category in self.categories]
        checks = [
            (kinds.UNKNOWN_VIDEOS, numbers[place] != rows["video"]),
            (kinds.UNKNOWN_CATEGORIES, ~np.isin(rows["label"], labels) & (not class_agnostic)),
            (kinds.BOXES_ALONE, rows["state"] == _BOX_ALONE),
            (kinds.EMPTY_MASKS, rows["state"] == _EMPTY),
            (kinds.OTHER_LENGTHS, rows["length"] != lengths[place]),
        ]
        kept = np.ones(len(place), bool)
        for kind, wrong in checks:
            for index in np.flatnonzero(kept & wrong).tolist():
                self._problems.add(kind, f"annotation {rows['id'][index]}")
            kept &= ~wrong
        if not kept.any():
            found = "; ".join(self._problems.summary()) or "an empty list"
            raise UsageError(f"{self.path}: expected annotations with masks, got none ({found})")
        return {name: rows[name][kept] for name in ("video", "start", "stop")}


def _state(masks: Any, boxes: Any) -> int:
    if masks and (not isinstance(masks, list) or any(masks)):
        return _FINE
    return _BOX_ALONE if _any_box(boxes) else _EMPTY


def _any_box(boxes: Any) -> bool:
    """One box of numbers, or any in a list of boxes and nulls."""
    return isinstance(boxes, list) and any(boxes)


# --- the two families -----------------------------------------------------------------------------


def _video_entry(row: Row, where: str) -> Entry:
    number = fields.whole(row, "id", where)
    files = _file_names(fields.a_list(row, "file_names", where), where)
    if "length" in row and fields.whole(row, "length", where) != len(files):
        raise Flaw(kinds.OTHER_LENGTHS, f"{where}: {row['length']} frames, but {len(files)} names")
    video_id = row.get("video_id")
    if not isinstance(video_id, str) or not video_id:
        video_id = files[0].rpartition("/")[0] or str(number)
    return Entry(
        number=number,
        header=_header(row, video_id, len(files), where),
        files=files,
        seed=fields.whole(row, "seed", where) if "seed" in row else None,
    )


def _image_entry(row: Row, where: str) -> Entry:
    (name,) = _file_names([fields.text(row, "file_name", where)], where)
    stem = name.rpartition(".")[0] or name
    return Entry(
        number=fields.whole(row, "id", where),
        header=_header(row, stem, 1, where),
        files=(name,),
    )


def _file_names(names: Sequence[Any], where: str) -> tuple[str, ...]:
    if not names:
        raise UsageError(f"{where}: expected names of frames, got none")
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"{where}: expected text as the name of a frame, got {brief(name)}")
        if not is_inside(name):
            raise Flaw(kinds.UNSAFE_NAMES, f"{where}: {brief(name)}")
    return tuple(names)


def _header(row: Row, video_id: str, num_frames: int, where: str) -> VideoHeader:
    return VideoHeader(
        video_id=video_id,
        height=fields.whole(row, "height", where, lowest=1),
        width=fields.whole(row, "width", where, lowest=1),
        num_frames=num_frames,
    )


FAMILIES = {
    "videos": Family(
        number="video_id",
        masks="segmentations",
        box="bboxes",
        entry=_video_entry,
        items=lambda row: row["segmentations"],
    ),
    "images": Family(
        number="image_id",
        masks="segmentation",
        box="bbox",
        entry=_image_entry,
        items=lambda row: [row["segmentation"]],
    ),
}
