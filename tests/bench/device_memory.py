"""propose_reduce on one video of 5,000 frames: what its tensors take of the device, by window.

    python -m tests.bench.device_memory [--frames 5000]

The long video of tests/bench/long_video.py, labelled by the command line in this process. Beside a
GPU the bytes are those of torch's allocator; elsewhere those of a device that counts its tensors
and computes on the processor (tests/support/stand_in.py). What a window takes goes with the objects
that it follows; the same objects come again and again, so that later windows must take what
earlier ones took.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import torch

from jobs import cli
from tests.bench.long_video import CLIP, SEED, write_video
from tests.support.stand_in import MEMORY, on_stand_in
from vis_core.data.synth import generate_clip
from vis_core.systems.propose_reduce.predictor import ProposeReducePredictor
from vis_core.types import FrameBatch, FramePrediction
from vis_core.windows import ShardWindow

_Predict = Callable[
    [ProposeReducePredictor, Iterator[FrameBatch], ShardWindow], Iterator[FramePrediction]
]


def measure(num_frames: int = 5000) -> dict[str, float | int | str]:
    on_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        clips, out = Path(scratch, "clips"), Path(scratch, "out")
        clips.mkdir()
        write_video(clips / "clip.mp4", generate_clip(CLIP, SEED).frames, num_frames, CLIP.fps)
        if not on_gpu:
            stack.enter_context(on_stand_in())
        windows: list[tuple[int, int]] = []
        watched = _watched(ProposeReducePredictor.predict, windows)
        stack.enter_context(mock.patch.object(ProposeReducePredictor, "predict", watched))
        began = time.perf_counter()
        words = ("label", clips, "--out", out, "--system", "propose_reduce", "--runner", "inline")
        if code := cli.main([*map(str, words)]):
            raise SystemExit(f"the run ended with code {code}")
        seconds = time.perf_counter() - began
    most, after = zip(*windows, strict=True)
    half = len(windows) // 2
    figures: dict[str, float | int | str] = {
        "device": torch.cuda.get_device_name() if on_gpu else "stand-in",
        "frames": num_frames,
        "windows": len(windows),
        "first_half_mb": _mb(max(most[:half], default=0)),
        "second_half_mb": _mb(max(most[half:])),
        "after_first_mb": _mb(after[0]),
        "after_last_mb": _mb(after[-1]),
        "seconds": round(seconds, 1),
    }
    if max(after) > after[0]:  # what took so long to measure is said all the same
        raise SystemExit(f"windows leave tensors on the device: {figures}")
    return figures


def _watched(predict: _Predict, windows: list[tuple[int, int]]) -> _Predict:
    """`predict`, which notes the bytes a window took at most, and those left after it."""

    def watched(
        self: ProposeReducePredictor, frames: Iterator[FrameBatch], window: ShardWindow
    ) -> Iterator[FramePrediction]:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            rows = list(predict(self, frames, window))
            windows.append((torch.cuda.max_memory_allocated(), torch.cuda.memory_allocated()))
        else:
            MEMORY.forget_most()
            rows = list(predict(self, frames, window))
            windows.append((MEMORY.most, MEMORY.now))
        yield from rows

    return watched


def _mb(num_bytes: int) -> float:
    return round(num_bytes / 1e6, 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=5000)
    json.dump(measure(parser.parse_args().frames), sys.stdout, indent=2)
