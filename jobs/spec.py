"""Job files: YAML with plain values, no imports, no interpolation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vis_core.config import unknown_name
from vis_core.errors import UsageError
from vis_core.job import Job, MemberSpec, make_job
from vis_core.systems import get_system

MAX_BYTES = 1 << 20
_KEYS = ("inputs", "out", "system", "members", "settings", "every", "fps", "limit", "runner")
_MEMBER_KEYS = ("name", "system", "settings")


def read_job_file(path: str) -> tuple[Job, str]:
    """The job and its runner; every mistake in the file is named with its key."""
    values = _load(path)
    for key in values:
        if key not in _KEYS:
            raise UsageError(f"{path}: {unknown_name('key', str(key), _KEYS)}")
    for key in ("inputs", "out"):
        if key not in values:
            raise UsageError(f"{path}: {key!r} is missing")
    inputs = values["inputs"]
    job = make_job(
        [inputs] if isinstance(inputs, str) else list(inputs),
        str(values["out"]),
        _members(path, values),
        settings=_mapping(path, "settings", values.get("settings") or {}),
        every=values.get("every", 1),
        fps=values.get("fps"),
        limit=values.get("limit"),
    )
    return job, str(values.get("runner", "inline"))


def _load(path: str) -> Mapping[str, Any]:
    file = Path(path)
    try:
        if file.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: larger than {MAX_BYTES} bytes; that is no job file")
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read job file {path!r}: {error}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not valid YAML: {error}") from error
    return _mapping(path, "the file", values)


def _mapping(path: str, what: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {what} must hold `key: value` lines, got {type(value).__name__}")
    return value


def _members(path: str, values: Mapping[str, Any]) -> list[MemberSpec]:
    if ("system" in values) == ("members" in values):
        raise UsageError(f"{path}: expected either 'system: NAME' or a list 'members:'")
    if "system" in values:
        return [MemberSpec(system=get_system(str(values["system"])))]
    members = []
    for entry in values["members"]:
        entry = _mapping(path, "each member", entry)
        for key in entry:
            if key not in _MEMBER_KEYS:
                raise UsageError(f"{path}: {unknown_name('member key', str(key), _MEMBER_KEYS)}")
        members.append(
            MemberSpec(
                system=get_system(str(entry.get("system", ""))),
                settings=_mapping(path, "settings", entry.get("settings") or {}),
                name=entry.get("name"),
            )
        )
    return members
