"""Memory of a whole run on one long video: proportional set size over all of its processes.

    python -m tests.bench.memory [--frames 100000] [--instances 10]

The same job on a short video of the same frame size is the base; what the long one adds is held
against the bound that docs/architecture.md states.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
import psutil

from tests.support.results import run_record, start
from vis_core.store.parts import ROW_GROUP_BYTES
from vis_core.store.spool import RUN_BYTES

BYTES_PER_INSTANCE = 64
ARENA_BYTES = 3 * (16 << 20)  # slots of the decoder child
MASK_BYTES = 96  # a small mask with its row, in Arrow


def write_long_clip(path: Path, num_frames: int, size: int = 64) -> None:
    """A flat picture that changes a little with every frame; quick to make at any length."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height = stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 250
        stream.options = {"preset": "ultrafast", "tune": "zerolatency"}
        planes = np.full((size * 3 // 2, size), 128, np.uint8)
        for index in range(num_frames):
            planes[:8, :8] = index % 200
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def bound_bytes(num_frames: int, instances: int) -> int:
    """What a long video may take on top of a short one, as docs/architecture.md says."""
    light = BYTES_PER_INSTANCE * num_frames * instances
    largest_track = 2 * MASK_BYTES * num_frames
    return light + 3 * ROW_GROUP_BYTES + 2 * RUN_BYTES + largest_track + ARENA_BYTES


def peak_pss(clips: Path, out: Path, instances: int) -> tuple[int, float]:
    """Peak over the run of all its processes together, in bytes, and its seconds."""
    words = ("label", clips, "--out", out, "--system", "oracle", "--set")
    started = time.perf_counter()
    peak = peak_pss_of(start(*words, f"truth=formula:{instances}"))
    return peak, time.perf_counter() - started


def peak_pss_of(running: subprocess.Popen[bytes], every_seconds: float = 0.05) -> int:
    """Peak over all processes of a program together, in bytes, once it has ended well."""
    root, peak = psutil.Process(running.pid), 0
    while running.poll() is None:
        peak = max(peak, _pss(root))
        time.sleep(every_seconds)
    if running.returncode != 0:
        raise SystemExit(f"the run ended with code {running.returncode}")
    return peak


def _pss(root: psutil.Process) -> int:
    total = 0
    try:
        for process in (root, *root.children(recursive=True)):
            total += process.memory_full_info().pss
    except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
        pass
    return total


def measure(num_frames: int, instances: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        peaks = {}
        for name, frames in (("short", 200), ("long", num_frames)):
            (root / name).mkdir()
            write_long_clip(root / name / "clip.mp4", frames)
            peaks[name], seconds = peak_pss(root / name, root / f"out-{name}", instances)
        record = run_record(root / "out-long")
        parts = sum(path.stat().st_size for path in (root / "out-long").glob("*/*.parquet"))
    return {
        "frames": num_frames,
        "instances": instances,
        "masks": record["num_masks"],
        "base_mb": round(peaks["short"] / 1e6, 1),
        "peak_mb": round(peaks["long"] / 1e6, 1),
        "added_mb": round((peaks["long"] - peaks["short"]) / 1e6, 1),
        "bound_mb": round(bound_bytes(num_frames, instances) / 1e6, 1),
        "stored_mb": round(parts / 1e6, 1),
        "seconds": round(seconds, 1),
        "link_seconds": round(record["link_seconds"], 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--instances", type=int, default=10)
    arguments = parser.parse_args()
    found = measure(arguments.frames, arguments.instances)
    print(json.dumps(found))
    return int(found["added_mb"] > found["bound_mb"])


if __name__ == "__main__":
    sys.exit(main())
