"""The unit of commitment: a segment of one member, one video version, frames [start, stop).

A part is a file that holds the segments of one unit of work; its name follows from their keys, so
whoever computes the unit again writes to the same name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from vis_core.types import Hole, VideoInfo


@dataclasses.dataclass(frozen=True, order=True, slots=True)
class SegmentKey:
    """Says what a segment is, whoever computes it."""

    fingerprint: str
    video_id: str
    version: str
    window: int
    start: int
    stop: int

    def __str__(self) -> str:
        where = f"{self.video_id}/{self.start}-{self.stop}"
        return where if self.window == 0 else f"{where}~w{self.window}"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A segment to compute: its key, with the video it reads."""

    video: VideoInfo
    start: int
    stop: int
    window: int = 0

    def key(self, fingerprint: str) -> SegmentKey:
        video = self.video
        return SegmentKey(
            fingerprint, video.video_id, video.version, self.window, self.start, self.stop
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """What one task computes and commits at once: segments of one member, in one part."""

    member: str
    fingerprint: str
    segments: tuple[Segment, ...]

    @property
    def keys(self) -> list[SegmentKey]:
        return [segment.key(self.fingerprint) for segment in self.segments]

    @property
    def part(self) -> str:
        return part_name(self.keys)

    def __str__(self) -> str:
        """A label for logs."""
        more = f" +{len(self.segments) - 1}" if len(self.segments) > 1 else ""
        return f"{self.member}:{self.keys[0]}{more}"


def part_name(keys: Sequence[SegmentKey]) -> str:
    """File name of the part that holds these segments."""
    text = json.dumps(sorted(dataclasses.astuple(key) for key in keys), ensure_ascii=True)
    return f"part-{hashlib.sha256(text.encode()).hexdigest()[:32]}.parquet"


def is_part_of(name: str, keys: Sequence[SegmentKey]) -> bool:
    """Whether the name, without a writer's nonce, is that of the part with these segments."""
    return name.removesuffix(".parquet").partition("~")[0] + ".parquet" == part_name(keys)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SegmentReceipt:
    """What became of one segment: where its rows are, and which frames are missing."""

    key: SegmentKey
    part: str
    row_group: int
    num_row_groups: int
    num_rows: int
    digest: str
    holes: tuple[Hole, ...] = ()
    cuts: tuple[int, ...] = ()  # frames after which a shot ends
    num_frames_found: int | None = None  # the decoder's count, where the index could not know


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """What a task returns: a few hundred bytes, whatever the unit held."""

    member: str
    segments: tuple[SegmentReceipt, ...]
    part: str
    part_bytes: int
    adopted: bool = False  # the part was there already; nothing was computed
    num_frames_predicted: int = 0
    decode_seconds: float = 0.0  # time the decoder worked
    wait_seconds: float = 0.0  # time the predictor waited for frames
    predict_seconds: float = 0.0
    write_seconds: float = 0.0


def receipt_to_json(receipt: Receipt) -> str:
    """The receipt as it stands in a part's metadata, so that the part alone proves it."""
    return json.dumps(dataclasses.asdict(receipt), separators=(",", ":"))


def receipt_from_json(text: str | bytes) -> Receipt:
    """Inverse of `receipt_to_json`; ValueError if it is no receipt."""
    try:
        values: dict[str, Any] = json.loads(text)
        segments = tuple(_segment_of(segment) for segment in values["segments"])
        receipt = Receipt(**{**values, "segments": segments})
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"no receipt: {type(error).__name__}: {error}") from error
    measured = [receipt.num_frames_predicted, receipt.decode_seconds, receipt.wait_seconds]
    measured += [receipt.predict_seconds, receipt.write_seconds, receipt.part_bytes]
    sound = segments and all(map(_is_sound, segments)) and isinstance(receipt.member, str)
    if not (sound and all(isinstance(number, int | float) for number in measured)):
        raise ValueError("no receipt: its segments are not what they should be")
    return receipt


def _segment_of(values: dict[str, Any]) -> SegmentReceipt:
    return SegmentReceipt(
        **{
            **values,
            "key": SegmentKey(**values["key"]),
            "holes": tuple(Hole(**hole) for hole in values["holes"]),
            "cuts": tuple(values["cuts"]),
        }
    )


def _is_sound(segment: SegmentReceipt) -> bool:
    """Whether the types are right: a receipt may come out of anybody's file."""
    found = segment.num_frames_found
    texts = (segment.part, segment.digest, *(hole.reason for hole in segment.holes))
    numbers = (segment.row_group, segment.num_row_groups, segment.num_rows, *segment.cuts)
    numbers += tuple(frame for hole in segment.holes for frame in (hole.start, hole.stop))
    return (
        is_sound_key(segment.key)
        and all(isinstance(text, str) for text in texts)
        and all(_is_count(number) for number in numbers)
        and (found is None or _is_count(found))
    )


def is_sound_key(key: SegmentKey) -> bool:
    """Whether a key out of a file is one: texts, and a range of frames."""
    texts = (key.fingerprint, key.video_id, key.version)
    numbers = (key.window, key.start, key.stop)
    return (
        all(isinstance(text, str) for text in texts)
        and all(_is_count(number) for number in numbers)
        and key.start < key.stop
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 31
