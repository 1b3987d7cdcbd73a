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
from vis_core.video.uris import is_transient

_RETRY_SECONDS = (0.1, 0.5, 2.0)


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
        self._uris = images.list_frames(video.uri)
        if len(self._uris) != video.num_frames:
            raise SourceChangedError(
                f"{video.uri}: the folder has {len(self._uris)} frames, the index saw "
                f"{video.num_frames}; run the index again"
            )

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
                return self._sized(index, images.read_frame(self._uris[index], self._limits))
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
