"""Packets of one video with their frame index, from the start of the file or from a key frame."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import av
import numpy as np
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from vis_core.errors import SourceChangedError, SourceError
from vis_core.types import VideoInfo
from vis_core.video.limits import Limits
from vis_core.video.probe import iter_packets, open_container, video_stream
from vis_core.video.uris import is_transient, shown

_OPEN_RETRY_SECONDS = (0.1, 0.5, 2.0)
# Containers with an index of every key frame; the others search by bytes and may land late.
_INDEXED = frozenset({"mov", "matroska", "avi", "mxf"})


class SeekMissed(Exception):
    """The packets found after a seek are not the ones the index promised."""


class IndexedPacket(NamedTuple):
    """A packet and the frame it shows; None for one that is decoded and never shown."""

    frame_index: int | None
    packet: Packet


class PacketSource:
    """One open video file. Not for two iterations at a time."""

    def __init__(self, video: VideoInfo, limits: Limits) -> None:
        self.video = video
        self.limits = limits
        self._container: InputContainer | None = None
        self._at_start = False
        self.open()

    def open(self) -> None:
        """Opens the file anew, at its start; storage that fails for a moment is asked again."""
        self.close()
        for pause in (*_OPEN_RETRY_SECONDS, None):
            try:
                self._container = open_container(self.video.uri, self.limits)
                break
            except (SourceError, OSError) as error:
                if pause is None or not (is_transient(error) or is_transient(error.__cause__)):
                    raise
                time.sleep(pause)
        assert self._container is not None
        self.stream: VideoStream = video_stream(self._container)
        for other in self._container.streams:
            if other.index != self.stream.index:
                other.discard = av.stream.Discard.all
        self._new_extradata: bytes | None = None
        self._at_start = True
        self._check_size(self._container.size)

    def _check_size(self, size: int) -> None:
        if size >= 0 and size != self.video.bytes:
            raise SourceChangedError(
                f"{shown(self.video.uri)}: the file has {size} bytes, the index saw "
                f"{self.video.bytes}; run the command again"
            )

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = None

    def from_start(self) -> Iterator[IndexedPacket]:
        """Every packet of the file."""
        if not self._at_start:
            self.open()
        return self._packets()

    def from_key(self, frame_index: int, key_before: int) -> Iterator[IndexedPacket]:
        """The packets from the one of this key frame on; SeekMissed where it does not come."""
        assert self._container is not None
        self._at_start = False
        name = self._container.format.name.split(",")[0]
        target = frame_index if name in _INDEXED else key_before
        try:
            self._container.seek(int(self.video.pts_of(np.array(target))), stream=self.stream)
        except av.FFmpegError as error:
            if is_transient(error):
                raise
            raise SeekMissed from error
        return self._after_seek(frame_index)

    def _after_seek(self, frame_index: int) -> Iterator[IndexedPacket]:
        packets = self._packets()
        for found in packets:
            if found.frame_index == frame_index:
                yield found
                yield from packets
                return
            if found.packet.is_keyframe and (found.frame_index or 0) > frame_index:
                break
        raise SeekMissed

    def _packets(self) -> Iterator[IndexedPacket]:
        assert self._container is not None
        for packet in iter_packets(self._container, self.stream):
            self._at_start = False
            self._note_extradata(packet)
            yield IndexedPacket(self.frame_index_of(packet.pts), packet)

    def _note_extradata(self, packet: Packet) -> None:
        # Sent once where a file switches to another codec header; every decoder opened later
        # needs it.
        if packet.has_sidedata("new_extradata"):
            self._new_extradata = bytes(packet.get_sidedata("new_extradata"))

    def frame_index_of(self, pts: int | None) -> int | None:
        """Rank of a presentation time stamp among shown packets; None where there is none."""
        video = self.video
        if pts is None or video.sequential:
            return None
        if video.pts is None:
            index, rest = divmod(pts - video.first_pts, video.pts_step)
            return index if rest == 0 and 0 <= index < video.num_frames else None
        index = int(np.searchsorted(video.pts, pts))
        return index if index < len(video.pts) and video.pts[index] == pts else None

    def new_decoder(self) -> VideoCodecContext:
        """A decoder that has seen nothing yet, set up as the container describes the stream."""
        model = self.stream.codec_context
        context = CodecContext.create(model.codec, "r")
        assert isinstance(context, VideoCodecContext)
        context.extradata = self._new_extradata or model.extradata
        for name in ("width", "height", "codec_tag", "bits_per_coded_sample"):
            setattr(context, name, getattr(model, name))
        for name in ("color_range", "colorspace", "color_primaries", "color_trc"):
            setattr(context, name, getattr(model, name))
        if model.pix_fmt is not None:
            context.pix_fmt = model.pix_fmt
        context.reorder_depth = model.reorder_depth
        context.thread_count = self.limits.decode_threads
        base = self.stream.time_base
        context.options = {"max_pixels": str(self.limits.max_frame_pixels)} | (
            {"pkt_timebase": f"{base.numerator}/{base.denominator}"} if base else {}
        )
        return context
