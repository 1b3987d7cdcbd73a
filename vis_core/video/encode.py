"""Pictures to H.264 in MP4 that every browser plays; the same pictures give the same file.

One encoder thread and a fixed preset, because the bytes would depend on the number of threads.
The colours are tagged for what they are (BT.601, limited range), so that no player has to guess.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter

from vis_core.errors import ReelmaskError

MAX_CRF = 51  # of x264: the worst quality
DEFAULT_CRF = 20
DEFAULT_GOP = 24  # frames from key frame to key frame: how finely players can seek

_PRESET = "veryfast"
_MAX_FPS_DENOMINATOR = 1001  # of NTSC rates
_BT601 = {"color_primaries": 6, "color_trc": 6, "colorspace": 6, "color_range": 1}


class VideoWriter:
    """Takes the frames of one video, one by one; made by `open_video`."""

    def __init__(self, container: Any, stream: Any, height: int, width: int) -> None:
        self._container = container
        self._stream = stream
        self._shape = (height, width, 3)
        self._missing = (height % 2, width % 2)
        self._converter = VideoReformatter()  # one for all: it takes milliseconds to set up
        self.num_frames = 0

    def write(self, frame: npt.NDArray[np.uint8]) -> None:
        """Adds a frame, RGB (H, W, 3)."""
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(
                f"frame {self.num_frames}: expected uint8 {self._shape}, "
                f"got {frame.dtype} {frame.shape}"
            )
        if any(self._missing):
            rows, columns = self._missing
            frame = np.pad(frame, ((0, rows), (0, columns), (0, 0)), mode="edge")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = self._converter.reformat(
            picture,
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
        )
        picture.pts = self.num_frames
        picture.time_base = self._stream.codec_context.time_base
        self._container.mux(self._stream.encode(picture))
        self.num_frames += 1

    def _finish(self) -> None:
        self._container.mux(self._stream.encode())


@contextlib.contextmanager
def open_video(
    path: str | os.PathLike[str],
    *,
    height: int,
    width: int,
    fps: float,
    crf: int = DEFAULT_CRF,
    gop: int = DEFAULT_GOP,
    mark: bytes = b"",
) -> Iterator[VideoWriter]:
    """Writes an MP4 to a local path, which appears when all went well, whole or not at all.

    H.264 with 4:2:0 colours has even sides: an odd picture gets its last row or column twice, so
    the video is one pixel larger. `crf` is x264's quality: lower is better and larger, 17 looks
    like the original, 30 shows blocks. `mark` is put behind the video, where no player looks.
    """
    _check(height, width, fps, crf, gop)
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with av.open(
            str(partial), "w", format="mp4", options={"movflags": "faststart", "fflags": "bitexact"}
        ) as container:
            rate = Fraction(fps).limit_denominator(_MAX_FPS_DENOMINATOR)
            writer = VideoWriter(
                container, _add_stream(container, height, width, rate, crf, gop), height, width
            )
            yield writer
            if not writer.num_frames:
                raise ReelmaskError(f"{target}: a video needs at least one frame, none was written")
            writer._finish()
        if mark:
            with partial.open("ab") as file:
                file.write(_free_box(mark))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def has_mark(path: str | os.PathLike[str], mark: bytes) -> bool:
    """Whether `open_video` wrote this file with this mark."""
    box = _free_box(mark)
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(box)))
        return file.read(len(box)) == box


def _free_box(content: bytes) -> bytes:
    """Of an MP4 file: bytes that mean nothing to players."""
    return struct.pack(">I", 8 + len(content)) + b"free" + content


def _check(height: int, width: int, fps: float, crf: int, gop: int) -> None:
    if height < 2 or width < 2:
        raise ValueError(f"height and width: expected 2 pixels or more, got {height} x {width}")
    if not (math.isfinite(fps) and fps > 0):
        raise ValueError(f"fps: expected a rate above 0, got {fps}")
    if not 0 <= crf <= MAX_CRF:
        raise ValueError(f"crf: expected 0 (lossless) to {MAX_CRF} (worst), got {crf}")
    if gop < 1:
        raise ValueError(f"gop: expected 1 frame or more, got {gop}")


def _add_stream(container: Any, height: int, width: int, rate: Fraction, crf: int, gop: int) -> Any:
    options = {"preset": _PRESET, "crf": str(crf), "threads": "1", "x264-params": "mbtree=0"}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.height, stream.width = height + height % 2, width + width % 2
    stream.pix_fmt = "yuv420p"
    stream.gop_size = gop
    context = stream.codec_context
    context.thread_count = 1
    context.time_base = 1 / rate
    for name, value in _BT601.items():
        setattr(context, name, value)
    return stream
