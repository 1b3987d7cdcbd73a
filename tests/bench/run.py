"""Runs every benchmark and writes docs/benchmarks.md and docs/benchmarks.json.

make bench
"""

from __future__ import annotations

import datetime
import json
import platform
import sys
from pathlib import Path
from typing import Any

import psutil

from tests.bench import decode, memory, pipeline, plan
from vis_core.job import library_versions

DOCS = Path(__file__).parents[2] / "docs"


def main() -> int:
    results: dict[str, Any] = {"date": f"{datetime.date.today():%Y-%m-%d}", "machine": _machine()}
    steps = {
        "plan": lambda: plan.measure(1_000_000),
        "memory": lambda: memory.measure(100_000, 10),
    }
    media = decode.shared_media()
    if media is not None:
        steps["decode"] = lambda: decode.measure(media)
        steps["pipeline"] = lambda: pipeline.measure(media)
    for name, step in steps.items():
        print(f"{name} …", file=sys.stderr, flush=True)
        results[name] = step()
    (DOCS / "benchmarks.json").write_text(json.dumps(results, indent=2) + "\n")
    (DOCS / "benchmarks.md").write_text(_page(results))
    print(_page(results))
    return 0


def _machine() -> str:
    memory_gb = psutil.virtual_memory().total / 1e9
    cores = psutil.cpu_count()
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    cpu = names[0] if names else platform.processor()
    versions = ", ".join(f"{k} {v}" for k, v in library_versions().items() if k != "ray")
    return (
        f"{cpu}, {cores} cores, {memory_gb:.0f} GB, Python {platform.python_version()}, {versions}"
    )


def _page(results: dict[str, Any]) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"`make bench` wrote this page on {results['date']}. Machine: {results['machine']}.",
        "Figures in `benchmarks.json`. Ratios: median of five interleaved pairs, with the range.",
        "",
        "| what | figure |",
        "|---|---|",
        *_plan_rows(results["plan"]),
        *_memory_rows(results["memory"]),
    ]
    for row in results.get("decode", []):
        low, high = row["ratio_range"]
        lines.append(
            f"| decoder child ÷ in-process, {row['clip']} | {row['child_fps']} ÷"
            f" {row['in_process_fps']} frames/s = {row['ratio']} ({low} to {high}) |"
        )
    if "pipeline" in results:
        row = results["pipeline"]
        low, high = row["ratio_range"]
        lines.append(
            f"| inline predict stage ÷ decode alone, {row['frames']} frames of 720p and 540p,"
            f" formula oracle with 10 instances | {row['label_fps']} ÷ {row['decode_fps']}"
            f" frames/s = {row['ratio']} ({low} to {high}) |"
        )
    return "\n".join(lines) + "\n"


def _plan_rows(found: dict[str, Any]) -> list[str]:
    return [
        f"| plan over {found['videos']:,} videos, half of them committed: tables read, subtracted,"
        f" cut, packed | {found['seconds_to_plan']} s for {found['units']:,} units |",
        f"| … to the first wave of {found['first_wave_units']:,} units as objects |"
        f" {found['seconds_to_first_wave']} s, peak {found['peak_gb']} GB |",
    ]


def _memory_rows(found: dict[str, Any]) -> list[str]:
    return [
        f"| one video of {found['frames']:,} frames with {found['instances']} instances each,"
        f" all processes (PSS) | peak {found['peak_mb']} MB, {found['added_mb']} MB above a short"
        f" video; bound {found['bound_mb']} MB |",
        f"| … its time | {found['seconds']} s in all, {found['link_seconds']} s of it linking |",
    ]


if __name__ == "__main__":
    sys.exit(main())
