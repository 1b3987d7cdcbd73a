"""What to do: a job's inputs, members and settings, resolved and checked before anything runs."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import logging
import math
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from vis_core import config, node_files
from vis_core.addresses import is_remote, public
from vis_core.association.fusion import FusionConfig
from vis_core.errors import UsageError
from vis_core.fingerprints import file_digests, linker_fingerprint, member_fingerprint
from vis_core.job_settings import JobSettings
from vis_core.schema import FileMetadata
from vis_core.system import LinkConfig, PredictConfig, System
from vis_core.types import Category
from vis_core.video.sampling import Sampling

logger = logging.getLogger(__name__)

MAX_MEMBERS = 64


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One system with its settings: whose predictions are computed and linked on their own."""

    name: str
    system: System
    predict_config: PredictConfig
    link_config: LinkConfig
    fingerprint: str
    linker_fingerprint: str
    weight: float = 1.0  # of its vote where members are fused
    weights_digest: str = ""  # SHA-256 of the weights the config names; empty where it names none
    file_digests: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of predict_config

    def categories(self) -> list[Category]:
        """What its labels mean; may read the files that its settings name."""
        return self.system.categories(node_files.prepare(self.predict_config, self.file_digests))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Everything a run needs to know."""

    inputs: tuple[str, ...]
    out: str
    members: tuple[Member, ...]
    sampling: Sampling
    settings: JobSettings
    fusion: FusionConfig | None = None  # how several members become one result
    limit: int | None = None
    retry_quarantined: bool = False
    replace: bool = False

    def member(self, name: str) -> Member:
        return next(member for member in self.members if member.name == name)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MemberSpec:
    """A member as a person writes it."""

    system: System
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    name: str | None = None
    weight: float = 1.0


def make_job(
    inputs: Sequence[str],
    out: str,
    members: Sequence[MemberSpec],
    *,
    settings: Mapping[str, Any] | None = None,
    every: int = 1,
    fps: float | None = None,
    limit: int | None = None,
    retry_quarantined: bool = False,
    replace: bool = False,
) -> Job:
    """Checks and resolves what a person wrote; every mistake is a UsageError with a remedy.

    `settings` may hold settings of the run, of the members' systems (each member gets what it
    knows) and, with several members, of their fusion.
    """
    if not members:
        raise UsageError("a job needs at least one member; name a system")
    if len(members) > MAX_MEMBERS:
        raise UsageError(f"members: expected at most {MAX_MEMBERS}, got {len(members)}")
    if not inputs:
        raise UsageError("a job needs at least one input: a file, folder, glob, list or URL")
    try:
        sampling = Sampling(every=every, fps=fps)
    except ValueError as error:
        raise UsageError(str(error)) from error
    fused = len(members) > 1
    run_settings, fusion_settings, specs = _deal_out(settings or {}, members, fused)
    resolved = tuple(_resolve(spec, sampling, fused) for spec in specs)
    _check_names(resolved)
    return Job(
        inputs=tuple(_absolute(checked_path("input", path)) for path in inputs),
        out=_checked_out(out),
        members=resolved,
        sampling=sampling,
        settings=config.build(JobSettings, run_settings),
        fusion=config.build(FusionConfig, fusion_settings) if fused else None,
        limit=_checked_limit(limit),
        retry_quarantined=retry_quarantined,
        replace=replace,
    )


def _check_names(members: Sequence[Member]) -> None:
    names = [member.name for member in members]
    if len(set(names)) != len(names):
        raise UsageError(f"member names must differ, got {', '.join(names)}; set `name:` on each")


def checked_path(what: str, path: Any) -> str:
    """A path or address as it stands, if it can be one; an empty one would mean "here"."""
    if not isinstance(path, str):
        raise UsageError(
            f"{what}: expected a path or URL, got {config.brief(path)}; a name that is a number"
            " needs quotes in YAML"
        )
    if not path.strip() or "\0" in path:
        raise UsageError(f"{what}: expected a path or URL, got {config.brief(path)}")
    return path


def _checked_out(out: str) -> str:
    """Input names may be any bytes; Arrow opens no file below a folder that is not UTF-8."""
    try:
        out.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"out: expected a folder whose name is UTF-8, got {out!r}; choose another name"
        ) from error
    return out


def _checked_limit(limit: Any) -> int | None:
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise UsageError(
            f"limit: expected a whole number of videos, 1 or more, got {config.brief(limit)};"
            " leave it out to take all"
        )
    return limit


def _absolute(path: str) -> str:
    """Local inputs as absolute paths, so that the job means the same from anywhere."""
    if is_remote(path) or path.startswith("file:"):
        return path
    return os.path.abspath(path)  # noqa: PTH100 - keeps symlinks


def _deal_out(
    settings: Mapping[str, Any], members: Sequence[MemberSpec], fused: bool
) -> tuple[dict[str, Any], dict[str, Any], list[MemberSpec]]:
    """Splits `--set` values into the run's, the fusion's and the members'."""
    kinds: list[type] = []
    for member in members:
        kinds += member.system.predict_config, member.system.link_config
    if fused:
        kinds.append(FusionConfig)
    run, *shares = config.split_settings(
        settings, [JobSettings, *kinds], see=settings_command(members[0].system.name)
    )
    specs = [
        dataclasses.replace(spec, settings={**shares[2 * i], **shares[2 * i + 1], **spec.settings})
        for i, spec in enumerate(members)
    ]
    return run, shares[-1] if fused else {}, specs


def settings_command(system: str) -> str:
    """The command that lists the settings."""
    return f"reelmask settings {system}"


def _resolve(spec: MemberSpec, sampling: Sampling, fused: bool) -> Member:
    system = spec.system
    predict, linking = config.split_settings(
        spec.settings,
        [system.predict_config, system.link_config],
        see=settings_command(system.name),
    )
    if fused:
        linking.setdefault("for_fusion", True)  # more candidates; the fusion makes the cuts
    _checked_weight(spec.weight)
    predict_config = config.build(system.predict_config, predict)
    link_config = config.build(system.link_config, linking)
    return _member(
        spec.name or system.name, system, predict_config, link_config, spec.weight, sampling
    )


def _member(
    name: str,
    system: System,
    predict_config: PredictConfig,
    link_config: LinkConfig,
    weight: float,
    sampling: Sampling,
) -> Member:
    """With fingerprints of what its files hold now."""
    digests = file_digests(predict_config)  # once per job: weights are gigabytes
    return Member(
        name=name,
        system=system,
        predict_config=predict_config,
        link_config=link_config,
        fingerprint=member_fingerprint(
            system, predict_config, dataclasses.asdict(sampling), digests
        ),
        linker_fingerprint=linker_fingerprint(system, link_config),
        weight=float(weight),
        weights_digest=digests.get("weights", ""),
        file_digests=digests,
    )


def job_record(job: Job) -> dict[str, Any]:
    """The resolved job, as written to `job.yaml`: every setting, fingerprints, versions."""
    return {
        "inputs": [public(path) for path in job.inputs],
        "members": [
            {
                "name": member.name,
                "system": member.system.name,
                "predict": _shown(member.predict_config),
                "link": _shown(member.link_config),
                "weight": member.weight,
                "fingerprint": member.fingerprint,
                "linker_fingerprint": member.linker_fingerprint,
                "weights_digest": member.weights_digest,
                "predict_version": member.system.predict_version,
                "link_version": member.system.link_version,
            }
            for member in job.members
        ],
        "sampling": dataclasses.asdict(job.sampling),
        "settings": config.as_values(job.settings),
        "fusion": None if job.fusion is None else _shown(job.fusion),
        "limit": job.limit,
        "versions": library_versions(),
    }


def _shown(settings: Any) -> dict[str, Any]:
    """Settings as values, without the credentials in addresses of files."""
    values = config.as_values(settings)
    return {
        key: public(value) if isinstance(value, str) and is_remote(value) else value
        for key, value in values.items()
    }


def job_from_record(record: Mapping[str, Any], out: str, systems: Mapping[str, System]) -> Job:
    """The job a results folder holds, with the fingerprints as they were recorded."""
    try:
        return Job(
            inputs=tuple(checked_path("input", path) for path in record["inputs"]),
            out=out,
            members=_members_from_record(record["members"], systems),
            sampling=Sampling(**record["sampling"]),
            settings=config.build(JobSettings, record["settings"]),
            fusion=_fusion_from_record(record.get("fusion")),
            limit=_checked_limit(record["limit"]),
        )
    except UsageError as error:
        raise UsageError(f"job.yaml in {out}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"job.yaml in {out} cannot be understood ({type(error).__name__}: {error}); it may come"
            " from another version, or have been edited"
        ) from error


def job_of_record(record: Mapping[str, Any], out: str, systems: Mapping[str, System]) -> Job:
    """The job a results folder holds, to be run again: with fingerprints of what is there now."""
    recorded = job_from_record(record, _checked_out(out), systems)
    _check_names(recorded.members)
    members = tuple(
        _member(
            each.name,
            each.system,
            each.predict_config,
            each.link_config,
            each.weight,
            recorded.sampling,
        )
        for each in recorded.members
    )
    for before, now in zip(recorded.members, members, strict=True):
        if before.fingerprint != now.fingerprint:
            logger.warning(
                "member %s: its files or the version of its system changed since %s was labelled;"
                " its frames are predicted again",
                now.name,
                out,
            )
    return dataclasses.replace(recorded, members=members)


def _fusion_from_record(values: Mapping[str, Any] | None) -> FusionConfig | None:
    if values is None:
        return None
    fusion: FusionConfig = config.build(FusionConfig, values)
    return fusion


def _members_from_record(
    entries: Sequence[Mapping[str, Any]], systems: Mapping[str, System]
) -> tuple[Member, ...]:
    if not entries:
        raise UsageError("'members' is empty; restore the file, or use --replace")
    if len(entries) > MAX_MEMBERS:
        raise UsageError(f"members: expected at most {MAX_MEMBERS}, got {len(entries)}")
    return tuple(_member_from_record(entry, systems) for entry in entries)


def _member_from_record(entry: Mapping[str, Any], systems: Mapping[str, System]) -> Member:
    texts = ("name", "system", "fingerprint", "linker_fingerprint")
    name, system_name, fingerprint, linking = (_text(entry, key) for key in texts)
    if system_name not in systems:
        raise UsageError(config.unknown_name("system", system_name, sorted(systems)))
    system = systems[system_name]
    predict_config = config.build(system.predict_config, entry["predict"])
    link_config = config.build(system.link_config, entry["link"])
    return Member(
        name=name,
        system=system,
        predict_config=predict_config,
        link_config=link_config,
        fingerprint=fingerprint,
        linker_fingerprint=linking,
        weight=_checked_weight(float(entry.get("weight", 1.0))),
        weights_digest=str(entry.get("weights_digest", "")),
    )


def _checked_weight(weight: float) -> float:
    if not (math.isfinite(weight) and weight > 0):
        raise UsageError(f"weight: expected a number above 0, got {weight}")
    return weight


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry[key]
    if not isinstance(value, str):
        raise TypeError(f"{key}: expected text, got {config.brief(value)}")
    return value


def file_metadata(job: Job, member: Member | None = None) -> FileMetadata:
    """What the job's Parquet files say about their origin (one member's, or all members')."""
    members = job.members if member is None else (member,)
    return FileMetadata(
        fingerprints=tuple(m.fingerprint for m in members),
        system=",".join(m.system.name for m in members),
        weights_digest=",".join(filter(None, (m.weights_digest for m in members))),
        code_version=library_versions().get("reelmask", ""),
    )


def library_versions() -> dict[str, str]:
    """Versions that are recorded, but are no part of any fingerprint."""
    names = ("reelmask", "av", "numpy", "pyarrow", "pycocotools", "torch", "ray")
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def new_run_id() -> str:
    """Sorts by start time."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
