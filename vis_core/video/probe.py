"""What a video is, from its packets alone: frames, time stamps, key frames, display size.

Nothing here decodes a picture. Files are hostile until shown otherwise: FFmpeg may open the one
file it was given and nothing else, in a short list of container formats, within limits.
"""

from __future__ import annotations

import array
import dataclasses
import hashlib
import re
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, cast

import av
import av.logging
import numpy as np
import numpy.typing as npt
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vis_core.addresses import is_remote
from vis_core.errors import SourceError
from vis_core.types import IntArray, VideoInfo
from vis_core.video.explain import explain_unreadable
from vis_core.video.limits import Limits
from vis_core.video.sources import Source
from vis_core.video.uris import (
    file_facts,
    is_transient,
    local_path,
    open_file,
    read_ends,
    regular_file,
    shown,
)

# Demuxers that read one file and nothing else. Left out on purpose: hls, dash, concat, image2,
# lavfi, sdp and the like, which open whatever address the file names.
_DEMUXERS = (
    "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,mxf,dv,nut,ivf,gif,yuv4mpegpipe,h264,hevc,"
    "mpegvideo,m4v,obu"
)
_WITHOUT_SEEK = frozenset({"h264", "hevc", "mpegvideo", "m4v", "obu", "gif", "yuv4mpegpipe"})
_NOT_PLAYED = Disposition.attached_pic | Disposition.timed_thumbnails
_NO_PTS = int(np.iinfo(np.int64).min)
_END_BYTES = 64 << 10
_MAX_ERRORS_IN_A_ROW = 64
_CLOCK_CHECK_PACKETS = 256
_SLOWEST_BYTES_PER_SECOND = 8 << 20
_RAW_FPS = Fraction(25)  # what FFmpeg assumes for streams without a clock
_ROTATION = re.compile(r"display ?matrix: rotation of (-?\d+(?:\.\d+)?) degrees", re.IGNORECASE)
_LOG_LOCK = threading.Lock()


def open_container(uri: str, limits: Limits) -> InputContainer:
    """Opens one video so that it can reach no other file and no network."""
    options = {
        "format_whitelist": _DEMUXERS,
        # With a Python file FFmpeg needs no protocol at all, and "none" names none.
        "protocol_whitelist": "none" if is_remote(uri) else "file",
        "enable_drefs": "0",  # QuickTime references to other files
        "max_pixels": str(limits.max_frame_pixels),
    }
    try:
        # Old tags are Latin-1 as often as not; "strict" would refuse the video for its title.
        return av.open(
            _openable(uri),
            "r",
            options=options,
            metadata_errors="replace",
            timeout=limits.timeout_seconds,
        )
    except av.FFmpegError as error:
        raise SourceError(f"{shown(uri)}: {_reason(uri, error, limits)}") from error


def _openable(uri: str) -> Any:
    path = local_path(uri)
    if path is None:
        return open_file(uri)
    regular_file(path)
    return f"file:{path}"  # the prefix keeps a file called "concat:x" from being a protocol


def _reason(uri: str, error: av.FFmpegError, limits: Limits) -> str:
    if isinstance(error, av.error.ExitError):
        return f"did not open within {limits.timeout_seconds:g} s (decode_timeout_seconds)"
    with open_file(uri) as file:
        words = explain_unreadable(file)
    return words or f"not a video container this FFmpeg build can read ({error.strerror})"


def video_stream(container: InputContainer) -> VideoStream:
    """The stream that is labelled: FFmpeg's `0:V:0`, the first that is no cover picture."""
    for stream in container.streams.video:
        if not stream.disposition & _NOT_PLAYED:
            if stream.codec_context is None:
                raise SourceError("its video stream has a codec this FFmpeg build cannot decode")
            return stream
    names = [f"only audio ({_codec_name(stream)})" for stream in container.streams.audio[:1]]
    names += ["a cover picture"] if container.streams.video else []
    raise SourceError(f"has no video stream, {' and '.join(names) or 'and no audio either'}")


def _codec_name(stream: Any) -> str:
    """`av1`, not the decoder's name `libdav1d`: the row must not depend on the build."""
    context = stream.codec_context
    return context.codec.canonical_name if context is not None else "unknown codec"


def iter_packets(container: InputContainer, stream: VideoStream) -> Iterator[av.Packet]:
    """The stream's packets to the end of the file, past damage the demuxer can step over."""
    errors = 0
    while errors < _MAX_ERRORS_IN_A_ROW:
        try:
            for packet in container.demux(stream):
                if packet.size:
                    errors = 0
                    yield packet
            return
        except IndexError:
            # At the end of a file where streams appeared midway PyAV (18.1) flushes streams it
            # does not know. Nothing is lost: every packet has come by then.
            return
        except av.error.ExitError:
            raise
        except av.FFmpegError as error:
            if is_transient(error):
                raise
            errors += 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Packets:
    """The packet index of one stream, in file order."""

    pts: IntArray
    dts: IntArray
    sizes: IntArray
    keys: npt.NDArray[np.bool_]
    shown: npt.NDArray[np.bool_]
    last_duration: int


def probe_source(source: Source, limits: Limits) -> VideoInfo:
    """One row of `videos`. Raises SourceError with the reason where the file is no usable video."""
    with open_container(source.uri, limits) as container:
        try:
            stream = video_stream(container)
            height, width, rotation = _geometry(container, stream, limits)
            packets = _read_packets(
                container, stream, probe_budget_seconds(source.bytes, limits), limits
            )
            clock = _clock(container, stream, packets)
        except SourceError as error:
            raise SourceError(f"{shown(source.uri)}: {error}") from error
        codec, found, promised = _codec_name(stream), len(packets.pts), stream.frames
        missing = _cut_off(container, stream, found)
    size, version = _identity(source.uri, packets)
    promised = found + missing if missing else promised
    return VideoInfo(
        video_id=source.video_id,
        uri=source.uri,
        version=version,
        bytes=size,
        # As listed, not as of now: a write in between then shows at the next run.
        mtime_ns=source.mtime_ns,
        height=height,
        width=width,
        rotation=rotation,
        codec=codec,
        error=f"cut off: {found} of {promised} frames are in the file"
        if found < promised
        else None,
        missing_frames=missing,
        status="partial" if missing else "ok",
        **clock,
    )


def _cut_off(container: InputContainer, stream: VideoStream, found: int) -> int:
    """How many frames the sample table of an MP4 places behind the end of the file.

    No other promise is clear: frames that an edit list leaves out are counted in headers, and
    headers of other formats were often written before the file was.
    """
    if not container.format.name.startswith("mov") or found >= len(stream.index_entries):
        return 0
    beyond = sum(entry.pos + entry.size > container.size for entry in stream.index_entries)
    return min(beyond, len(stream.index_entries) - found) if container.size > 0 else 0


def probe_budget_seconds(size: int, limits: Limits) -> float:
    """How long a probe may take: it reads every packet, so large files get longer."""
    return limits.timeout_seconds + size / _SLOWEST_BYTES_PER_SECOND


def _read_packets(
    container: InputContainer, stream: VideoStream, budget_seconds: float, limits: Limits
) -> _Packets:
    _discard_others(container, stream)
    deadline = time.monotonic() + budget_seconds
    is_vp8 = _codec_name(stream) == "vp8"
    pts, dts, sizes = array.array("q"), array.array("q"), array.array("q")
    flags, last_duration = bytearray(), 0
    for packet in iter_packets(container, stream):
        pts.append(_NO_PTS if packet.pts is None else packet.pts)
        dts.append(_NO_PTS if packet.dts is None else packet.dts)
        sizes.append(packet.size)
        hidden = packet.is_discard or (is_vp8 and is_hidden_vp8(packet))
        flags.append(packet.is_keyframe | (not hidden) << 1)
        last_duration = packet.duration or last_duration
        if len(pts) > limits.max_frames:
            raise SourceError(f"has more than {limits.max_frames} frames (max_video_frames)")
        if len(pts) % _CLOCK_CHECK_PACKETS == 0 and time.monotonic() > deadline:
            raise SourceError(f"reading its packets took over {budget_seconds:.0f} s")
    bits = np.frombuffer(flags, np.uint8)
    if not np.any(bits & 2):
        raise SourceError(
            "has a video stream but not one readable frame; the file is cut off or damaged"
        )
    return _Packets(
        pts=np.frombuffer(pts, np.int64),
        dts=np.frombuffer(dts, np.int64),
        sizes=np.frombuffer(sizes, np.int64),
        keys=(bits & 1).astype(bool),
        shown=(bits & 2).astype(bool),
        last_duration=last_duration,
    )


def _discard_others(container: InputContainer, stream: VideoStream) -> None:
    """Formats with an index then skip the bytes of audio and second streams altogether."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = av.stream.Discard.all


def is_hidden_vp8(packet: av.Packet) -> bool:
    """RFC 6386 9.1: alternate reference frames are packets of their own, never shown."""
    return not memoryview(packet)[0] >> 4 & 1


def _geometry(
    container: InputContainer, stream: VideoStream, limits: Limits
) -> tuple[int, int, int]:
    """Display height and width, and FFmpeg's counterclockwise rotation in degrees."""
    context = stream.codec_context
    if not context.width or not context.height:
        raise SourceError("its frame size is unknown: no picture header in the first seconds")
    rotation = _rotation(container, stream.index)
    height, width = display_size(
        context.height, context.width, stream.sample_aspect_ratio, rotation
    )
    if max(height * width, context.height * context.width) > limits.max_frame_pixels:
        raise SourceError(
            f"frames of {width}x{height} pixels exceed {limits.max_frame_pixels} (max_frame_pixels)"
        )
    return height, width, rotation


def display_size(
    height: int, width: int, sample_aspect: Fraction | None, rotation: int
) -> tuple[int, int]:
    """Height and width as shown: square pixels (the width is stretched), then turned upright."""
    # No screen ever had such pixels: a broken header, not a request to stretch.
    if sample_aspect and Fraction(1, 10) < sample_aspect < 10:
        width = max(1, int(width * sample_aspect + Fraction(1, 2)))
    return (width, height) if rotation % 180 == 90 else (height, width)


def _rotation(container: InputContainer, index: int) -> int:
    """The display matrix, a multiple of 90 degrees.

    PyAV shows a stream's side data only in FFmpeg's description of the file; the alternative
    is to decode a frame. A public `Stream.side_data` would replace this.
    """
    for text in container_description(container).split("  Stream #0:")[1:]:
        match = _ROTATION.search(text)
        if match and re.match(rf"{index}\D", text):
            return round(float(match[1]) / 90) * 90 % 360
    return 0


def container_description(container: InputContainer) -> str:
    """FFmpeg's text about a file; its log level is global, so one thread at a time."""
    with _LOG_LOCK:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            return cast(Any, container).dumps_format()  # not in PyAV's type stubs
        finally:
            av.logging.set_level(level)


def _clock(container: InputContainer, stream: VideoStream, packets: _Packets) -> dict[str, Any]:
    """The fields of VideoInfo about time: frame_index is the rank of pts among shown packets."""
    pts = packets.pts[packets.shown]
    time_base = stream.time_base
    if time_base is None or not _is_clean(container, stream, packets):
        return _count_clock(stream, packets)
    order = np.argsort(pts, kind="stable")
    ranked = pts[order]
    steps = np.diff(ranked)
    even = len(steps) == 0 or bool((steps == steps[0]).all())
    last = packets.last_duration if packets.last_duration > 0 else 0
    step = int(steps[0]) if len(steps) and even else max(1, last)
    span = int(ranked[-1] - ranked[0])
    fps = Fraction(len(steps), span) / time_base if span else _rate(stream)
    return {
        "num_frames": len(ranked),
        "key_frames": _key_frames(packets.keys[packets.shown][order]),
        "time_base": (time_base.numerator, time_base.denominator),
        "pts": None if even else ranked,
        "first_pts": int(ranked[0]),
        "pts_step": step,
        "fps": float(fps),
        "duration_seconds": float(span * time_base + 1 / fps),
        "sequential": False,
    }


def _is_clean(container: InputContainer, stream: VideoStream, packets: _Packets) -> bool:
    """Whether time stamps name frames: all there, none twice, and the file can be sought."""
    pts = packets.pts[packets.shown]
    dts = packets.dts[packets.dts != _NO_PTS]
    if container.format.name in _WITHOUT_SEEK or (pts == _NO_PTS).any():
        return False
    # AVI stores no pts; for reordered frames FFmpeg makes up some that look right and are not.
    if container.format.name == "avi" and stream.codec_context.has_b_frames:
        return False
    if int(pts.max()) - int(pts.min()) > 2**53 or len(np.unique(pts)) < len(pts):
        return False
    return bool((dts[1:] >= dts[:-1]).all())  # a clock that starts again: two files in one


def _count_clock(stream: VideoStream, packets: _Packets) -> dict[str, Any]:
    """Time by counting frames, where the file has no usable time stamps."""
    rate = _rate(stream)
    num_frames = int(packets.shown.sum())
    return {
        "num_frames": num_frames,
        "key_frames": _key_frames(packets.keys[packets.shown]),
        "time_base": (rate.denominator, rate.numerator),
        "fps": float(rate),
        "duration_seconds": float(num_frames / rate),
        "sequential": True,
    }


def _rate(stream: VideoStream) -> Fraction:
    return stream.average_rate or stream.guessed_rate or _RAW_FPS


def _key_frames(keys: npt.NDArray[np.bool_]) -> IntArray:
    """Positions where decoding can start; always 0, whose key packet may be a discarded one."""
    return np.union1d(np.flatnonzero(keys), [0]).astype(np.int32)


def _identity(uri: str, packets: _Packets) -> tuple[int, str]:
    """Bytes and version: the same content has the same version."""
    facts = file_facts(uri)
    if facts.etag:
        return facts.bytes, f"{facts.bytes}-{facts.etag}"
    with open_file(uri) as file:
        size, head, tail = read_ends(file, _END_BYTES)
    digest = hashlib.sha256()
    for part in (head, tail, packets.pts.tobytes(), packets.sizes.tobytes()):
        digest.update(hashlib.sha256(part).digest())
    return size, f"{size}-{digest.hexdigest()[:16]}"
