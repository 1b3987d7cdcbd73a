"""`verify`, `explain` and `gc`: looking at a results folder, and cleaning it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from jobs.commands.arguments import add_flags
from jobs.terminal import one_line
from vis_core import errors
from vis_core.job import new_run_id
from vis_core.stages import audit
from vis_core.store.store import holding, open_store
from vis_core.systems import SYSTEMS


def add(commands: Any) -> None:
    for name, text, command, flags in (
        ("verify", "check a results folder against its manifest", _verify, ("deep", "json")),
        ("gc", "delete what no current result needs", _gc, ("json",)),
    ):
        sub = commands.add_parser(name, help=text)
        sub.add_argument("results", metavar="RESULTS")
        add_flags(sub, flags)
        sub.set_defaults(command=command)
    sub = commands.add_parser("explain", help="everything known about one video")
    sub.add_argument("results", metavar="RESULTS")
    sub.add_argument("video", metavar="VIDEO")
    add_flags(sub, ("json",))
    sub.set_defaults(command=_explain)


def _verify(arguments: argparse.Namespace) -> int:
    store = open_store(arguments.results, create=False)
    found = audit.verify(store, SYSTEMS, deep=arguments.deep)
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        for line in (*found.conservation, *found.problems):
            print(one_line(line))
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
            print(f"{indent}{one_line(key)}:")
            _print_nested(inner, indent + "  ")
        else:
            print(f"{indent}{one_line(key)}: {one_line(inner)}")


def _gc(arguments: argparse.Namespace) -> int:
    folder = open_store(arguments.results, create=False).folder
    with holding(folder, new_run_id()) as (store, _):
        found = audit.collect_garbage(store, SYSTEMS)
    print(
        json.dumps(found)
        if arguments.json
        else f"deleted {found['parts_deleted']} parts ({found['bytes_freed']} bytes) and"
        f" {found['staging_deleted']} half-written files"
    )
    return errors.EXIT_OK
