"""Job files: YAML with plain values, no imports, no interpolation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vis_core import plain_yaml
from vis_core.config import brief, unknown_name
from vis_core.errors import UsageError
from vis_core.job import (
    MAX_MEMBERS,
    Job,
    MemberSpec,
    checked_path,
    job_of_record,
    make_job,
)
from vis_core.plain_yaml import MAX_BYTES
from vis_core.store.store import JOB, is_job_record
from vis_core.systems import SYSTEMS, get_system
from vis_core.video.uris import open_regular

RUNNERS = ("inline", "ray")
_KEYS = ("inputs", "out", "system", "members", "settings", "every", "fps", "limit", "runner")
_RECORD_KEYS = (
    *("inputs", "members", "sampling", "settings", "fusion", "limit", "versions"),
    *("runner", "out"),
)
_MEMBER_KEYS = ("name", "system", "settings", "weight")


def read_job_file(path: str) -> tuple[Job, str]:
    """The job and its runner; every mistake in the file is named with its key."""
    try:
        values = load_yaml(path)
        return _job_of_record(values, path) if is_job_record(values) else _job_of(values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _job_of(values: Mapping[str, Any]) -> tuple[Job, str]:
    check_keys("key", values, _KEYS)
    for key in ("inputs", "out"):
        if key not in values:
            raise UsageError(f"{key!r} is missing")
    runner = _runner(values)
    job = make_job(
        _inputs(values["inputs"]),
        checked_path("out", values["out"]),
        _members(values),
        settings=_settings(values),
        every=values.get("every", 1),
        fps=values.get("fps"),
        limit=values.get("limit"),
    )
    return job, runner


def _job_of_record(values: Mapping[str, Any], path: str) -> tuple[Job, str]:
    """The job that a run wrote down in its folder, run again into that folder or into `out`."""
    check_keys("key", values, _RECORD_KEYS)
    file = Path(path)
    if "out" in values:
        out = checked_path("out", values["out"])
    elif file.name == JOB and (file.parent / "manifest").is_dir():
        out = str(file.parent)
    else:
        raise UsageError(
            f"this is the record of a results folder: run it there (OUT/{JOB}), or"
            " add `out: FOLDER`"
        )
    return job_of_record(values, out, SYSTEMS), _runner(values)


def _runner(values: Mapping[str, Any]) -> str:
    runner = values.get("runner", "inline")
    if runner not in RUNNERS:
        raise UsageError(f"runner: expected {' or '.join(RUNNERS)}, got {brief(runner)}")
    return str(runner)


def load_yaml(path: str) -> Mapping[str, Any]:
    """What a job file holds; bounded, because it may come from anybody."""
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"larger than {MAX_BYTES} bytes; that is no job file")
        text = data.decode()
    except OSError as error:
        raise UsageError(f"cannot read the job file: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read the job file: not UTF-8: {error}") from error
    return _mapping("the file", plain_yaml.parse(text))


def _mapping(what: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{what}: expected `key: value` lines, got {brief(value)}")
    for key in value:
        if not isinstance(key, str):
            raise UsageError(
                f"{what}: expected names before the colons, got {brief(key)}; YAML takes numbers"
                " and yes, no, on, off for something else unless they are in quotes"
            )
    return value


def check_keys(what: str, values: Mapping[str, Any], legal: Sequence[str]) -> None:
    for key in values:
        if key not in legal:
            raise UsageError(unknown_name(what, key, legal))


def _inputs(value: Any) -> list[str]:
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not paths:
        raise UsageError(f"inputs: expected a path or URL, or a list of them, got {brief(value)}")
    return [checked_path("inputs", path) for path in paths]


def _settings(values: Mapping[str, Any]) -> Mapping[str, Any]:
    settings = values.get("settings")
    return {} if settings is None else _mapping("settings", settings)


def _members(values: Mapping[str, Any]) -> list[MemberSpec]:
    if ("system" in values) == ("members" in values):
        raise UsageError("expected either 'system: NAME' or a list 'members:'")
    if "system" in values:
        return [MemberSpec(system=get_system(_name("system", values["system"])))]
    members = values["members"]
    if not isinstance(members, list) or not members:
        raise UsageError(f"members: expected a list of one or more, got {brief(members)}")
    if len(members) > MAX_MEMBERS:
        raise UsageError(f"members: expected at most {MAX_MEMBERS}, got {len(members)}")
    return [_member(entry) for entry in members]


def _member(value: Any) -> MemberSpec:
    entry = _mapping("each member", value)
    check_keys("member key", entry, _MEMBER_KEYS)
    if "system" not in entry:
        raise UsageError(f"each member needs a 'system', got {brief(value)}")
    return MemberSpec(
        system=get_system(_name("system", entry["system"])),
        settings=_settings(entry),
        name=_name("name", entry["name"]) if "name" in entry else None,
        weight=_weight(entry.get("weight", 1.0)),
    )


def _weight(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"weight: expected a number above 0, got {brief(value)}")
    return float(value)


def _name(what: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{what}: expected a name, got {brief(value)}; numbers need quotes")
    return value
