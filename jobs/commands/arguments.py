"""Flags that several commands share, and the job they describe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vis_core import config
from vis_core.job import Job, MemberSpec, make_job, settings_command
from vis_core.systems import SYSTEMS, get_system


def add_job_flags(sub: argparse.ArgumentParser, *, system_required: bool = True) -> None:
    sub.add_argument("--system", required=system_required, help=", ".join(SYSTEMS))
    add_set_flag(sub, "a setting of the system or the run: see `reelmask settings SYSTEM`")
    sub.add_argument("--runner", choices=["inline", "ray"], default="inline")
    sub.add_argument("--address", help="join this Ray cluster instead of starting one here")
    sub.add_argument("--every", type=int, default=1, metavar="N", help="every n-th frame")
    sub.add_argument("--fps", type=float, metavar="X", help="so many frames a second")
    sub.add_argument("--limit", type=int, metavar="N", help="the first videos, by id")


def add_set_flag(sub: argparse.ArgumentParser, what: str) -> None:
    """`--set` alone is a mistake too, whose message tells where the keys are listed."""
    sub.add_argument(
        "--set", action="append", nargs="?", const="", default=[], metavar="KEY=VALUE", help=what
    )


def assignments_of(arguments: argparse.Namespace) -> dict[str, str]:
    """What `--set` gives to a system or the run."""
    return config.parse_assignments(arguments.set, see=settings_command(arguments.system))


def add_flags(sub: argparse.ArgumentParser, flags: Sequence[str]) -> None:
    if "replace" in flags:
        sub.add_argument("--replace", action="store_true", help="forget what the folder holds")
    if "retry_quarantined" in flags:
        text = "try again what was given up"
        sub.add_argument("--retry-quarantined", action="store_true", help=text)
    if "deep" in flags:
        sub.add_argument("--deep", action="store_true", help="read every row")
    if "json" in flags:
        sub.add_argument("--json", action="store_true", help="the result as JSON on stdout")


def job_of(arguments: argparse.Namespace, out: str) -> Job:
    return make_job(
        arguments.inputs,
        out,
        [MemberSpec(system=get_system(arguments.system))],
        settings=assignments_of(arguments),
        every=arguments.every,
        fps=arguments.fps,
        limit=arguments.limit,
        retry_quarantined=getattr(arguments, "retry_quarantined", False),
        replace=getattr(arguments, "replace", False),
    )
