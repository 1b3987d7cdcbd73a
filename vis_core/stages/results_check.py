"""What `verify --deep` asks of every row of `tracks` and `masks`.

Rows must fit their video, their track, their categories and each other. A line for each that does
not, with video, track and frame; a folder full of them gives the first, and how many more.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vis_core import schema
from vis_core.config import brief
from vis_core.errors import UsageError
from vis_core.formats.untrusted import check_masks
from vis_core.masks import rle
from vis_core.parquet_errors import reading
from vis_core.store.results import MASKS, TRACKS
from vis_core.store.store import CATEGORIES, Store

MOST_LINES = 20

_Key = tuple[str, int]  # video and track


@dataclasses.dataclass(slots=True)
class _Seen:
    """What the masks of a track say about it so far."""

    row: Mapping[str, Any]
    num_masks: int = 0
    first: int | None = None
    last: int | None = None


@dataclasses.dataclass(frozen=True)
class _Known:
    """Videos by id, with height, width and length; and every label that has a name."""

    videos: Mapping[str, tuple[int, int, int]]
    labels: Set[int]


def row_problems(store: Store, videos: pa.Table) -> list[str]:
    """The rows that do not fit, the first of them one by one."""
    found = _problems(store, videos)
    lines = list(itertools.islice(found, MOST_LINES))
    more = sum(1 for _ in found)
    return [*lines, f"… and {more} more problems with rows"] if more else lines


def _problems(store: Store, videos: pa.Table) -> Iterator[str]:
    columns = (videos[name].to_pylist() for name in ("height", "width", "num_frames"))
    shapes = zip(*columns, strict=True)
    labels = store.table(CATEGORIES, schema.CATEGORIES)["label"].to_pylist()
    known = _Known(dict(zip(videos["video_id"].to_pylist(), shapes, strict=True)), set(labels))
    for name in store.folder.names(TRACKS):
        try:
            yield from _file_problems(store, name, known)
        except UsageError as damage:
            yield str(damage)


def _file_problems(store: Store, name: str, known: _Known) -> Iterator[str]:
    path = f"{TRACKS}/{name}"
    with reading(path), store.folder.open(path) as file:
        table = pq.read_table(file, page_checksum_verification=True)
        rows = schema.conform_table(table, schema.TRACKS).to_pylist()
    tracks: dict[_Key, _Seen] = {}
    for row in rows:
        key = row["video_id"], row["track_id"]
        where = f"{_shown(key[0])}: track {key[1]}: "
        if None in key:
            yield f"{where}null where an id is expected"
        elif key in tracks:
            yield f"{where}two rows of this track"
        else:
            yield from (where + problem for problem in _track_problems(row, known))
            tracks[key] = _Seen(row)
    path = f"{MASKS}/{name}"
    with reading(path), store.folder.open(path) as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        for group in range(parquet.num_row_groups):
            masks = schema.conform_table(parquet.read_row_group(group), schema.MASKS)
            yield from _group_problems(masks, tracks, known)
    for (video, track), seen in tracks.items():
        for problem in _range_problems(seen):
            yield f"{_shown(video)}: track {track}: {problem}"


def _shown(video_id: str | None) -> str:
    """An id as it is, unless it is none."""
    return "null" if video_id is None else video_id


def _track_problems(row: Mapping[str, Any], known: _Known) -> Iterator[str]:
    """What a row of `tracks` says by itself."""
    if row["video_id"] not in known.videos:
        yield "no video of this folder is called so"
    else:
        height, width, num_frames = known.videos[row["video_id"]]
        if (row["height"], row["width"]) != (height, width):
            yield f"its size is {row['height']} x {row['width']}, its video's {height} x {width}"
        if row["video_num_frames"] != num_frames:
            yield f"video_num_frames is {row['video_num_frames']}, its video has {num_frames}"
    entries = row["entries"] or []
    lines = [(row["label"], row["score"])]
    lines += [(e["label"], e["score"]) if e is not None else (None, None) for e in entries]
    for label, score in dict.fromkeys(lines):
        if known.labels and label not in known.labels:
            yield f"label {label} is none of the categories"
        if score is None or not math.isfinite(score):
            yield f"score {score} is no number"
    if any(score is None or not math.isfinite(score) for score in row["class_scores"] or []):
        yield "a class score is no number"


def _range_problems(seen: _Seen) -> Iterator[str]:
    """What a row of `tracks` says about its masks."""
    row = seen.row
    if row["num_frames"] != seen.num_masks:
        yield f"{seen.num_masks} masks for {row['num_frames']} frames"
    if seen.first is None or seen.last is None:
        return
    for name, found in (("start_frame", seen.first), ("stop_frame", seen.last + 1)):
        if row[name] != found:
            yield f"{name} is {row[name]}, by its masks {found}"


def _group_problems(masks: pa.Table, tracks: Mapping[_Key, _Seen], known: _Known) -> Iterator[str]:
    names = ("video_id", "track_id", "frame_index", "score")
    by_size: dict[rle.Size, list[int]] = {}
    places: list[str] = []
    for position, (video, track, frame, score) in enumerate(
        zip(*(masks[name].to_pylist() for name in names), strict=True)
    ):
        places.append(f"{_shown(video)}: track {track}, frame {frame}: ")
        seen = tracks.get((video, track))
        if seen is None:
            yield f"{places[-1]}a mask of a track that is not there"
            continue
        yield from (places[-1] + problem for problem in _place_problems(seen, frame, known))
        if score is not None and not math.isfinite(score):
            yield f"{places[-1]}its score is {score}"
        by_size.setdefault((seen.row["height"], seen.row["width"]), []).append(position)
    for size, positions in by_size.items():
        for position, problem in _content_problems(masks, positions, size):
            yield places[position] + problem


def _place_problems(seen: _Seen, frame: int | None, known: _Known) -> Iterator[str]:
    """Where a mask is; a track's masks come in order of their frames."""
    seen.num_masks += 1
    video = known.videos.get(seen.row["video_id"])
    length = seen.row["video_num_frames"] if video is None else video[2]
    if frame is None:
        yield "null where a frame is expected"
        return
    if not 0 <= frame < (length or 0):
        yield f"its video has {length} frames"
    if seen.last is not None and frame <= seen.last:
        again = "two masks in one frame" if frame == seen.last else f"it comes after {seen.last}"
        yield f"{again}, expected ascending frames"
    seen.first = frame if seen.first is None else min(seen.first, frame)
    seen.last = frame if seen.last is None else max(seen.last, frame)


def _content_problems(
    masks: pa.Table, positions: Sequence[int], size: rle.Size
) -> Iterator[tuple[int, str]]:
    """What masks hold, and whether their boxes are tight."""
    rows = masks.take(pa.array(positions, pa.int64()))
    texts, boxes = rows["mask"].to_pylist(), rows["box"].to_pylist()
    sound = []
    for index, reason in enumerate(_reasons(texts, size)):
        if reason is None:
            sound.append(index)
        else:
            yield positions[index], reason
    if not sound:
        return
    found, areas = check_masks([texts[i] for i in sound], size)
    tight = rle.boxes(found, size).tolist()
    for index, area, box in zip(sound, areas.tolist(), tight, strict=True):
        if not area:
            yield positions[index], "its mask has no pixel"
        elif boxes[index] != box:
            yield positions[index], f"its box is {brief(boxes[index])}, its mask's {box}"


def _reasons(texts: Sequence[bytes | None], size: rle.Size) -> list[str | None]:
    """Per mask, why it is none."""
    try:
        check_masks([text or b"" for text in texts], size)
    except (ValueError, TypeError):
        return [_reason(text, size) for text in texts]
    return [None] * len(texts)


def _reason(text: bytes | None, size: rle.Size) -> str | None:
    if text is None:
        return "it has no mask"
    try:
        check_masks([text], size)
    except (ValueError, TypeError) as error:
        return str(error).removeprefix("mask 0: ")
    return None
