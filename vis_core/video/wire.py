"""What parent and decoder child say to each other: JSON with raw arrays behind it, no pickle.

Addresses travel with their credentials, which either side keeps to itself.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from vis_core.addresses import keep, whole
from vis_core.types import VideoInfo
from vis_core.video.limits import Limits
from vis_core.video.sampling import Sampling
from vis_core.video.sources import Source

_LENGTHS = struct.Struct("<II")  # of the JSON text, of the arrays behind it
Message = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReadRequest:
    """Frames of one video to decode: the core [start, stop) and what a window needs around it."""

    video: VideoInfo
    start: int
    stop: int
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    halo_before: int = 0
    halo_after: int = 0
    pin_first: bool = False
    batch_size: int = 8

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.stop:
            raise ValueError(f"expected 0 <= start <= stop, got [{self.start}, {self.stop})")
        if min(self.halo_before, self.halo_after) < 0 or self.batch_size < 1:
            raise ValueError(
                f"halos must be 0 or more and batch_size 1 or more, got {self.halo_before}, "
                f"{self.halo_after} and {self.batch_size}"
            )

    def is_same(self, other: ReadRequest | None) -> bool:
        """Equality by what is decoded; arrays of VideoInfo make `==` useless."""
        return other is not None and _identity(self) == _identity(other)


def _plain(request: ReadRequest) -> dict[str, Any]:
    names = [field.name for field in dataclasses.fields(request) if field.name != "video"]
    return {name: getattr(request, name) for name in names}


def _identity(request: ReadRequest) -> tuple[Any, ...]:
    video = request.video
    return (video.video_id, video.uri, video.version, _plain(request))


def pack(message: Message) -> bytes:
    """One message; NumPy arrays in it travel as bytes."""
    blobs: list[bytes] = []

    def default(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            blobs.append(np.ascontiguousarray(value).tobytes())
            return {"__array__": [value.dtype.str, list(value.shape), len(blobs[-1])]}
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"cannot send {type(value).__name__}")

    text = json.dumps(message, default=default).encode("ascii")
    blob = b"".join(blobs)
    return _LENGTHS.pack(len(text), len(blob)) + text + blob


def unpack(read: Callable[[int], bytes]) -> Message | None:
    """The next message; None at the end of the stream. `read` gives n bytes, fewer at the end."""
    head = read(_LENGTHS.size)
    if len(head) < _LENGTHS.size:
        return None
    text_bytes, blob_bytes = _LENGTHS.unpack(head)
    body = read(text_bytes + blob_bytes)
    if len(body) < text_bytes + blob_bytes:
        return None
    blob, position = memoryview(body)[text_bytes:], 0

    def hook(value: dict[str, Any]) -> Any:
        nonlocal position
        if "__array__" not in value:
            return value
        dtype, shape, size = value["__array__"]
        array = np.frombuffer(blob[position : position + size], dtype).reshape(shape)
        position += size
        return array

    decoded: Message = json.loads(body[:text_bytes], object_hook=hook)
    return decoded


def video_to_message(video: VideoInfo) -> Message:
    values = {field.name: getattr(video, field.name) for field in dataclasses.fields(video)}
    return {**values, "uri": whole(video.uri)}


def video_from_message(message: Message) -> VideoInfo:
    time_base = tuple(message["time_base"])
    return VideoInfo(**{**message, "uri": keep(message["uri"]), "time_base": time_base})


def request_to_message(request: ReadRequest) -> Message:
    return {
        **_plain(request),
        "video": video_to_message(request.video),
        "sampling": dataclasses.asdict(request.sampling),
    }


def request_from_message(message: Message) -> ReadRequest:
    return ReadRequest(
        **{
            **message,
            "video": video_from_message(message["video"]),
            "sampling": Sampling(**message["sampling"]),
        }
    )


def source_to_message(source: Source) -> Message:
    return {**dataclasses.asdict(source), "uri": whole(source.uri)}


def source_from_message(message: Message) -> Source:
    return Source(**{**message, "uri": keep(message["uri"])})


def limits_from_message(message: Message) -> Limits:
    return Limits(**message)
