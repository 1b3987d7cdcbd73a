"""propose_reduce on one video of 5,000 frames: memory, and identities across the seams of windows.

    python -m tests.bench.long_video [--frames 5000] [--keep FOLDER]

The video is a synthetic clip played forwards and backwards again and again, so that its truth is
known and nothing is ever cut. Memory is that of all processes (PSS), beside a video of one and a
half windows; what may come on top is what docs/architecture.md allows a linker and its results.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.bench.memory import bound_bytes, peak_pss_of
from tests.support.identity import Passage, followed
from tests.support.results import start
from vis_core.data.synth import SynthConfig, generate_clip, generate_truth_file
from vis_core.formats.results import Results
from vis_core.formats.ytvis import TruthFile
from vis_core.systems.propose_reduce import ProposeReducePredictConfig
from vis_core.systems.propose_reduce.config import window
from vis_core.video.encode import open_video
from vis_core.windows import window_ranges

SEED = 2_000_000
SIZE = (360, 640)  # that of the shipped network
CLIP = SynthConfig(preset="plain", num_frames=72, height=SIZE[0], width=SIZE[1])
LOOK_SECONDS = 0.25  # reading the memory of all processes takes a while itself


def measure(num_frames: int = 5000, keep: Path | None = None) -> dict[str, float | int]:
    frames = generate_clip(CLIP, SEED).frames
    spec = window(ProposeReducePredictConfig())
    with contextlib.ExitStack() as stack:
        root = keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        truth_file = root / "truth.json"
        truth_file.write_text(json.dumps(generate_truth_file(CLIP, SEED, 1)))
        file = TruthFile(str(truth_file))
        truth = file.video(next(iter(file.videos))).tracks
        peaks, seconds = {}, 0.0
        for name, length in (("short", short_frames()), ("long", num_frames)):
            (root / name).mkdir()
            write_video(root / name / "clip.mp4", frames, length, CLIP.fps)
            began = time.perf_counter()
            running = start(
                "label", root / name, "--out", root / f"of-{name}", "--system", "propose_reduce"
            )
            peaks[name] = peak_pss_of(running, LOOK_SECONDS)
            seconds = time.perf_counter() - began
        found = Results(str(root / "of-long")).tracks_of("clip")
        assert found is not None
    ranges = window_ranges(num_frames, spec)
    seams, middles = _seams(ranges), _middles(ranges, spec.overlap)
    at_seams, within = (
        followed(truth, found, passages, lambda frame: _there_and_back(frame, len(frames)))
        for passages in (seams, middles)
    )
    instances = int(np.ceil(len(found.masks) / num_frames))
    added, bound = peaks["long"] - peaks["short"], bound_bytes(num_frames, instances)
    figures: dict[str, float | int] = {
        "frames": num_frames,
        "windows": len(ranges),
        "shared": spec.overlap,
        "tracks": len(found),
        "peak_mb": round(peaks["long"] / 1e6, 1),
        "above_short_mb": round(added / 1e6, 1),
        "bound_mb": round(bound / 1e6, 1),
        "seconds": round(seconds, 1),
        "objects_at_seams": sum(at_seams),
        "same_id": at_seams.same,
        "switched": at_seams.switched,
        "without_a_track": at_seams.lost,
        "objects_within": sum(within),
        "same_id_within": within.same,
        "switched_within": within.switched,
    }
    if added > bound:  # what took so long to measure is said all the same
        raise SystemExit(
            f"the long video took {added:,} bytes more, expected at most {bound:,}: {figures}"
        )
    return figures


def short_frames() -> int:
    """One and a half windows: what a longer video has, but few times."""
    frames = window(ProposeReducePredictConfig()).num_frames
    assert frames is not None
    return frames * 3 // 2


def _seams(ranges: Sequence[tuple[int, int]]) -> list[Passage]:
    """What one window saw alone, what it shares with the next, what that one saw alone."""
    alone = _seen_once(ranges)
    return [
        (alone[i], range(ranges[i + 1][0], ranges[i][1]), alone[i + 1])
        for i in range(len(ranges) - 1)
    ]


def _middles(ranges: Sequence[tuple[int, int]], length: int) -> list[Passage]:
    """As many frames amid what a window saw alone, and those around them: nothing is joined."""
    found: list[Passage] = []
    for frames in _seen_once(ranges):
        first = frames.start + (len(frames) - length) // 2
        middle = range(first, first + length)
        found.append((range(frames.start, first), middle, range(middle.stop, frames.stop)))
    return found


def _seen_once(ranges: Sequence[tuple[int, int]]) -> list[range]:
    """The frames of each window that no other saw."""
    firsts = [ranges[0][0], *(stop for _, stop in ranges[:-1])]
    stops = [*(start for start, _ in ranges[1:]), ranges[-1][1]]
    return [range(*ends) for ends in zip(firsts, stops, strict=True)]


def _there_and_back(frame: int, length: int) -> int:
    """0, 1, …, length - 1, length - 2, …, 1, 0, 1, …"""
    position = frame % (2 * length - 2)
    return min(position, 2 * length - 2 - position)


def write_video(path: Path, frames: np.ndarray, length: int, fps: float) -> None:
    """`length` frames: those given, forwards and backwards again and again."""
    with open_video(path, fps=fps, height=SIZE[0], width=SIZE[1]) as video:
        for frame in range(length):
            video.write(frames[_there_and_back(frame, len(frames))])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--keep", type=Path, help="an empty folder for the videos and results")
    given = parser.parse_args()
    json.dump(measure(given.frames, given.keep), sys.stdout, indent=2)
