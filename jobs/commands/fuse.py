"""`fuse`: the results of several runs over the same videos, made one."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

from jobs import progress
from jobs.commands.arguments import add_flags
from vis_core import config, errors
from vis_core.association.fusion import FusionConfig
from vis_core.errors import UsageError
from vis_core.formats.results import Results
from vis_core.job import checked_path
from vis_core.job_settings import JobSettings
from vis_core.stages.fuse import Fusion, fuse_results


def add(commands: Any) -> None:
    sub = commands.add_parser("fuse", help="one result from several runs over the same videos")
    sub.add_argument(
        "results", nargs="+", metavar="RESULTS", help="results folders; NAME=PATH gives it a name"
    )
    sub.add_argument("--out", required=True, help="folder for the fused tracks and masks")
    sub.add_argument(
        "--weight", action="append", default=[], metavar="NAME=X", help="of a run's vote; else 1"
    )
    sub.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="tau, alpha, mode, …"
    )
    add_flags(sub, ("json",))
    sub.set_defaults(command=_fuse)


def _fuse(arguments: argparse.Namespace) -> int:
    kinds = [JobSettings, FusionConfig]
    run, fusing = config.split_settings(config.parse_assignments(arguments.set), kinds)
    settings: JobSettings = config.build(JobSettings, run)
    runs = _runs(arguments.results)
    fusion = Fusion.of(
        runs, _weights(arguments.weight, list(runs)), config.build(FusionConfig, fusing)
    )
    shown = progress.for_stderr()
    shown.begin("fuse", len(fusion.headers()), "videos")
    try:
        videos, tracks, masks = fuse_results(
            fusion,
            checked_path("--out", arguments.out),
            row_group_bytes=settings.row_group_bytes,
            each=lambda: shown.advance(1),
        )
    finally:
        shown.end()
    if arguments.json:
        print(json.dumps({"videos": videos, "tracks": tracks, "masks": masks}))
    else:
        print(f"{videos} videos, {tracks} tracks, {masks} masks in {arguments.out}")
    return errors.EXIT_OK


def _runs(given: Sequence[str]) -> dict[str, Results]:
    """Runs by name: what stands before the `=`, or the last part of the path."""
    if len(given) < 2:
        raise UsageError("fuse: expected two or more results folders")
    runs: dict[str, Results] = {}
    for text in given:
        name, separator, path = text.partition("=")
        if not separator or "/" in name:
            name, path = PurePosixPath(text.rstrip("/")).name, text
        if not name or name in runs:
            raise UsageError(
                f"fuse: {text!r}: another run is called {name!r} as well; name them: NAME=PATH"
            )
        runs[name] = Results(checked_path("results", path))
    return runs


def _weights(given: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    weights = dict.fromkeys(names, 1.0)
    for text in given:
        name, _, value = text.partition("=")
        if name not in weights:
            raise UsageError(config.unknown_name("run", name, names))
        try:
            weights[name] = float(value)
        except ValueError:
            weights[name] = math.nan
        if not (math.isfinite(weights[name]) and weights[name] > 0):
            raise UsageError(f"--weight {text!r}: expected NAME=X with X above 0")
    return weights
