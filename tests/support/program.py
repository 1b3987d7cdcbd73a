"""Labels clips with a system of the tests, as a process of its own; prints run.json.

    python -m tests.support.program CLIPS OUT --system wait --runner inline --set ms=4

The session is opened before the run, so that its start is timed apart: `session_seconds`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import json
import sys
import time

from vis_core.errors import ReelmaskError
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.system import System

# Imported when asked for: workers that wait must not need torch.
SYSTEMS = {"wait": "tests.support.wait_model:WAIT", "tiny_net": "tests.support.tiny_net:TINY_NET"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips")
    parser.add_argument("out")
    parser.add_argument("--system", choices=SYSTEMS, default="wait")
    parser.add_argument("--runner", choices=("inline", "ray"), default="ray")
    parser.add_argument("--address")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    settings = {key: _value(text) for key, text in (item.split("=", 1) for item in given.set)}
    member = MemberSpec(system=_system(given.system))
    try:
        job = make_job([given.clips], given.out, [member], settings=settings, limit=given.limit)
        started = time.monotonic()
        with contextlib.ExitStack() as session:
            if given.runner == "ray":
                from cluster.connection import connected
                from pipelines.label import run_ray

                session.enter_context(connected(given.address))
                seconds = time.monotonic() - started
                report = run_ray(job, address=given.address)
            else:
                seconds, report = 0.0, run_inline(job)
    except ReelmaskError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps({**dataclasses.asdict(report), "session_seconds": seconds}))
    return report.exit_code


def _system(name: str) -> System:
    module, _, attribute = SYSTEMS[name].partition(":")
    found: System = getattr(importlib.import_module(module), attribute)
    return found


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    sys.exit(main())
