"""Frames of videos at random: decoded once, kept as plain pixels, read through the page cache.

Training looks at a few frames of a video, at any place, again and again. A video becomes one
`.npy` file of (T, H, W, 3) RGB in the user's cache; its name says which content it was made of.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from vis_core.errors import ReelmaskError, SourceError, StorageFullError
from vis_core.node_files import CACHE_VARIABLE, cache_folder
from vis_core.types import FrameBatch, VideoInfo
from vis_core.video.limits import Limits
from vis_core.video.reader import FrameStream, ReadRequest, VideoReader
from vis_core.video.sources import Source
from vis_core.video.uris import local_uri, regular_file

logger = logging.getLogger(__name__)

Frames = npt.NDArray[np.uint8]  # (T, H, W, 3), RGB

_VERSION = 1  # counts up when the same video would give other pixels
_MAX_OPEN = 32  # each holds a file descriptor


class FrameCache:
    """The frames of any video, decoded when first asked for. Use it from one thread at a time."""

    def __init__(self, short_side_px: int | None = None, limits: Limits | None = None) -> None:
        """Frames with a longer short side are made smaller to `short_side_px`."""
        self._short_side_px = short_side_px
        self._limits = limits or Limits()
        self._open: collections.OrderedDict[Path, Frames] = collections.OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Without what is open: a copy in another process opens its own."""
        return {**self.__dict__, "_open": collections.OrderedDict()}

    def frames(self, path: Path) -> Frames:
        """(T, H, W, 3), read-only, on disk: frame i of the video is at place i."""
        if path not in self._open:
            self._open[path] = self._mapped(path)
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)
        self._open.move_to_end(path)
        return self._open[path]

    def _mapped(self, path: Path) -> Frames:
        source = _source(path)
        key = _key(source, self._short_side_px)
        folder = cache_folder() / "frames"
        kept = folder / f"{key}.npy"
        with _storage_errors(folder):
            if not kept.exists():
                folder.mkdir(parents=True, exist_ok=True)
                with _only_one(key):
                    if not kept.exists():  # another process may have been first
                        self._decode(source, kept)
            frames: Frames = np.load(kept, mmap_mode="r", allow_pickle=False)
        return frames

    def _decode(self, source: Source, kept: Path) -> None:
        """Writes all frames under a name of its own, then gives it the final one."""
        logger.debug("decoding %s into %s", source.video_id, kept.parent)
        partial = kept.with_suffix(".part")  # ours alone, as long as we have the lock
        try:
            with VideoReader(self._limits) as reader, partial.open("w+b") as file:
                video = reader.probe(source)
                if video.status == "failed":
                    raise SourceError(video.error or f"{source.video_id}: cannot be read")
                _write(file, reader, video, self._short_side_px)
            partial.replace(kept)
        finally:
            partial.unlink(missing_ok=True)


def smaller(frame: npt.NDArray[np.uint8], short_side_px: int | None) -> npt.NDArray[np.uint8]:
    """The frame with a short side of so many pixels, each a mean over the area it covers."""
    import cv2

    height, width = frame.shape[:2]
    if short_side_px is None or min(height, width) <= short_side_px:
        return frame
    factor = short_side_px / min(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def _source(path: Path) -> Source:
    status = regular_file(str(path))
    return Source(
        video_id=str(path),
        uri=local_uri(str(path)),
        kind="video",
        bytes=status.st_size,
        mtime_ns=status.st_mtime_ns,
    )


def _key(source: Source, short_side_px: int | None) -> str:
    state = (_VERSION, source.uri, source.bytes, source.mtime_ns, short_side_px)
    return hashlib.sha256(repr(state).encode()).hexdigest()[:32]


def _write(
    file: BinaryIO, reader: VideoReader, video: VideoInfo, short_side_px: int | None
) -> None:
    """A header, the frames as they come, then the header again, with their number.

    Through the file, not through a map: where the disk is full a map ends the process.
    """
    stream = reader.read(ReadRequest(video=video, start=0, stop=video.num_frames))
    count, shape = 0, (0, 0, 3)
    for batch in stream:
        _check_order(batch, count, video)
        for frame in batch.frames:
            small = smaller(frame, short_side_px)
            if not count:
                shape = small.shape
                _write_header(file, (0, *shape))
            file.write(np.ascontiguousarray(small).data)
            count += 1
    _check_complete(stream, count, video)
    begin = file.tell() - count * int(np.prod(shape))
    file.seek(0)
    _write_header(file, (count, *shape))
    assert file.tell() == begin, "numpy leaves room for the number of frames in its header"
    file.flush()
    os.fsync(file.fileno())  # or a power cut leaves the final name with nothing behind it


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _check_order(batch: FrameBatch, count: int, video: VideoInfo) -> None:
    expected = np.arange(count, count + len(batch))
    wrong = np.flatnonzero(batch.frame_index != expected)
    if len(wrong):
        raise SourceError(f"{video.video_id}: frame {expected[wrong[0]]} cannot be decoded")


def _check_complete(stream: FrameStream, count: int, video: VideoInfo) -> None:
    """All that are to be seen; a video that was counted by its decoder has what was found."""
    expected = video.num_frames if stream.num_frames_found is None else stream.num_frames_found
    if stream.holes or count != expected or not count:
        reasons = "; ".join(
            f"frames {hole.start} to {hole.stop - 1}: {hole.reason}" for hole in stream.holes[:3]
        )
        raise SourceError(
            f"{video.video_id}: expected all of {expected} frames, got {count}"
            f"{f' ({reasons})' if reasons else ''}; the file is damaged"
        )


@contextlib.contextmanager
def _only_one(key: str) -> Iterator[None]:
    """One process of this machine at a time."""
    lock = cache_folder() / "locks" / key
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _storage_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(
                f"no space left for decoded frames in {folder}: free some, choose another folder"
                f" with {CACHE_VARIABLE}, or keep frames smaller with cache_short_side_px"
            ) from error
        raise ReelmaskError(
            f"decoded frames cannot be kept in {folder}: {error.strerror or error}; choose another"
            f" folder with {CACHE_VARIABLE}"
        ) from error
