"""Overlay videos: each video of a results folder with its masks drawn on, as MP4.

Only frames that the job looked at are shown, at the speed they were filmed: of a run with
`--every 2` each second one. Nothing is invented between them.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from vis_core.errors import SourceError, UsageError
from vis_core.formats.names import file_name
from vis_core.masks import rle
from vis_core.progress import Progress, Silence
from vis_core.render.overlay import Drawn, Image, Painter
from vis_core.render.rows import FrameMasks
from vis_core.render.source import RenderSource
from vis_core.store.folder import full_disk_is_clear
from vis_core.types import IntArray, VideoInfo
from vis_core.video.encode import has_mark, open_video
from vis_core.video.reader import ReadRequest, VideoReader
from vis_core.video.sampling import sampled_frames

MIN_HEIGHT, MAX_HEIGHT = 64, 4320
_BATCH_BYTES = 64 << 20
_MAX_BATCH = 8
_MIN_FPS, _MAX_FPS = 0.5, 240.0  # what players take
_MAX_SIDE_PX = 16384  # of x264
_MARK = b"reelmask overlay"  # behind a video of ours: only such a file is replaced


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """How masks are drawn."""

    scale: float = 1.0  # of lines and letters; above 1 for pictures that are shown small
    details: bool = True  # name and score on the labels, and not the id alone


@dataclasses.dataclass(kw_only=True)
class RenderReport:
    """What was drawn, and what was not and why."""

    out: str
    num_videos: int = 0
    num_frames: int = 0
    seconds: float = 0.0
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)  # reason by video


def render(
    source: RenderSource,
    out: str,
    *,
    height: int | None = None,
    progress: Progress | None = None,
) -> RenderReport:
    """Writes `OUT/<video>.mp4` for every video; an earlier overlay that is there is replaced.

    A video that cannot be read is skipped.
    """
    if height is not None and not MIN_HEIGHT <= height <= MAX_HEIGHT:
        raise UsageError(f"--height: expected {MIN_HEIGHT} to {MAX_HEIGHT} pixels, got {height}")
    folder = _local_folder(out)
    for video in source.videos:
        _refuse_foreign(overlay_path(folder, video.video_id))
    progress = progress or Silence()
    report = RenderReport(out=out)
    started = time.monotonic()
    frames = sum(len(sampled_frames(video, source.sampling)) for video in source.videos)
    progress.begin("render", frames, "frames")
    try:
        _write_all(source, folder, height, report, progress)
    finally:
        progress.end()
    report.skipped = dict(sorted(report.skipped.items()))
    report.seconds = time.monotonic() - started
    return report


def _write_all(
    source: RenderSource,
    folder: Path,
    height: int | None,
    report: RenderReport,
    progress: Progress,
) -> None:
    with VideoReader() as reader:
        for video in source.videos:
            try:
                found = source.locate(video, reader)
                written = _write(source, found, reader, folder, height, progress)
            except (SourceError, UsageError) as error:
                report.skipped[video.video_id] = " ".join(str(error).split())
            else:
                report.num_videos += 1
                report.num_frames += written


def overlay_path(out: str | Path, video_id: str) -> Path:
    """Where the overlay of a video goes; no id leads out of the folder."""
    return Path(out, f"{file_name(video_id)}.mp4")


def shown_size(video: VideoInfo, height: int | None) -> rle.Size:
    """Size of the drawn pictures: the video's, or one of this height; one that H.264 can have."""
    height = height or video.height
    size = max(2, height), max(2, round(video.width * height / video.height))
    if max(size) > _MAX_SIDE_PX:
        raise SourceError(
            f"the overlay would have {size[1]}x{size[0]} pixels, and H.264 takes {_MAX_SIDE_PX} on"
            " a side; a smaller --height helps"
        )
    return size


def overlays(
    source: RenderSource,
    video: VideoInfo,
    reader: VideoReader,
    size: rle.Size,
    *,
    frames: Sequence[int] | None = None,
    style: Style | None = None,
) -> Iterator[tuple[int, Image]]:
    """Frame index and picture of every sampled frame, or of `frames` (ascending), drawn on."""
    style = style or Style()
    painter = Painter(video.video_id, (video.height, video.width), size, scale=style.scale)
    names = source.names(video) if style.details else {}
    masks = _Cursor(source.masks(video, frames))
    for request in _requests(source, video, frames):
        for batch in reader.read(request):
            for frame_index, pixels in zip(batch.frame_index.tolist(), batch.frames, strict=True):
                image = _fit(pixels, size)
                here = masks.at(frame_index)
                if here is not None:
                    painter.paint(image, _drawn(here, names, style))
                yield frame_index, image


def _local_folder(out: str) -> Path:
    if "://" in out:
        raise UsageError(f"--out {out!r}: overlays are local files; copy them there afterwards")
    path = Path(out)
    if path.exists() and not path.is_dir():
        raise UsageError(f"--out {out!r} is a file; expected a folder")
    path.mkdir(parents=True, exist_ok=True)
    return path


def _refuse_foreign(path: Path) -> None:
    """Videos may lie where overlays of the same names are to go."""
    if (path.exists() or path.is_symlink()) and not (path.is_file() and has_mark(path, _MARK)):
        raise UsageError(
            f"--out: {str(path)!r} is there already and is no overlay; choose another folder"
        )


def _write(
    source: RenderSource,
    video: VideoInfo,
    reader: VideoReader,
    folder: Path,
    height: int | None,
    progress: Progress,
) -> int:
    size = shown_size(video, height)
    fps = _fps(video, sampled_frames(video, source.sampling))
    path = overlay_path(folder, video.video_id)
    _refuse_foreign(path)
    pictures = overlays(source, video, reader, size)
    first = next(pictures, None)
    if first is None:
        raise SourceError("no frame of it can be decoded")
    with (
        full_disk_is_clear(os.fspath(folder)),
        open_video(path, height=size[0], width=size[1], fps=fps, mark=_MARK) as writer,
    ):
        for _, image in itertools.chain([first], pictures):
            writer.write(image)
            progress.advance(1)
    return writer.num_frames


def _fps(video: VideoInfo, frames: IntArray) -> float:
    """Pictures a second such that the overlay takes as long as the video."""
    if len(frames) < 2:
        return min(max(video.fps, _MIN_FPS), _MAX_FPS)
    first, last = video.seconds_of(frames[[0, -1]])
    rate = (len(frames) - 1) / (last - first) if last > first else video.fps
    return float(np.clip(rate, _MIN_FPS, _MAX_FPS))


def _requests(
    source: RenderSource, video: VideoInfo, frames: Sequence[int] | None
) -> Iterator[ReadRequest]:
    frame_bytes = 3 * video.height * video.width
    batch_size = max(1, min(_MAX_BATCH, _BATCH_BYTES // frame_bytes))
    if frames is None:
        yield ReadRequest(
            video=video,
            start=0,
            stop=video.num_frames,
            sampling=source.sampling,
            batch_size=batch_size,
        )
        return
    for frame in frames:
        yield ReadRequest(video=video, start=frame, stop=frame + 1, batch_size=1)


def _fit(pixels: Image, size: rle.Size) -> Image:
    """The picture at the size shown, to be drawn on."""
    if pixels.shape[:2] == size:
        return pixels  # a batch is its receiver's own
    smaller = size[0] < pixels.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (size[1], size[0]), interpolation=how))


def _drawn(here: FrameMasks, names: Mapping[int, str], style: Style) -> Drawn:
    labels = []
    for track_id, score in zip(here.track_ids, here.scores, strict=True):
        shown = f"{score:.2f}" if style.details and score is not None else ""
        labels.append("  ".join(filter(None, [str(track_id), names.get(track_id, ""), shown])))
    return Drawn(track_ids=here.track_ids, labels=labels, masks=here.masks)


class _Cursor:
    """Finds the masks of frames that are asked for in ascending order."""

    def __init__(self, frames: Iterator[FrameMasks]) -> None:
        self._frames = frames
        self._next = next(frames, None)

    def at(self, frame_index: int) -> FrameMasks | None:
        while self._next is not None and self._next.frame_index < frame_index:
            self._next = next(self._frames, None)
        found = self._next
        return found if found is not None and found.frame_index == frame_index else None
