"""Frames of a folder of pictures, in the shape of decoded video frames."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from vis_core.errors import SourceChangedError, SourceError
from vis_core.failpoints import failpoint
from vis_core.types import VideoInfo
from vis_core.video import images
from vis_core.video.gops import DecodedFrame
from vis_core.video.limits import Limits
from vis_core.video.uris import is_transient, shown

_RETRY_SECONDS = (0.1, 0.5, 2.0)


# The folder that was read last, by address and version: looking at every picture once is enough
# for all requests of a video, since each is compared with that look when it is read.
_LAST: dict[tuple[str, str], images.Pictures] = {}


def _pictures_of(video: VideoInfo) -> images.Pictures:
    """The pictures the index saw; a SourceChangedError where they are others now."""
    key = (video.uri, video.version)
    if key not in _LAST:
        pictures = images.look_at(video.uri)
        if len(pictures.uris) != video.num_frames:
            raise SourceChangedError(
                f"{shown(video.uri)}: the folder has {len(pictures.uris)} frames, the index saw "
                f"{video.num_frames}; run the command again"
            )
        if pictures.version != video.version:
            raise SourceChangedError(
                f"{shown(video.uri)}: the pictures are not those that the index saw; run the "
                "command again"
            )
        _LAST.clear()
        _LAST[key] = pictures
    return _LAST[key]


class StillFrames:
    """Frames of one folder by frame_index."""

    num_found: int | None = None

    def __init__(
        self, video: VideoInfo, limits: Limits, tick: Callable[[], None] = lambda: None
    ) -> None:
        self.video = video
        self.reasons: dict[int, str] = {}
        self._limits = limits
        self._tick = tick
        self._pictures = _pictures_of(video)

    def close(self) -> None:
        pass

    def frames(self, sampled: npt.NDArray[np.int32]) -> Iterator[DecodedFrame]:
        """Those of the frames `sampled` (ascending) that can be read."""
        for index in sampled.tolist():
            self._tick()
            pixels = self._read(index)
            if pixels is not None:
                yield DecodedFrame(index, pixels)

    def _read(self, index: int) -> npt.NDArray[np.uint8] | None:
        for pause in (*_RETRY_SECONDS, None):
            try:
                failpoint("decode_frame", self.video.video_id)
                return self._sized(index, self._pictures.read(index, self._limits))
            except SourceChangedError:
                _LAST.clear()  # it may be put back
                raise
            except (SourceError, OSError) as error:
                if is_transient(error) or is_transient(error.__cause__):
                    if pause is None:
                        raise
                    time.sleep(pause)
                    continue
                if not isinstance(error, SourceError):
                    raise
                self.reasons[index] = str(error)
                return None
        return None

    def _sized(self, index: int, picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8] | None:
        height, width = picture.shape[:2]
        if (height, width) == (self.video.height, self.video.width):
            return picture
        self.reasons[index] = (
            f"the picture is {width}x{height}, the others are "
            f"{self.video.width}x{self.video.height}"
        )
        return None
