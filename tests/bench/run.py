"""Runs the benchmarks and writes docs/benchmarks.json and the page made of it.

make bench                             every step
python -m tests.bench.run ray_pairs    this one again; the others' figures stay
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from tests.bench import (
    decode,
    device_memory,
    evaluate,
    idol_forward,
    link_flow_match,
    link_idol_minvis,
    link_sequences,
    long_video,
    memory,
    motion,
    page,
    pipeline,
    plan,
    ray_pairs,
    ray_receipts,
    ray_rivals,
    ray_scaling,
    seq_prop,
    synth,
    train,
)
from vis_core.job import library_versions

DOCS = Path(__file__).parents[2] / "docs"


def main() -> int:
    steps = _steps()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"one of {', '.join(steps)}")
    wanted = parser.parse_args().steps or list(steps)
    if unknown := set(wanted) - set(steps):
        parser.error(f"no step {', '.join(sorted(unknown))}; there are {', '.join(steps)}")
    file = DOCS / "benchmarks.json"
    entries: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for name in wanted:
        print(f"{name} …", file=sys.stderr, flush=True)
        found = steps[name]()
        taken = {"date": f"{datetime.date.today():%Y-%m-%d}", "machine": machine()}
        entries[name] = {**taken, "found": found}
        # After each step: the next one may take long, or fail.
        file.write_text(json.dumps(entries, indent=2) + "\n")
        (DOCS / "benchmarks.md").write_text(page.page(entries))
    print(page.page(entries))
    return 0


def _steps() -> dict[str, Callable[[], Any]]:
    steps: dict[str, Callable[[], Any]] = {
        "plan": lambda: plan.measure(1_000_000),
        "memory": lambda: memory.measure(100_000, 10),
        "ray_pairs": ray_pairs.measure,
        "ray_rivals": ray_rivals.measure,
        "ray_receipts": ray_receipts.measure,
        "ray_scaling": ray_scaling.measure,
        "synth": lambda: synth.measure(100),
        "link_flow_match": link_flow_match.measure,
        "link_idol_minvis": link_idol_minvis.measure,
        "link_sequences": link_sequences.measure,
        "evaluate": lambda: evaluate.measure(300),
        "train": train.measure,
        "seq_prop": seq_prop.measure,
        "idol_forward": idol_forward.measure,
        "long_video": long_video.measure,
        "device_memory": device_memory.measure,
    }
    media = decode.shared_media()
    if media is not None:
        steps["decode"] = lambda: decode.measure(media)
        steps["pipeline"] = lambda: pipeline.measure(media)
        steps["motion"] = lambda: motion.measure(media)
    return steps


def machine() -> str:
    memory_gb = psutil.virtual_memory().total / 1e9
    cores = psutil.cpu_count()
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cpu = names[0] if names else platform.processor()
    versions = ", ".join(f"{name} {version}" for name, version in library_versions().items())
    return (
        f"{cpu}, {cores} cores, {memory_gb:.0f} GB, Python {platform.python_version()}, {versions}"
    )


if __name__ == "__main__":
    sys.exit(main())
