"""Weak scaling of the Ray runner: 1, 4, 16 and 64 workers on one machine, each with its share.

    python -m tests.bench.ray_scaling [--workers 1 4 16 64]

The model waits so long per frame that two cores can carry 64 of them; what is measured is whether
the driver keeps them all busy, and what that costs it. A worker and its decoder take memory, so
the run is given up when the machine is short of it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.bench.processes import Observed, label, pss_bytes
from tests.support.clips import write_clips

WORKERS = (1, 4, 16, 64)
UNIT, MS = 8, 375  # frames, and ms each: 3 s
UNITS_PER_CLIP = 8
STEADY_UNITS = 8  # of each worker, while all are there
START_SECONDS = 1.5  # of a worker on a busy core; the first must not run out before the last is up
MIN_FREE_BYTES = 2 << 30
MEMORY_SECONDS = 15.0  # looking at memory takes a while


class _Watch:
    """Looks at the memory of all processes now and then, and at what they have loaded."""

    def __init__(self) -> None:
        self.most_bytes = 0
        self.most_processes = 0
        self._next = 0.0

    def __call__(self, processes: list[int]) -> None:
        free = psutil.virtual_memory().available
        if free < MIN_FREE_BYTES:
            raise SystemExit(
                f"only {free / 1e9:.1f} GB of memory are free with {len(processes)} processes;"
                " measure fewer --workers, or on a larger machine"
            )
        if time.monotonic() < self._next:
            return
        self.most_bytes = max(self.most_bytes, pss_bytes(processes))
        self.most_processes = max(self.most_processes, len(processes))
        for pid in processes:
            assert "torch" not in _loaded(pid), f"process {pid} has imported torch"
        self._next = time.monotonic() + MEMORY_SECONDS


def _loaded(pid: int) -> str:
    """The files mapped by a process."""
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # it has ended
        return ""


def measure(workers: Sequence[int] = WORKERS) -> list[dict[str, Any]]:
    """A row for each number of workers; efficiency is relative to the first."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        clips = Path(scratch) / "clips"
        write_clips(clips, _num_clips(max(workers)), num_frames=UNIT * UNITS_PER_CLIP, gop=UNIT)
        for count in workers:
            watch = _Watch()
            words: list[object] = ["--limit", _num_clips(count), "--set", f"num_actors={count}"]
            words += ["--set", f"ms={MS}", "--set", f"shard_frames={UNIT}"]
            run = label(clips, Path(scratch, f"out-{count}"), *words, look=watch)
            assert run.report["num_workers"] == count, "not all workers came"
            rows.append(_row(count, run, watch, rows[0] if rows else None))
            print(f"  {rows[-1]}", file=sys.stderr, flush=True)
    return rows


def _num_clips(workers: int) -> int:
    """Enough that all are busy at once for a while, after they have come one by one."""
    early = workers * START_SECONDS / 2 / (UNIT * MS / 1000)
    return math.ceil(workers * (STEADY_UNITS + early) / UNITS_PER_CLIP)


def _row(count: int, run: Observed, watch: _Watch, first: dict[str, Any] | None) -> dict[str, Any]:
    steady = run.steady
    per_worker = steady.fps / count
    driver = run.cpu_seconds(steady, driver_only=True) / steady.seconds
    every = run.cpu_seconds(steady) / steady.seconds
    return {
        "workers": count,
        "units": run.report["num_units"],
        "unit_seconds": UNIT * MS / 1000,
        "fps": round(steady.fps, 2),
        "efficiency": round(per_worker / (first["fps"] / first["workers"]), 3) if first else 1.0,
        "steady_seconds": round(steady.seconds, 1),
        "ramp_seconds": round(run.report["ramp_seconds"], 1),
        "driver_cpu": round(driver, 3),  # cores
        "driver_mb": round(max(sample.driver_bytes for sample in run.samples) / 1e6),
        "all_cpu": round(every, 2),
        "all_pss_mb": round(watch.most_bytes / 1e6),
        "processes": watch.most_processes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    print(json.dumps(measure(parser.parse_args().workers)))


if __name__ == "__main__":
    main()
