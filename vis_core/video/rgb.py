"""Decoded pictures to RGB of display size, as `ffmpeg -pix_fmt rgb24` does it.

FFmpeg's own `scale` filter with its default flags (`bicubic`, no `accurate_rnd`) gives the same
bytes as the command line, also for 10 bit and full range: it reads matrix, range and chroma
position from each frame. PyAV's `VideoFrame.reformat` ignores the chroma position and differs by
up to 100 levels at coloured edges of 10-bit video.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.video.frame import VideoFrame

from vis_core.types import VideoInfo

_Look = tuple[object, ...]


class RgbConverter:
    """Converts the frames of one video, whose coded size and format may change on the way."""

    def __init__(self, video: VideoInfo) -> None:
        turned = video.rotation % 180 == 90
        self._height, self._width = (
            (video.width, video.height) if turned else (video.height, video.width)
        )
        self._turns = video.rotation // 90 % 4
        self._graph: Graph | None = None
        self._look: _Look | None = None

    def __call__(self, frame: VideoFrame) -> npt.NDArray[np.uint8]:
        """(H, W, 3); keeps its buffer for as long as it is referenced."""
        look: _Look = (
            frame.width,
            frame.height,
            frame.format.name,
            frame.colorspace,
            frame.color_range,
        )
        if self._graph is None or look != self._look:
            self._graph, self._look = self._build(frame), look
        self._graph.vpush(frame)
        return np.rot90(_pixels(self._graph.vpull()), self._turns)

    def _build(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = 1
        source = graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base="1/1000",
            pixel_aspect="1/1",
            colorspace=str(int(frame.colorspace)),
            range=str(int(frame.color_range)),
        )
        scale = graph.add("scale", f"w={self._width}:h={self._height}:flags=bicubic")
        rgb = graph.add("format", "rgb24")
        graph.link_nodes(source, scale, rgb, graph.add("buffersink")).configure()
        return graph


def _pixels(frame: VideoFrame) -> npt.NDArray[np.uint8]:
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(frame.height, abs(plane.line_size))
    return rows[:, : frame.width * 3].reshape(frame.height, frame.width, 3)
