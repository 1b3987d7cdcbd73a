"""Frames per second through the decoder child, beside the same decoding in this process.

    python -m tests.bench.decode

The ceiling is PyAV in-process with the same RGB conversion; five interleaved pairs per clip. On
two cores the child decodes while the parent copies, so a consumer that computes gets its frames
for the price of a copy.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path

import av
import numpy as np

from vis_core.types import VideoInfo
from vis_core.video.limits import Limits
from vis_core.video.reader import ReadRequest, Sampling, VideoReader
from vis_core.video.rgb import RgbConverter
from vis_core.video.sources import expand_inputs

CLIPS = ("juggle_720p", "cups_720p", "bedroom_540p")
PAIRS = 5


def measure(folder: Path) -> list[dict[str, object]]:
    """A row per clip: median and range of the ratio child ÷ in-process."""
    rows = []
    with VideoReader(Limits()) as reader:
        for source in expand_inputs([str(folder)], {}):
            if source.video_id not in CLIPS:
                continue
            video = reader.probe(source)
            _through_child(reader, video)  # starts the child, warms the file cache
            pairs = [(_through_child(reader, video), _in_process(video)) for _ in range(PAIRS)]
            ratios = sorted(child[0] / here[0] for child, here in pairs)
            assert {child[1] for child, _ in pairs} == {here[1] for _, here in pairs}
            rows.append(
                {
                    "clip": source.video_id,
                    "frames": video.num_frames,
                    "child_fps": round(statistics.median(child[0] for child, _ in pairs), 1),
                    "in_process_fps": round(statistics.median(here[0] for _, here in pairs), 1),
                    "ratio": round(statistics.median(ratios), 2),
                    "ratio_range": [round(ratios[0], 2), round(ratios[-1], 2)],
                }
            )
    return rows


def _through_child(reader: VideoReader, video: VideoInfo) -> tuple[float, int]:
    """Frames a second, and a checksum of the pixels that came."""
    started, total, count = time.perf_counter(), 0, 0
    request = ReadRequest(video=video, start=0, stop=video.num_frames, sampling=Sampling())
    for batch in reader.read(request):
        total += int(batch.frames[:, ::64, ::64].astype(np.int64).sum())
        count += len(batch)
    return count / (time.perf_counter() - started), total


def _in_process(video: VideoInfo) -> tuple[float, int]:
    started, total, count = time.perf_counter(), 0, 0
    with av.open(video.uri.removeprefix("file://")) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        convert = RgbConverter(video)
        for frame in container.decode(stream):
            pixels = convert(frame).copy()
            total += int(pixels[::64, ::64].astype(np.int64).sum())
            count += 1
    return count / (time.perf_counter() - started), total


def shared_media() -> Path | None:
    """Real clips, which live outside the repository."""
    default = Path(__file__).parents[3] / "shared"
    folder = Path(os.environ.get("REELMASK_SHARED", default)) / "media"
    return folder if folder.is_dir() else None


if __name__ == "__main__":
    found = shared_media()
    print(json.dumps(measure(found) if found else "no clips: set REELMASK_SHARED"))
