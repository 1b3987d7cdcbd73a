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
    """Inverse of `receipt_to_json`."""
    values: dict[str, Any] = json.loads(text)
    segments = tuple(
        SegmentReceipt(
            **{
                **segment,
                "key": SegmentKey(**segment["key"]),
                "holes": tuple(Hole(**hole) for hole in segment["holes"]),
                "cuts": tuple(segment["cuts"]),
            }
        )
        for segment in values["segments"]
    )
    return Receipt(**{**values, "segments": segments})
