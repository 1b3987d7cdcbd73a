"""Exact decoding: the same frames, and the same holes, wherever one starts.

A file is cut, in decode order, into stretches that begin at *clean* key frames: ones a decoder
can start at. Each stretch is decoded by a decoder that has seen nothing else, so that neither its
frames nor its damage depend on what was decoded before. Where a key frame is not clean (x264's
periodic intra refresh marks frames as key that only begin to repair the picture) the stretch goes
on. With open GOPs the last frames of a stretch, in order of display, come after the next key
frame in the file; both decoders then run side by side for those few packets.

Pictures become RGB the moment they come out and are given back to the decoder at once, wanted or
not: decoders that skip damaged areas leave in them what the buffer held before, so even the order
in which buffers come back must not depend on who wants which frames.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from vis_core.failpoints import failpoint
from vis_core.types import VideoInfo
from vis_core.video.limits import Limits
from vis_core.video.memory import check_memory
from vis_core.video.nal import is_random_access
from vis_core.video.packets import IndexedPacket, PacketSource, SeekMissed
from vis_core.video.rgb import RgbConverter
from vis_core.video.uris import is_transient

Pixels = npt.NDArray[np.uint8]

# Codecs whose key frames reset all state. Others are decoded from the start of the file, because
# state such as palettes may live on across key frames.
_RESTARTABLE = frozenset(
    ("av1", "flv1", "h263", "h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3")
) | {"theora", "vc1", "vp8", "vp9", "vvc", "wmv1", "wmv2", "wmv3"}
# Every packet stands alone. Each still gets a decoder of its own: what a damaged picture leaves
# out would otherwise show the picture before.
_INTRA_ONLY = frozenset(
    ("cfhd", "dnxhd", "dvvideo", "ffvhuff", "huffyuv", "mjpeg", "prores", "utvideo", "v210")
)
_KEYS_TRIED = 3  # before a start from the beginning; bounds the seeks per request
_RETRY_SECONDS = (0.1, 0.5, 2.0)
_MAX_NOTED = 100_000  # reasons kept for frames that did not come

DAMAGED = "the decoder flagged the frame as damaged"
NOT_RGB = "its pixel format cannot be converted to RGB"
NO_FRAME = "the decoder gave no frame for its packet"


class DecodedFrame(NamedTuple):
    """One frame as predictors see it: RGB, display size."""

    frame_index: int
    pixels: Pixels


Convert = Callable[[int, VideoFrame], Pixels | None]  # None: not wanted, or impossible


class _Decoder:
    """Decodes one stretch; gives frames in ascending order and notes why others did not come."""

    def __init__(
        self, source: PacketSource, span: range, convert: Convert, reasons: dict[int, str]
    ) -> None:
        self.start = span.start
        self.stop = span.stop  # the next key frame; goes on where that one is not clean
        self.num_fed = 0  # packets of frames in the span
        self._source = source
        self._context: VideoCodecContext = source.new_decoder()
        self._convert = convert
        self._reasons = reasons
        self._last = span.start - 1

    def feed(self, item: IndexedPacket) -> list[DecodedFrame]:
        if item.frame_index is not None and self.start <= item.frame_index < self.stop:
            self.num_fed += 1
        return self._accept(self._decode(item.packet, item.frame_index))

    def finish(self) -> list[DecodedFrame]:
        return self._accept(self._decode(None, None))

    def _decode(self, packet: Packet | None, frame_index: int | None) -> list[VideoFrame]:
        try:
            return self._context.decode(packet)
        except (EOFError, av.error.EOFError):
            return []
        except MemoryError:
            raise
        except av.FFmpegError as error:
            check_memory(self._context.width * self._context.height)
            if frame_index is not None and frame_index >= self.start:
                self._note(frame_index, f"the decoder refused its packet: {_words(error)}")
            return []

    def _accept(self, pictures: list[VideoFrame]) -> list[DecodedFrame]:
        frames = []
        for picture in pictures:
            failpoint("decode_frame", self._source.video.video_id)
            index = self._source.frame_index_of(picture.pts)
            if index is None or not self._is_next(index):
                continue
            self._last = index
            if picture.is_corrupt:
                self._note(index, DAMAGED)
                continue
            pixels = self._convert(index, picture)
            if pixels is not None:
                frames.append(DecodedFrame(index, pixels))
        return frames

    def _is_next(self, index: int) -> bool:
        # Display order only goes up: a frame that comes late would be there or not depending
        # on where decoding stops. From `stop` on, frames are fed here as references only.
        return self._last < index < self.stop

    def _note(self, frame_index: int, reason: str) -> None:
        if len(self._reasons) < _MAX_NOTED:
            self._reasons[frame_index] = reason


def _words(error: av.FFmpegError) -> str:
    """The decoder's reason without addresses, the same on every run."""
    return str(error.strerror or type(error).__name__).lower()


class ExactFrames:
    """Frames of one video by frame_index, independent of where reading starts.

    `tick` is called per packet: a sign of life for whoever watches.
    """

    def __init__(
        self, video: VideoInfo, limits: Limits, tick: Callable[[], None] = lambda: None
    ) -> None:
        self.video = video
        self.reasons: dict[int, str] = {}
        self.num_found: int | None = None  # sequential videos, once read to the end
        self._source = PacketSource(video, limits)
        self._rgb = RgbConverter(video)
        self._sampled = np.zeros(0, np.int32)
        self._tick = tick
        self._trusts_seek = True
        self._keys = np.asarray(video.key_frames)
        self._is_intra_only = video.codec in _INTRA_ONLY
        self._cuts_stretches = self._is_intra_only or video.codec in _RESTARTABLE

    def close(self) -> None:
        self._source.close()

    def frames(self, sampled: npt.NDArray[np.int32]) -> Iterator[DecodedFrame]:
        """Those of the frames `sampled` (ascending) that can be decoded."""
        self._sampled = sampled
        first = int(sampled[0])
        pauses = iter(_RETRY_SECONDS)
        while True:
            try:
                for frame in self._attempt(first):
                    yield frame
                    first = frame.frame_index + 1
                    pauses = iter(_RETRY_SECONDS)
                return
            except SeekMissed:
                assert self._trusts_seek
                self._trusts_seek = False
            except OSError as error:
                pause = next(pauses, None)
                if pause is None or not is_transient(error):
                    raise
                time.sleep(pause)
            self._source.open()

    def _attempt(self, first: int) -> Iterator[DecodedFrame]:
        if self.video.sequential:
            frames = self._count()
        else:
            start, packets = self._enter(first)
            frames = self._decode(start, packets)
        for frame in frames:
            if frame.frame_index >= first:  # others went out before something had to be retried
                yield frame

    def _new_decoder(self, start: int) -> _Decoder:
        return _Decoder(
            self._source, range(start, self._next_key(start)), self._convert, self.reasons
        )

    def _next_key(self, index: int) -> int:
        place = int(np.searchsorted(self._keys, index, side="right"))
        known = self._cuts_stretches and place < len(self._keys)
        return int(self._keys[place]) if known else self.video.num_frames

    def _convert(self, index: int, picture: VideoFrame) -> Pixels | None:
        place = int(np.searchsorted(self._sampled, index))
        if place == len(self._sampled) or self._sampled[place] != index:
            return None
        try:
            return self._rgb(picture)
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError):
            self.reasons[index] = NOT_RGB
            return None

    def _count(self) -> Iterator[DecodedFrame]:
        """Frames numbered as they come out: for videos whose time stamps name none."""
        decoder, count = self._source.new_decoder(), 0
        for packet in self._all_packets():
            try:
                pictures = decoder.decode(packet)
            except MemoryError:
                raise
            except av.FFmpegError:
                check_memory(decoder.width * decoder.height)
                continue
            for picture in pictures:
                failpoint("decode_frame", self.video.video_id)
                if picture.is_corrupt:
                    self.reasons[count] = DAMAGED
                elif (pixels := self._convert(count, picture)) is not None:
                    yield DecodedFrame(count, pixels)
                count += 1
        self.num_found = count

    def _all_packets(self) -> Iterator[Packet | None]:
        for item in self._source.from_start():
            self._tick()
            yield item.packet
        yield None

    def _enter(self, first: int) -> tuple[int, Iterator[IndexedPacket]]:
        """The start of the stretch `first` is in, and the packets from there on."""
        position = int(np.searchsorted(self._keys, first, side="right")) - 1
        can_seek = self._trusts_seek and self._cuts_stretches
        for place in range(position, max(0, position - _KEYS_TRIED), -1) if can_seek else ():
            key = int(self._keys[place])
            packets = self._source.from_key(key, int(self._keys[place - 1]))
            head = next(packets)  # raises SeekMissed
            if self._is_clean(head):
                return key, _chain(head, packets)
        return 0, self._source.from_start()

    def _decode(self, start: int, packets: Iterator[IndexedPacket]) -> Iterator[DecodedFrame]:
        sought = start > 0
        current = self._new_decoder(start)
        following: _Decoder | None = None
        held: list[DecodedFrame] = []  # of `following`, while `current` is not complete
        for item in packets:
            self._tick()
            if self._starts_stretch(item, following or current):
                if following is not None:
                    # A whole stretch later frames are still missing: lost in the file, or
                    # skipped by the seek.
                    if sought:
                        raise SeekMissed
                    yield from current.finish()
                    yield from held
                    current = following
                assert item.frame_index is not None
                following, held = self._new_decoder(item.frame_index), []
            if following is not None and _is_complete(current, following):
                yield from current.finish()
                yield from held
                current, following, held = following, None, []
            if following is None:
                yield from current.feed(item)
            else:
                if item.frame_index is None or item.frame_index <= following.start:
                    yield from current.feed(item)
                held += following.feed(item)
        yield from current.finish()
        yield from held
        if following is not None:
            yield from following.finish()

    def _starts_stretch(self, item: IndexedPacket, current: _Decoder) -> bool:
        """Whether a new decoder takes over here; else the current one goes on beyond this key."""
        index = item.frame_index
        if not self._cuts_stretches or index is None or index <= current.start:
            return False
        place = int(np.searchsorted(self._keys, index))
        if place == len(self._keys) or self._keys[place] != index:
            return False
        if self._is_clean(item):
            return True
        current.stop = self._next_key(index)
        return False

    def _is_clean(self, item: IndexedPacket) -> bool:
        """Whether a decoder can start here: it gives this very frame, and as a key frame.

        Decided on this packet alone, so that it is the same from wherever it was reached.
        """
        if self._is_intra_only:
            return True
        model = self._source.stream.codec_context
        if is_random_access(self.video.codec, model.extradata, bytes(item.packet)):
            return True
        context = self._source.new_decoder()
        try:
            pictures = context.decode(item.packet) + context.decode(None)
        except MemoryError:
            raise
        except (EOFError, av.FFmpegError):
            check_memory(context.width * context.height)
            return False
        return any(
            picture.key_frame and self._source.frame_index_of(picture.pts) == item.frame_index
            for picture in pictures
        )


def _is_complete(current: _Decoder, following: _Decoder) -> bool:
    return current.num_fed >= following.start - current.start


def _chain(head: IndexedPacket, rest: Iterator[IndexedPacket]) -> Iterator[IndexedPacket]:
    yield head
    yield from rest
