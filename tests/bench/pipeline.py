"""The whole inline run beside its ceiling: the same clips, only decoded.

    python -m tests.bench.pipeline

The predictor is the formula oracle with ten instances a frame, so this is what decoding, writing
and bookkeeping leave of the decoder's speed. Index and finish are not part of either figure.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path

from tests.bench.decode import CLIPS, shared_media
from vis_core.job import Job, MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.systems import get_system
from vis_core.types import VideoInfo
from vis_core.video.limits import Limits
from vis_core.video.reader import ReadRequest, Sampling, VideoReader
from vis_core.video.sources import expand_inputs

PAIRS = 5


class _PredictTime:
    """A progress that only times the predict stage."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._stage, self._started = "", 0.0

    def begin(self, stage: str, total: float, unit: str) -> None:
        self._stage, self._started = stage, time.perf_counter()

    def advance(self, amount: float) -> None:
        pass

    def note(self, **values: object) -> None:
        pass

    def end(self) -> None:
        if self._stage == "predict":
            self.seconds += time.perf_counter() - self._started


def measure(folder: Path) -> dict[str, object]:
    inputs = [str(folder / f"{name}.mp4") for name in CLIPS]
    sources = expand_inputs(inputs, {})
    pairs = []
    with tempfile.TemporaryDirectory() as scratch, VideoReader(Limits()) as reader:
        videos = [reader.probe(source) for source in sources]
        _decode_only(reader, videos)
        for number in range(PAIRS):
            job = make_job(
                inputs,
                f"{scratch}/{number}",
                [MemberSpec(system=get_system("oracle"))],
                settings={"truth": "formula:10"},
            )
            pairs.append((_label(job), _decode_only(reader, videos)))
    ratios = sorted(label / ceiling for label, ceiling in pairs)
    return {
        "frames": sum(video.num_frames for video in videos),
        "label_fps": round(statistics.median(label for label, _ in pairs), 1),
        "decode_fps": round(statistics.median(ceiling for _, ceiling in pairs), 1),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(ratios[0], 2), round(ratios[-1], 2)],
    }


def _label(job: Job) -> float:
    progress = _PredictTime()
    report = run_inline(job, progress)
    return report.frames_predicted / progress.seconds


def _decode_only(reader: VideoReader, videos: list[VideoInfo]) -> float:
    started, count = time.perf_counter(), 0
    for video in videos:
        request = ReadRequest(video=video, start=0, stop=video.num_frames, sampling=Sampling())
        count += sum(len(batch) for batch in reader.read(request))
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    found = shared_media()
    print(json.dumps(measure(found) if found else "no clips: set REELMASK_SHARED"))
