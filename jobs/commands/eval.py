"""`eval`: results against a truth file."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from jobs import progress
from jobs.commands.arguments import add_flags
from jobs.terminal import one_line
from vis_core import config, errors
from vis_core.eval.evaluate import METRICS, EvalConfig, Evaluation, evaluate
from vis_core.job import checked_path


def add(commands: Any) -> None:
    sub = commands.add_parser("eval", help="score results against a truth file")
    sub.add_argument(
        "results", metavar="RESULTS", help="results folder, its tracks, or a YouTube-VIS JSON"
    )
    sub.add_argument("--truth", required=True, metavar="FILE", help="YouTube-VIS JSON")
    sub.add_argument("--metric", required=True, choices=METRICS)
    sub.add_argument("--per-category", action="store_true", help="ytvis: each category, too")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=", ".join(field.name for field in dataclasses.fields(EvalConfig)),
    )
    add_flags(sub, ("json",))
    sub.set_defaults(command=_eval)


def _eval(arguments: argparse.Namespace) -> int:
    if arguments.per_category and arguments.metric != "ytvis":
        raise errors.UsageError(f"--per-category: metric {arguments.metric} ignores categories")
    settings: EvalConfig = config.build(EvalConfig, config.parse_assignments(arguments.set))
    found = evaluate(
        checked_path("RESULTS", arguments.results),
        checked_path("--truth", arguments.truth),
        arguments.metric,
        settings,
        progress.for_stderr(),
    )
    rows = found.per_category if arguments.per_category else []
    if arguments.json:
        more = {"per_category": rows} if arguments.per_category else {}
        print(json.dumps({**found.figures, **more}, allow_nan=False))
    else:
        print(table(found, rows))
    return errors.EXIT_OK


def table(found: Evaluation, categories: Sequence[dict[str, Any]]) -> str:
    """The figures for people; a dash where there was nothing to find."""
    keys = list(found.figures)
    rows = [[one_line(row["name"]), *(_figure(row[key]) for key in keys)] for row in categories]
    rows = [["", *keys], *rows, ["all", *(_figure(found.figures[key]) for key in keys)]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return "\n".join(
        [
            *lines,
            f"{found.metric}: {found.num_videos} videos, {found.num_truths} objects in the truth,"
            f" {found.num_tracks} tracks",
        ]
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else str(value) if isinstance(value, int) else f"{value:.2f}"
