"""The console script `reelmask`: parses, calls, prints. What it does can be called from Python."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from jobs import progress
from jobs.spec import read_job_file
from vis_core import config, errors
from vis_core.errors import ReelmaskError, UsageError
from vis_core.job import Job, MemberSpec, checked_path, make_job, new_run_id
from vis_core.local import run_inline
from vis_core.stages import audit
from vis_core.stages.estimate import estimate
from vis_core.stages.run import RunReport
from vis_core.store import lease
from vis_core.store.store import open_store
from vis_core.systems import SYSTEMS, get_system

logger = logging.getLogger("reelmask")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    arguments = parser().parse_args(argv)
    level = logging.DEBUG if os.environ.get("REELMASK_DEBUG") else logging.INFO
    logging.basicConfig(stream=sys.stderr, level=level, format="%(message)s")
    for library in ("aiobotocore", "botocore", "s3fs"):
        logging.getLogger(library).setLevel(logging.WARNING)  # they tell of every login
    signal.signal(signal.SIGTERM, _interrupt)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except ReelmaskError as error:
        print(f"reelmask: {_one_line(error)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(
            "reelmask: interrupted; the same command (without --replace) goes on from here",
            file=sys.stderr,
        )
        return errors.EXIT_INTERRUPTED
    except BrokenPipeError:
        return errors.EXIT_OK
    except (OSError, pa.ArrowException) as error:
        if os.environ.get("REELMASK_DEBUG"):
            raise
        print(f"reelmask: {_one_line(error)} (REELMASK_DEBUG=1 shows where)", file=sys.stderr)
        return errors.EXIT_FAILED


def _one_line(error: Exception) -> str:
    """Messages of libraries may span lines, and may be empty."""
    return " ".join(str(error).split()) or type(error).__name__


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def parser() -> argparse.ArgumentParser:
    """The whole command line; a test freezes its flags."""
    top = argparse.ArgumentParser(
        prog="reelmask", description="Masks and identities for whole video archives, as Parquet."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _add_label(commands)
    _add_plan(commands)
    for name, text, command, flags in (
        ("verify", "check a results folder against its manifest", _verify, ("deep", "json")),
        ("gc", "delete what no current result needs", _gc, ("json",)),
    ):
        sub = commands.add_parser(name, help=text)
        sub.add_argument("results", metavar="RESULTS")
        _add_flags(sub, flags)
        sub.set_defaults(command=command)
    sub = commands.add_parser("explain", help="everything known about one video")
    sub.add_argument("results", metavar="RESULTS")
    sub.add_argument("video", metavar="VIDEO")
    _add_flags(sub, ("json",))
    sub.set_defaults(command=_explain)
    sub = commands.add_parser("job", help="run a job file")
    sub.add_argument("action", choices=["run"])
    sub.add_argument("file", metavar="JOB.yaml")
    sub.add_argument("--address", help="join this Ray cluster instead of starting one here")
    _add_flags(sub, ("replace", "retry_quarantined", "json"))
    sub.set_defaults(command=_job)
    return top


def _add_label(commands: Any) -> None:
    sub = commands.add_parser("label", help="index, predict, link and write; run again to resume")
    sub.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder, glob, list or URL")
    sub.add_argument("--out", required=True, help="results folder, local or fsspec URL")
    _add_job_flags(sub)
    _add_flags(sub, ("replace", "retry_quarantined", "json"))
    sub.set_defaults(command=_label)


def _add_plan(commands: Any) -> None:
    sub = commands.add_parser("plan", help="what a job would do and store; computes nothing")
    sub.add_argument("inputs", nargs="+", metavar="JOB|INPUT")
    sub.add_argument("--out", help="plan against what this folder already holds")
    _add_job_flags(sub, system_required=False)
    _add_flags(sub, ("json",))
    sub.set_defaults(command=_plan)


def _add_job_flags(sub: argparse.ArgumentParser, *, system_required: bool = True) -> None:
    sub.add_argument("--system", required=system_required, help=", ".join(SYSTEMS))
    sub.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="any field of the job"
    )
    sub.add_argument("--runner", choices=["inline", "ray"], default="inline")
    sub.add_argument("--address", help="join this Ray cluster instead of starting one here")
    sub.add_argument("--every", type=int, default=1, metavar="N", help="every n-th frame")
    sub.add_argument("--fps", type=float, metavar="X", help="so many frames a second")
    sub.add_argument("--limit", type=int, metavar="N", help="the first videos, by id")


def _add_flags(sub: argparse.ArgumentParser, flags: Sequence[str]) -> None:
    if "replace" in flags:
        sub.add_argument("--replace", action="store_true", help="forget what the folder holds")
    if "retry_quarantined" in flags:
        text = "try again what was given up"
        sub.add_argument("--retry-quarantined", action="store_true", help=text)
    if "deep" in flags:
        sub.add_argument("--deep", action="store_true", help="read every row")
    if "json" in flags:
        sub.add_argument("--json", action="store_true", help="the result as JSON on stdout")


def _job_of(arguments: argparse.Namespace, out: str) -> Job:
    return make_job(
        arguments.inputs,
        out,
        [MemberSpec(system=get_system(arguments.system))],
        settings=config.parse_assignments(arguments.set),
        every=arguments.every,
        fps=arguments.fps,
        limit=arguments.limit,
        retry_quarantined=getattr(arguments, "retry_quarantined", False),
        replace=getattr(arguments, "replace", False),
    )


def _label(arguments: argparse.Namespace) -> int:
    job = _job_of(arguments, checked_path("--out", arguments.out))
    return _run(job, arguments.runner, as_json=arguments.json, address=arguments.address)


def _job(arguments: argparse.Namespace) -> int:
    job, runner = read_job_file(arguments.file)
    job = dataclasses.replace(
        job, replace=arguments.replace, retry_quarantined=arguments.retry_quarantined
    )
    return _run(job, runner, as_json=arguments.json, address=arguments.address)


def _run(job: Job, runner: str, *, as_json: bool, address: str | None = None) -> int:
    if runner == "ray":
        from pipelines.label import run_ray  # Ray takes seconds to import

        report = run_ray(job, progress.for_stderr(), address=address)
    else:
        if address is not None:
            logger.warning("--address has no effect: the runner is inline, not ray")
        report = run_inline(job, progress.for_stderr())
    if as_json:
        print(json.dumps(dataclasses.asdict(report)))
    else:
        print_report(job, report)
    return report.exit_code


def print_report(job: Job, report: RunReport) -> None:
    """A short table for people, and where to look."""
    status = ", ".join(f"{count} {name}" for name, count in sorted(report.status.items()))
    lines = [
        f"{report.num_videos} videos ({status}), {report.num_tracks} tracks,"
        f" {report.num_masks} masks in {job.out}",
        f"{report.frames_predicted} frames predicted, {report.frames_adopted} adopted,"
        f" {report.videos_linked} videos linked, {report.seconds:.1f} s",
        f"time: decode {report.decode_seconds:.1f} s, waiting for it {report.wait_seconds:.1f},"
        f" predict {report.predict_seconds:.1f}, write {report.write_seconds:.1f},"
        f" link {report.link_seconds:.1f}",
    ]
    if report.open_failures:
        lines.append(
            f"{report.open_failures} failures in {job.out}/failures; `reelmask explain {job.out}"
            " VIDEO` tells more, --retry-quarantined tries again"
        )
    print("\n".join(lines))


def _plan(arguments: argparse.Namespace) -> int:
    first = arguments.inputs[0]
    if len(arguments.inputs) == 1 and first.endswith((".yaml", ".yml")):
        job, _ = read_job_file(first)
    elif arguments.system is None:
        raise UsageError("plan: name a system with --system, or give a job file")
    else:
        given = arguments.out is not None
        job = _job_of(arguments, checked_path("--out", arguments.out) if given else "")
    found = estimate(job, progress.for_stderr())
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        print(found)
    return errors.EXIT_OK


def _verify(arguments: argparse.Namespace) -> int:
    store = open_store(arguments.results, create=False)
    found = audit.verify(store, SYSTEMS, deep=arguments.deep)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        for line in (*found.conservation, *found.problems):
            print(line)
        state = f"{len(found.problems)} problems" if found.problems else "whole"
        print(f"{found.num_videos} videos, {found.num_segments} segments: {state}")
    return errors.EXIT_FAILED if found.problems else errors.EXIT_OK


def _explain(arguments: argparse.Namespace) -> int:
    store = open_store(arguments.results, create=False)
    found = audit.explain(store, SYSTEMS, arguments.video)
    if arguments.json:
        print(json.dumps(found, default=str))
    else:
        _print_nested(found)
    return errors.EXIT_OK


def _print_nested(value: Any, indent: str = "") -> None:
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(inner, dict | list) and inner:
            print(f"{indent}{key}:")
            _print_nested(inner, indent + "  ")
        else:
            print(f"{indent}{key}: {inner}")


def _gc(arguments: argparse.Namespace) -> int:
    store = open_store(arguments.results, create=False)
    with lease.acquire(store.folder, new_run_id()):
        found = audit.collect_garbage(store, SYSTEMS)
    print(
        json.dumps(found)
        if arguments.json
        else f"deleted {found['parts_deleted']} parts ({found['bytes_freed']} bytes) and"
        f" {found['staging_deleted']} half-written files"
    )
    return errors.EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
