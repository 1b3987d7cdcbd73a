"""`export`: results in other people's formats."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from jobs import progress
from jobs.commands.arguments import add_flags
from jobs.terminal import one_line
from vis_core import config, errors
from vis_core.formats.export import FORMATS, ExportConfig, export
from vis_core.job import checked_path


def add(commands: Any) -> None:
    sub = commands.add_parser("export", help="write results in another format")
    sub.add_argument("results", metavar="RESULTS", help="results folder, or its tracks")
    sub.add_argument("--format", required=True, choices=FORMATS)
    sub.add_argument("--out", required=True, metavar="PATH", help="new file, or new folder")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=", ".join(field.name for field in dataclasses.fields(ExportConfig)),
    )
    add_flags(sub, ("json",))
    sub.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    settings: ExportConfig = config.build(ExportConfig, config.parse_assignments(arguments.set))
    report = export(
        checked_path("RESULTS", arguments.results),
        arguments.format,
        checked_path("--out", arguments.out),
        settings,
        progress.for_stderr(),
    )
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report)))
        return errors.EXIT_OK
    print(
        f"{report.num_videos} videos, {report.num_tracks} tracks, {report.num_masks} masks"
        f" written to {report.out}"
    )
    for note in report.notes:
        print(one_line(note))
    return errors.EXIT_OK
