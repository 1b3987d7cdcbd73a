"""`synth`: synthetic videos with their truth."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from typing import Any

from jobs import progress
from jobs.commands.arguments import add_flags
from vis_core import errors
from vis_core.data.synth.config import FRAME_COUNTS, PRESETS, SynthConfig
from vis_core.data.synth.write import DIFFICULTY, TRUTH, DataSetReport, write_data_set
from vis_core.errors import UsageError
from vis_core.job import checked_path


def add(commands: Any) -> None:
    sub = commands.add_parser("synth", help="synthetic videos with their truth")
    sub.add_argument("--out", required=True, metavar="DIR", help="a new folder, local")
    sub.add_argument("--videos", type=int, required=True, metavar="N", help="how many")
    text = "clip i has seed S + i; training below 1,000,000, test from 2,000,000"
    sub.add_argument("--seed", type=int, required=True, metavar="S", help=text)
    sub.add_argument("--preset", choices=sorted(PRESETS), default="plain")
    sub.add_argument("--frames", type=int, choices=FRAME_COUNTS, default=36, help="of each video")
    sub.add_argument("--height", type=int, default=360, metavar="PX")
    sub.add_argument("--width", type=int, default=640, metavar="PX")
    sub.add_argument("--fps", type=float, default=12.0, metavar="X", help="of the files")
    sub.add_argument("--flow", action="store_true", help="write the true optical flow as well")
    text = "processes (default: one for every core)"
    sub.add_argument("--workers", type=int, metavar="N", help=text)
    add_flags(sub, ("json",))
    sub.set_defaults(command=_synth)


def _synth(arguments: argparse.Namespace) -> int:
    out = checked_path("--out", arguments.out)
    if "://" in out:
        raise UsageError(f"--out {out}: synth writes to local folders only; copy them afterwards")
    started = time.monotonic()
    workers = arguments.workers
    try:
        report = write_data_set(
            SynthConfig(
                preset=arguments.preset,
                num_frames=arguments.frames,
                height=arguments.height,
                width=arguments.width,
                fps=arguments.fps,
            ),
            out,
            seed=arguments.seed,
            num_videos=arguments.videos,
            flow=arguments.flow,
            workers=_cores() if workers is None else workers,
            progress=progress.for_stderr(),
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report)))
    else:
        _print(report, time.monotonic() - started)
    return errors.EXIT_OK


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _print(report: DataSetReport, seconds: float) -> None:
    found = report.difficulty
    area = found["sqrt_area"]
    print(
        f"{report.num_videos} videos, {report.num_frames} frames, {report.num_objects} objects,"
        f" {report.num_masks} masks in {report.out}, {seconds:.1f} s\n"
        f"square root of the visible area: {area['p10']:.0f}, {area['p50']:.0f} and"
        f" {area['p90']:.0f} px at 10, 50 and 90 % (scaled to 360 x 640)\n"
        f"of the objects {found['late_birth_share']:.0%} appear late, {found['hidden_share']:.0%}"
        f" are hidden for a time, {found['fast_share']:.0%} are fast,"
        f" {found['look_alike_share']:.0%} have a look-alike\n"
        f"truth: {report.out}/{TRUTH}, more figures: {report.out}/{DIFFICULTY}"
    )
