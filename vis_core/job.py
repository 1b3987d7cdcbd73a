"""What to do: a job's inputs, members and settings, resolved and checked before anything runs."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import os
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from vis_core import config
from vis_core.errors import UsageError
from vis_core.fingerprints import digest_of_file, linker_fingerprint, member_fingerprint
from vis_core.schema import FileMetadata
from vis_core.store.parts import ROW_GROUP_BYTES
from vis_core.system import System
from vis_core.video.limits import Limits
from vis_core.video.sampling import Sampling


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobSettings:
    """Settings of the run itself; none of them changes a row."""

    shard_frames: int = 512  # frames per unit: too low costs files, too high costs lost work
    link_rows: int = 200_000  # masks per results file: too low makes many small files
    row_group_bytes: int = ROW_GROUP_BYTES  # too high costs memory, too low compression
    flush_receipts: int = 64  # receipts per manifest file
    flush_seconds: float = 5.0  # longest time a receipt waits; what a dead driver may lose
    max_attempts: int = 3  # deaths of the decoder on one segment before it is given up
    num_actors: int | None = None  # processes that predict on Ray; none: as the cluster suggests
    index_workers: int = 2  # files probed at once
    decode_timeout_seconds: float = 60.0  # no frame for so long: the decoder is killed
    decode_threads: int = 1  # more is faster on large frames; damaged files may then vary
    decode_memory_bytes: int = 4 << 30  # address space of the decoder child
    max_frame_pixels: int = 64_000_000  # larger frames are refused
    max_video_frames: int = 10_000_000  # longer videos are refused

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not value > 0:
                raise ValueError(f"{field.name}: expected more than 0")

    @property
    def limits(self) -> Limits:
        return Limits(
            timeout_seconds=self.decode_timeout_seconds,
            max_frame_pixels=self.max_frame_pixels,
            max_memory_bytes=self.decode_memory_bytes,
            max_frames=self.max_video_frames,
            decode_threads=self.decode_threads,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One system with its settings: whose predictions are computed and linked on their own."""

    name: str
    system: System
    predict_config: Any
    link_config: Any
    fingerprint: str
    linker_fingerprint: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Everything a run needs to know."""

    inputs: tuple[str, ...]
    out: str
    members: tuple[Member, ...]
    sampling: Sampling
    settings: JobSettings
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

    `settings` may hold settings of the run and, with a single member, of its system.
    """
    if not members:
        raise UsageError("a job needs at least one member; name a system")
    try:
        sampling = Sampling(every=every, fps=fps)
    except ValueError as error:
        raise UsageError(str(error)) from error
    run_settings, specs = _deal_out(settings or {}, members)
    resolved = tuple(_resolve(spec, sampling) for spec in specs)
    names = [member.name for member in resolved]
    if len(set(names)) != len(names):
        raise UsageError(f"member names must differ, got {', '.join(names)}; set `name:` on each")
    return Job(
        inputs=tuple(_absolute(path) for path in inputs),
        out=out,
        members=resolved,
        sampling=sampling,
        settings=config.build(JobSettings, run_settings),
        limit=limit,
        retry_quarantined=retry_quarantined,
        replace=replace,
    )


def _absolute(path: str) -> str:
    """Local inputs as absolute paths, so that the job means the same from anywhere."""
    return path if "://" in path else os.path.abspath(path)  # noqa: PTH100 - keeps symlinks


def _deal_out(
    settings: Mapping[str, Any], members: Sequence[MemberSpec]
) -> tuple[dict[str, Any], list[MemberSpec]]:
    """Splits `--set` values into the run's and the members' (each member gets what it knows)."""
    kinds = [kind for m in members for kind in (m.system.predict_config, m.system.link_config)]
    run, *shares = config.split_settings(settings, [JobSettings, *kinds])
    specs = [
        dataclasses.replace(spec, settings={**shares[2 * i], **shares[2 * i + 1], **spec.settings})
        for i, spec in enumerate(members)
    ]
    return run, specs


def _resolve(spec: MemberSpec, sampling: Sampling) -> Member:
    system = spec.system
    predict, linking = config.split_settings(
        spec.settings, [system.predict_config, system.link_config]
    )
    predict_config: Any = config.build(system.predict_config, predict)
    link_config: Any = config.build(system.link_config, linking)
    return Member(
        name=spec.name or system.name,
        system=system,
        predict_config=predict_config,
        link_config=link_config,
        fingerprint=member_fingerprint(system, predict_config, dataclasses.asdict(sampling)),
        linker_fingerprint=linker_fingerprint(system, link_config),
    )


def job_record(job: Job) -> dict[str, Any]:
    """The resolved job, as written to `job.yaml`: every setting, fingerprints, versions."""
    return {
        "inputs": list(job.inputs),
        "members": [
            {
                "name": member.name,
                "system": member.system.name,
                "predict": config.as_values(member.predict_config),
                "link": config.as_values(member.link_config),
                "fingerprint": member.fingerprint,
                "linker_fingerprint": member.linker_fingerprint,
                "predict_version": member.system.predict_version,
                "link_version": member.system.link_version,
            }
            for member in job.members
        ],
        "sampling": dataclasses.asdict(job.sampling),
        "settings": config.as_values(job.settings),
        "limit": job.limit,
        "versions": library_versions(),
    }


def job_from_record(record: Mapping[str, Any], out: str, systems: Mapping[str, System]) -> Job:
    """The job a results folder holds, with the fingerprints as they were recorded."""
    try:
        members = tuple(
            _member_from_record(entry, systems[entry["system"]]) for entry in record["members"]
        )
        return Job(
            inputs=tuple(record["inputs"]),
            out=out,
            members=members,
            sampling=Sampling(**record["sampling"]),
            settings=config.build(JobSettings, record["settings"]),
            limit=record["limit"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"job.yaml in {out} cannot be understood ({type(error).__name__}: {error}); it may come"
            " from another version, or have been edited"
        ) from error


def _member_from_record(entry: Mapping[str, Any], system: System) -> Member:
    return Member(
        name=entry["name"],
        system=system,
        predict_config=config.build(system.predict_config, entry["predict"]),
        link_config=config.build(system.link_config, entry["link"]),
        fingerprint=entry["fingerprint"],
        linker_fingerprint=entry["linker_fingerprint"],
    )


def file_metadata(job: Job, member: Member | None = None) -> FileMetadata:
    """What the job's Parquet files say about their origin (one member's, or all members')."""
    members = job.members if member is None else (member,)
    return FileMetadata(
        fingerprints=tuple(m.fingerprint for m in members),
        system=",".join(m.system.name for m in members),
        weights_digest=",".join(filter(None, (weights_digest(m) for m in members))),
        code_version=library_versions().get("reelmask", ""),
    )


def weights_digest(member: Member) -> str:
    """SHA-256 of the weights a member's config names; empty where it names none."""
    path = getattr(member.predict_config, "weights", None)
    return digest_of_file(path) if path else ""


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
