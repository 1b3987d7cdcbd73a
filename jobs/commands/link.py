"""`link`: tracks from predictions that are there already."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from jobs import progress
from jobs.commands.arguments import add_flags, add_set_flag, assignments_of
from jobs.terminal import one_line
from vis_core import config, errors
from vis_core.job import checked_path, new_run_id, settings_command
from vis_core.job_settings import JobSettings
from vis_core.schema import FileMetadata
from vis_core.stages import relink
from vis_core.stages.link_columns import check_columns
from vis_core.stages.relink import Linked, Relink
from vis_core.systems import SYSTEMS, get_system


def add(commands: Any) -> None:
    sub = commands.add_parser("link", help="tracks from predictions, with any system's linker")
    sub.add_argument(
        "frames", metavar="FRAMES", help="a results folder, or Parquet files of a `frames` table"
    )
    sub.add_argument("--system", required=True, help=", ".join(SYSTEMS))
    sub.add_argument("--out", required=True, help="folder for tracks and masks")
    sub.add_argument("--member", metavar="NAME", help="of several members, the one to link")
    add_set_flag(sub, "a setting of the linker: see `reelmask settings SYSTEM`")
    sub.add_argument("--runner", choices=["inline", "ray"], default="inline")
    sub.add_argument("--address", help="join this Ray cluster instead of starting one here")
    add_flags(sub, ("json",))
    sub.set_defaults(command=_link)


def _link(arguments: argparse.Namespace) -> int:
    system = get_system(arguments.system)
    kinds: list[type] = [JobSettings, system.link_config]
    run, linking = config.split_settings(
        assignments_of(arguments), kinds, see=settings_command(system.name)
    )
    settings: JobSettings = config.build(JobSettings, run)
    predictions = relink.open_predictions(arguments.frames, SYSTEMS, arguments.member)
    job = Relink(
        predictions=predictions,
        system=system,
        link_config=config.build(system.link_config, linking),
        out=checked_path("--out", arguments.out),
        metadata=FileMetadata(system=system.name),
        row_group_bytes=settings.row_group_bytes,
        run_id=new_run_id(),
    )
    check_columns(job, SYSTEMS)
    with relink.prepared_out(job.out, job.run_id) as lease:
        job = dataclasses.replace(job, witness=lease.witness)
        linked = _linked(job, settings, arguments)
        relink.finish(job, linked)
    return _report(linked, job.out, as_json=arguments.json)


def _linked(job: Relink, settings: JobSettings, arguments: argparse.Namespace) -> list[Linked]:
    shown = progress.for_stderr()
    shown.begin("link", job.predictions.videos_table().num_rows, "videos")

    def advance(done: list[Linked]) -> None:
        shown.advance(len(done))

    if arguments.runner == "ray":
        from pipelines.relink import relink_on_ray  # Ray takes seconds to import

        linked = relink_on_ray(job, settings.link_rows, advance, address=arguments.address)
    else:
        linked = relink.run(job, settings.link_rows, advance)
    shown.end()
    return linked


def _report(linked: list[Linked], out: str, *, as_json: bool) -> int:
    failed = [row for row in linked if row["error"] is not None]
    totals = {
        "videos": len(linked),
        "tracks": sum(row["num_tracks"] or 0 for row in linked if row["error"] is None),
        "masks": sum(row["num_masks"] or 0 for row in linked if row["error"] is None),
        "failed": len(failed),
    }
    if as_json:
        print(json.dumps(totals))
    else:
        print(
            f"{totals['videos']} videos linked, {totals['tracks']} tracks, {totals['masks']} masks"
            f" in {out}"
        )
        for row in failed:
            print(f"  {one_line(row['video_id'])}: {one_line(row['error'])}")
    return errors.EXIT_QUARANTINE if failed else errors.EXIT_OK
