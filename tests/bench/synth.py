"""How long `reelmask synth` takes, videos encoded and all.

python -m tests.bench.synth [--videos 100]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time

from vis_core.data.synth import SynthConfig, write_data_set

PRESET, NUM_FRAMES = "occluded", 36


def measure(num_videos: int = 100) -> dict[str, object]:
    """One process for every core, as the command does it."""
    workers = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        config = SynthConfig(preset=PRESET, num_frames=NUM_FRAMES)
        write_data_set(config, f"{folder}/clips", seed=0, num_videos=num_videos, workers=workers)
        seconds = time.perf_counter() - started
    return {
        "videos": num_videos,
        "frames": NUM_FRAMES,
        "preset": PRESET,
        "workers": workers,
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=100)
    print(json.dumps(measure(parser.parse_args().videos)))


if __name__ == "__main__":
    main()
