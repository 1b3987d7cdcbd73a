"""`label` and `job run`: the main job."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import sys
from typing import Any

from jobs import progress
from jobs.commands.arguments import add_flags, add_job_flags, job_of
from jobs.spec import read_job_file
from vis_core.job import Job, checked_path
from vis_core.local import run_inline
from vis_core.stages.run import RunReport

logger = logging.getLogger(__name__)


def add(commands: Any) -> None:
    sub = commands.add_parser("label", help="index, predict, link and write; run again to resume")
    sub.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder, glob, list or URL")
    sub.add_argument("--out", required=True, help="results folder, local or fsspec URL")
    add_job_flags(sub)
    add_flags(sub, ("replace", "retry_quarantined", "json"))
    sub.set_defaults(command=_label)
    sub = commands.add_parser("job", help="run a job file")
    sub.add_argument("action", choices=["run"])
    sub.add_argument("file", metavar="JOB.yaml")
    sub.add_argument("--address", help="join this Ray cluster instead of starting one here")
    add_flags(sub, ("replace", "retry_quarantined", "json"))
    sub.set_defaults(command=_job)


def _label(arguments: argparse.Namespace) -> int:
    job = job_of(arguments, checked_path("--out", arguments.out))
    return run(job, arguments.runner, as_json=arguments.json, address=arguments.address)


def _job(arguments: argparse.Namespace) -> int:
    job, runner = read_job_file(arguments.file)
    job = dataclasses.replace(
        job, replace=arguments.replace, retry_quarantined=arguments.retry_quarantined
    )
    return run(job, runner, as_json=arguments.json, address=arguments.address)


def run(job: Job, runner: str, *, as_json: bool, address: str | None = None) -> int:
    if runner == "ray":
        from pipelines.label import run_ray  # Ray takes seconds to import

        # Ray prints messages of its daemons; stdout is for data.
        with contextlib.redirect_stdout(sys.stderr):
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
        f"{report.frames_predicted} frames predicted ({report.frames_recomputed} of them again),"
        f" {report.frames_adopted} adopted, {report.videos_linked} videos linked,"
        f" {report.seconds:.1f} s",
        *_split(report),
    ]
    if report.open_failures:
        lines.append(
            f"{report.open_failures} failures in {job.out}/failures; `reelmask explain {job.out}"
            " VIDEO` tells more, --retry-quarantined tries again"
        )
    print("\n".join(lines))


def _split(report: RunReport) -> list[str]:
    """Where the time went; workers and the decoders beside them work at once."""
    if not report.num_units:
        return []
    parts = {
        "decode": report.decode_seconds,
        "predict": report.predict_seconds,
        "write": report.write_seconds,
        "link": report.link_seconds,
    }
    total = sum(parts.values()) or 1.0
    rows = [
        f"  {name:<8}{seconds:>9.1f} s {seconds / total:>6.0%}" for name, seconds in parts.items()
    ]
    workers = f"{report.num_workers} worker" + ("s" if report.num_workers != 1 else "")
    more = (
        f"  {workers}, all at work after {report.ramp_seconds:.1f} s; they waited"
        f" {report.wait_seconds:.1f} s for frames"
    )
    return [*rows, more]
