"""How long training steps wait for data: the tiny network of the tests, frames in the cache.

    python -m tests.bench.train [--steps 150]

The smaller the network, the less time there is to load the next batch while it computes; nothing
that anybody would train is as small. Runs in this process, on all cores.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from unittest import mock

from tests.support.training import job_values, write_clips
from vis_core.data.datasets import open_data_set
from vis_core.node_files import CACHE_VARIABLE
from vis_core.progress import Silence
from vis_core.training.job import make_train_job
from vis_core.training.loop import train_here

NUM_CLIPS, SIZE, BATCH = 16, (192, 320), 8


def measure(steps: int = 150) -> dict[str, object]:
    with (
        tempfile.TemporaryDirectory() as scratch,
        mock.patch.dict(os.environ, {CACHE_VARIABLE: f"{scratch}/cache"}),
    ):
        return _measure(Path(scratch), steps)


def _measure(folder: Path, steps: int) -> dict[str, object]:
    clips = write_clips(folder / "clips", 0, NUM_CLIPS, size=SIZE)
    job = make_train_job(
        job_values(
            clips,
            folder / "out",
            transforms={"short_side_px": [160, 192], "colors": 1.0},
            schedule={"steps": steps, "warmup_steps": 10},
            loop={"batch_size": BATCH, "checkpoint_every": steps},
        )
    )
    (data,) = (open_data_set(config) for config in job.data)
    for video in range(len(data.videos)):
        data.frame(video, 0)  # decodes it into the cache
    report = train_here(job, Silence())
    return {
        "steps": steps,
        "batch_size": BATCH,
        "size": list(SIZE),
        "cores": os.cpu_count(),
        "images_per_second": round(report.images_per_second, 1),
        "data_wait_share": round(report.data_wait_share, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150)
    print(json.dumps(measure(parser.parse_args().steps)))


if __name__ == "__main__":
    main()
