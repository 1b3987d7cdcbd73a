"""link: the keyed reduce. Settled videos of a results folder in, a pair of result files out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vis_core import schema
from vis_core.association.fusion import FUSION_VERSION
from vis_core.failpoints import failpoint
from vis_core.fingerprints import content_of, digest_of, file_digests
from vis_core.job import Job, Member
from vis_core.stages.tracks import MemberRows, write_tracks
from vis_core.store import parts
from vis_core.store.folder import Folder
from vis_core.store.manifest import LINKS
from vis_core.store.results import ResultsWriter, results_name
from vis_core.store.segments import SegmentReceipt
from vis_core.types import Hole, IntArray, VideoInfo
from vis_core.video.sampling import Sampling, sampled_frames


@dataclasses.dataclass(frozen=True, kw_only=True)
class SettledVideo:
    """A video whose every owned frame is committed or a hole, in every member."""

    video: VideoInfo
    segments: Mapping[str, Sequence[SegmentReceipt]]  # by member name
    given_up: Mapping[str, Sequence[Hole]]

    def holes(self, member: str) -> list[Hole]:
        """All missing ranges of a member, in order of (window, frame)."""
        found = [
            dataclasses.replace(hole, window=segment.key.window)
            for segment in self.segments[member]
            for hole in segment.holes
        ]
        order = [*found, *self.given_up[member]]
        return sorted(order, key=lambda hole: (hole.window, hole.start, hole.stop))

    def missing(self, member: str, sampling: Sampling) -> IntArray:
        """The member's sampled frames that are in a hole, each once."""
        frames = sampled_frames(self.video, sampling)
        ranges = [(hole.start, hole.stop) for hole in self.holes(member)]
        inside = [slice(*np.searchsorted(frames, pair)) for pair in ranges]
        return np.unique(np.concatenate([frames[:0], *(frames[part] for part in inside)]))


def track_key(job: Job, settled: SettledVideo) -> str:
    """Key of a video's tracks: the linkers, the segments they read, and what is missing."""
    return digest_of(
        {
            "video": [settled.video.video_id, settled.video.version],
            "members": [
                {
                    "name": member.name,
                    "linker": member.linker_fingerprint,
                    "segments": sorted(s.digest for s in settled.segments[member.name]),
                    "holes": [(hole.start, hole.stop) for hole in settled.holes(member.name)],
                }
                for member in job.members
            ],
            **fusion_key(job),
        }
    )


def fusion_key(job: Job) -> dict[str, Any]:
    """What decides how members become one result; nothing where there is one member."""
    if job.fusion is None:
        return {}
    return {
        "fusion": {
            "version": FUSION_VERSION,
            "config": content_of(job.fusion, file_digests(job.fusion)),
            "weights": [member.weight for member in job.members],
        }
    }


def link_videos(
    job: Job,
    folder: Folder,
    batch: Sequence[SettledVideo],
    *,
    metadata: schema.FileMetadata,
    run_id: str,
) -> pa.Table:
    """Links a batch of settled videos into one pair of result files; returns rows of `links`."""
    failpoint("before_link")
    rows: list[dict[str, Any]] = []
    with ResultsWriter(folder, metadata, job.settings.row_group_bytes) as writer:
        for settled in batch:
            row = {"video_id": settled.video.video_id, "track_key": track_key(job, settled)}
            members = [member_rows(job, folder, settled, member) for member in job.members]
            rows.append({**row, **write_tracks(settled.video, members, writer, job.fusion)})
        done = [row for row in rows if row["error"] is None]
        name = results_name([row["track_key"] for row in done], run_id)
        if done:
            writer.commit(name)
    failpoint("after_link")
    rows = [{**row, "file": name if row["error"] is None else "", "run_id": run_id} for row in rows]
    return pa.Table.from_pylist(rows, schema=LINKS)


def failed_links(job: Job, batch: Sequence[SettledVideo], message: str) -> pa.Table:
    """Rows of `links` for videos that nothing could be linked of."""
    rows = [
        {
            "video_id": settled.video.video_id,
            "track_key": track_key(job, settled),
            "error": message,
            "file": "",
        }
        for settled in batch
    ]
    return pa.Table.from_pylist(rows, schema=LINKS)


def member_rows(job: Job, folder: Folder, settled: SettledVideo, member: Member) -> MemberRows:
    segments = settled.segments[member.name]
    return MemberRows(
        member=member.name,
        system=member.system,
        link_config=member.link_config,
        weight=member.weight,
        tables=functools.partial(_tables, folder, segments),
        cuts=np.unique(np.asarray([cut for s in segments for cut in s.cuts], np.int64)),
        holes=settled.holes(member.name),
        missing=settled.missing(member.name, job.sampling),
    )


def covering(segments: Sequence[SegmentReceipt]) -> list[tuple[SegmentReceipt, int, int]]:
    """Segments with the range to use of each, so that every frame of a window comes once.

    Committed segments may overlap after a change of shard size met a surviving worker of a dead
    run; overlapping rows are equal, so the earlier segment simply wins.
    """
    chosen: list[tuple[SegmentReceipt, int, int]] = []
    reached, window = 0, -1
    for segment in sorted(segments, key=lambda s: (s.key.window, s.key.start, -s.key.stop)):
        if segment.key.window != window:
            window, reached = segment.key.window, 0
        start = max(segment.key.start, reached)
        if start < segment.key.stop:
            chosen.append((segment, start, segment.key.stop))
            reached = segment.key.stop
    return chosen


def _tables(
    folder: Folder, segments: Sequence[SegmentReceipt], columns: Sequence[str] | None
) -> Iterator[pa.Table]:
    for segment, start, stop in covering(segments):
        whole = (start, stop) == (segment.key.start, segment.key.stop)
        for table in parts.read_segment(folder, segment, columns):
            yield table if whole else _between(table, start, stop)


def _between(table: pa.Table, start: int, stop: int) -> pa.Table:
    index = table["frame_index"]
    return table.filter(pc.and_(pc.greater_equal(index, start), pc.less(index, stop)))
