"""`train`: a system's network, from a job file."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from jobs import progress
from jobs.commands.arguments import add_flags
from jobs.spec import RUNNERS, load_yaml
from vis_core import errors
from vis_core.errors import UsageError
from vis_core.store.folder import open_folder

_MARK = b"reelmask first batch"  # behind the picture: only such a file is replaced


def add(commands: Any) -> None:
    sub = commands.add_parser("train", help="train a network; run again to resume")
    sub.add_argument("file", metavar="JOB.yaml")
    sub.add_argument("--runner", choices=RUNNERS, help="default: as the job file says, or inline")
    sub.add_argument("--address", help="join this Ray cluster instead of starting one here")
    text = "check everything, print what would be done, draw the first batch"
    sub.add_argument("--dry-run", action="store_true", help=text)
    text = "whatever is wrong with the data is an error, not counted and left out"
    sub.add_argument("--strict", action="store_true", help=text)
    add_flags(sub, ("replace", "json"))
    sub.set_defaults(command=_train)


def _train(arguments: argparse.Namespace) -> int:
    try:
        values = dict(load_yaml(arguments.file))
        runner = arguments.runner or values.pop("runner", "inline")
        values.pop("runner", None)
        if runner not in RUNNERS:
            raise UsageError(f"runner: expected {' or '.join(RUNNERS)}, got {runner!r}")
        from vis_core.training.job import make_train_job  # torch takes seconds to import

        job = make_train_job(values)
        if arguments.strict:
            data = tuple(dataclasses.replace(entry, strict=True) for entry in job.data)
            job = dataclasses.replace(job, data=data)
    except UsageError as error:
        raise UsageError(f"{arguments.file}: {error}") from error
    if arguments.dry_run:
        return _dry_run(job)
    from vis_core.training.folder import opened

    with opened(job, replace=arguments.replace):
        report = _run(job, runner, arguments.address)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(report)))
    else:
        _print(job, report)
    return errors.EXIT_OK


def _run(job: Any, runner: str, address: str | None) -> Any:
    if runner == "ray":
        from pipelines.train import train_on_ray  # Ray takes seconds to import

        # Ray prints messages of its daemons; stdout is for data.
        with contextlib.redirect_stdout(sys.stderr):
            return train_on_ray(job, progress.for_stderr(), address=address)
    if job.loop.workers > 1:
        raise UsageError(
            f"loop: {job.loop.workers} workers need Ray; add `runner: ray` to the job file"
        )
    from vis_core.training.loop import train_here

    return train_here(job, progress.for_stderr())


def _dry_run(job: Any) -> int:
    import cv2

    from vis_core.training.folder import PICTURE
    from vis_core.training.preview import preview

    lines, picture = preview(job)
    print("\n".join(lines))
    if "://" in job.out:
        print("the first batch is drawn for local folders only")
        return errors.EXIT_OK
    path = Path(job.out) / PICTURE
    if path.is_symlink() or (path.exists() and not path.read_bytes().endswith(_MARK)):
        raise UsageError(f"{path} is there already and was not drawn here; use another `out`")
    _, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    open_folder(job.out).replace(PICTURE, data.tobytes() + _MARK)
    print(f"first batch: {path}")
    return errors.EXIT_OK


def _print(job: Any, report: Any) -> None:
    loss = "" if report.loss is None else f", loss {report.loss:.4g}"
    print(
        f"{report.steps} steps ({report.resumed_at} of them before), {report.seconds:.1f} s,"
        f" {report.images_per_second:.1f} images/s, {report.data_wait_share:.1%} of the time"
        f" waiting for data{loss}"
    )
    if report.evaluation:
        figures = ", ".join(f"{name} {value:.1f}" for name, value in report.evaluation.items())
        print(f"held-out videos: {figures}; best {report.best:.1f} at step {report.best_step}")
    print(f"weights: {job.out}/weights, curves: {job.out}/curves.png, figures: {job.out}/*.csv")
