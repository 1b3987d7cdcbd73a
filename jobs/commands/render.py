"""`render`: results drawn on their videos."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from jobs import progress
from jobs.commands.arguments import add_flags
from jobs.terminal import one_line
from vis_core import errors
from vis_core.job import checked_path


def add(commands: Any) -> None:
    sub = commands.add_parser("render", help="overlay videos: masks, outlines and ids as MP4")
    sub.add_argument("results", metavar="RESULTS", help="results folder, also of `reelmask link`")
    sub.add_argument("--out", required=True, metavar="DIR", help="folder for VIDEO.mp4")
    sub.add_argument(
        "--video", action="append", default=[], metavar="ID", help="this one only; can be repeated"
    )
    sub.add_argument("--limit", type=int, metavar="N", help="the first videos, by id")
    sub.add_argument("--height", type=int, metavar="H", help="of the overlays, in pixels")
    sub.add_argument(
        "--videos",
        action="append",
        default=[],
        metavar="PATH",
        help="where the videos are, if not where they were when labelled",
    )
    add_flags(sub, ("json",))
    sub.set_defaults(command=_render)


def _render(arguments: argparse.Namespace) -> int:
    from vis_core.render.render import render  # OpenCV takes long to import
    from vis_core.render.source import RenderSource

    source = RenderSource(
        checked_path("RESULTS", arguments.results),
        arguments.video,
        limit=arguments.limit,
        places=[checked_path("--videos", place) for place in arguments.videos],
    )
    report = render(
        source,
        checked_path("--out", arguments.out),
        height=arguments.height,
        progress=progress.for_stderr(),
    )
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report)))
    else:
        print(
            f"{report.num_videos} videos, {report.num_frames} frames drawn in {report.out},"
            f" {report.seconds:.1f} s"
        )
        for video_id, reason in report.skipped.items():
            print(f"  skipped {one_line(video_id)}: {one_line(reason)}")
    return errors.EXIT_QUARANTINE if report.skipped else errors.EXIT_OK
