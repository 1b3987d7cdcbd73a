"""Frames per second of flow_match's motion front end on one core, decoding left out.

    python -m tests.bench.motion

Frames are decoded beforehand. What counts is CPU time, so that other work on the machine does not;
the detector uses one thread. `masks` is the mean number per frame: an empty scene costs less.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.bench.decode import CLIPS, shared_media
from vis_core.systems.flow_match import FLOW_MATCH, FlowMatchPredictConfig
from vis_core.types import FrameBatch, VideoInfo
from vis_core.video.limits import Limits
from vis_core.video.reader import ReadRequest, Sampling, VideoReader
from vis_core.video.sources import expand_inputs
from vis_core.windows import ShardWindow

NUM_FRAMES = 120
RUNS = 3


def measure(folder: Path) -> list[dict[str, object]]:
    """A row per clip: median and range of the frames per CPU second."""
    rows = []
    with VideoReader(Limits()) as reader:
        for source in expand_inputs([str(folder)], {}):
            if source.video_id not in CLIPS:
                continue
            video = reader.probe(source)
            batches = list(_decoded(reader, video))
            runs = [_predicted(batches, video) for _ in range(RUNS)]
            rates = [rate for rate, _ in runs]
            rows.append(
                {
                    "clip": source.video_id,
                    "height": video.height,
                    "frames": NUM_FRAMES,
                    "masks": round(runs[0][1] / NUM_FRAMES, 1),
                    "fps_per_core": round(statistics.median(rates), 1),
                    "fps_range": [round(min(rates), 1), round(max(rates), 1)],
                }
            )
    return rows


def _decoded(reader: VideoReader, video: VideoInfo) -> Iterator[FrameBatch]:
    request = ReadRequest(video=video, start=0, stop=NUM_FRAMES, sampling=Sampling())
    for batch in reader.read(request):
        yield FrameBatch(
            video_id=batch.video_id,
            frame_index=batch.frame_index,
            pts_seconds=batch.pts_seconds,
            frames=np.array(batch.frames),  # the reader's own memory is used again
            rank=batch.rank,
        )


def _predicted(batches: list[FrameBatch], video: VideoInfo) -> tuple[float, int]:
    """Frames per CPU second, and the number of masks."""
    predictor = FLOW_MATCH.make_predictor(FlowMatchPredictConfig())
    window = ShardWindow(video=video, start=0, stop=NUM_FRAMES)
    started = time.process_time()
    rows = list(predictor.predict(iter(batches), window))
    seconds = time.process_time() - started
    assert len(rows) == NUM_FRAMES
    return NUM_FRAMES / seconds, sum(map(len, rows))


if __name__ == "__main__":
    found = shared_media()
    print(json.dumps(measure(found) if found else "no clips: set REELMASK_SHARED"))
