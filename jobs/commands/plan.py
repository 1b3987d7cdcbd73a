"""`plan`: what a job would do and store."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from jobs import progress
from jobs.commands.arguments import add_flags, add_job_flags, job_of
from jobs.spec import read_job_file
from vis_core import errors
from vis_core.errors import UsageError
from vis_core.job import checked_path
from vis_core.stages.estimate import estimate


def add(commands: Any) -> None:
    sub = commands.add_parser("plan", help="what a job would do and store; computes nothing")
    sub.add_argument("inputs", nargs="+", metavar="JOB|INPUT")
    sub.add_argument("--out", help="plan against what this folder already holds")
    add_job_flags(sub, system_required=False)
    add_flags(sub, ("json",))
    sub.set_defaults(command=_plan)


def _plan(arguments: argparse.Namespace) -> int:
    first = arguments.inputs[0]
    if len(arguments.inputs) == 1 and first.endswith((".yaml", ".yml")):
        job, _ = read_job_file(first)
    elif arguments.system is None:
        raise UsageError("plan: name a system with --system, or give a job file")
    else:
        given = arguments.out is not None
        job = job_of(arguments, checked_path("--out", arguments.out) if given else "")
    found = estimate(job, progress.for_stderr())
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        print(found)
    return errors.EXIT_OK
