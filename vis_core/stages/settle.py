"""settle: which videos are complete, in which segments, and what is missing of them.

A view over the index, the manifest's rows of the current fingerprints and the receipts that came
since; it answers for one video at a time (to link it) or for all at once (to account for them).
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vis_core import schema
from vis_core.job import Job
from vis_core.stages.link import SettledVideo, covering
from vis_core.store import parts
from vis_core.store.folder import Folder
from vis_core.store.manifest import rows_to_segments
from vis_core.store.planning import SPAN, VideoColumns, owned_rows
from vis_core.store.segments import Receipt, SegmentReceipt
from vis_core.types import Hole, VideoInfo
from vis_core.video.sampling import Sampling, sampled_frames

_VIDEOS_PER_BATCH = 512


class Settlement:
    """What is committed, given up or still open of every video of a job."""

    def __init__(
        self, job: Job, folder: Folder, videos: pa.Table, segments: pa.Table, given_up: pa.Table
    ) -> None:
        self._job = job
        self._folder = folder
        self._columns = VideoColumns(videos)
        self._rows = self._current(segments)
        videos = _with_found_lengths(videos, self._rows)
        self._columns = VideoColumns(videos)
        # Each video's rows are neighbours; one more entry closes the last.
        owners = self._columns.locate(self._rows)
        self._first_segment = np.searchsorted(owners, np.arange(len(videos) + 1))
        self._new: dict[str, list[SegmentReceipt]] = collections.defaultdict(list)
        self._given_up = _without_committed(self._current(given_up), self._rows)
        self._lost = _lost_ranges(self._given_up)
        self.videos = videos

    def _current(self, rows: pa.Table) -> pa.Table:
        """Rows of this job's fingerprints, about videos as they are now; in order of video."""
        names = pa.array([m.fingerprint for m in self._job.members])
        member = np.asarray(pc.fill_null(pc.index_in(rows["fingerprint"], names), -1))
        video = self._columns.locate(rows)
        order = np.lexsort((rows["start"], rows["window"], member, video))
        live = (member >= 0) & (video >= 0)
        return rows.take(pa.array(order[live[order]])).combine_chunks()

    def add(self, receipt: Receipt) -> None:
        """Takes note of a unit that was committed just now."""
        for segment in receipt.segments:
            self._new[segment.key.video_id].append(segment)

    # --- one video -------------------------------------------------------------------------

    def video(self, row: int) -> SettledVideo:
        """The video in this row of the table, ready to be linked."""
        return next(self.videos_of([row]))

    def videos_of(self, rows: Sequence[int]) -> Iterator[SettledVideo]:
        """The videos in these rows, made a batch at a time."""
        for start in range(0, len(rows), _VIDEOS_PER_BATCH):
            batch = np.asarray(rows[start : start + _VIDEOS_PER_BATCH], np.int64)
            videos = schema.table_to_videos(self.videos.take(pa.array(batch)))
            firsts, lasts = self._first_segment[batch], self._first_segment[batch + 1]
            positions = [np.arange(a, b) for a, b in zip(firsts, lasts, strict=True)]
            stored = iter(rows_to_segments(self._rows.take(pa.array(np.concatenate(positions)))))
            for video, mine in zip(videos, positions, strict=True):
                segments = [next(stored) for _ in mine] + self._new.get(video.video_id, [])
                yield self._settled(video, segments)

    def _settled(self, video: VideoInfo, found: Sequence[SegmentReceipt]) -> SettledVideo:
        segments = {segment.key: segment for segment in found}.values()
        members = self._job.members
        return SettledVideo(
            video=_resized(video, found),
            segments={
                member.name: [s for s in segments if s.key.fingerprint == member.fingerprint]
                for member in members
            },
            given_up={
                member.name: self._lost.get((video.video_id, member.fingerprint), [])
                for member in members
            },
        )

    # --- all videos ------------------------------------------------------------------------

    @property
    def segments(self) -> pa.Table:
        """The live rows of the manifest."""
        return self._rows

    def uris(self) -> dict[str, str]:
        names = self.videos["video_id"].to_pylist()
        return dict(zip(names, self.videos["uri"].to_pylist(), strict=True))

    def live_files(self) -> pa.Table:
        """The parts that hold this job's predictions."""
        return (
            self._rows.group_by(["part", "member", "fingerprint"], use_threads=False)
            .aggregate([("num_rows", "sum")])
            .rename_columns({"part": "file", "num_rows_sum": "num_rows"})
            .sort_by([("member", "ascending"), ("file", "ascending")])
        )

    def hole_rows(self) -> list[dict[str, Any]]:
        """Holes of committed segments as rows of `failures`, without who and when."""
        holed = self._rows.filter(pc.greater(pc.list_value_length(self._rows["holes"]), 0))
        return [
            {
                "video_id": row["video_id"],
                "start_frame": hole["start"],
                "stop_frame": hole["stop"],
                "member": row["member"],
                "stage": "decode",
                "error_class": "Damage",
                "message": hole["reason"],
                "attempts": 1,
            }
            for row in holed.select(["video_id", "member", "holes"]).to_pylist()
            for hole in row["holes"]
        ]

    def given_up_rows(self) -> list[dict[str, Any]]:
        """Segments in quarantine as rows of `failures`, without who and when."""
        names = {member.fingerprint: member.name for member in self._job.members}
        return [
            {
                "video_id": row["video_id"],
                "start_frame": row["start"],
                "stop_frame": row["stop"],
                "member": names[row["fingerprint"]],
                "stage": row["stage"],
                "error_class": "Quarantined",
                "message": row["message"],
                "attempts": row["attempts"],
            }
            for row in self._given_up.to_pylist()
        ]

    def videos_without_rows(self) -> set[str]:
        """Readable videos of which no frame is predicted, though some are lost."""
        with_rows = self._rows.filter(pc.greater(self._rows["num_rows"], 0))["video_id"]
        lost = [*self._given_up["video_id"].to_pylist()]
        lost += [row["video_id"] for row in self.hole_rows()]
        return set(lost).difference(pc.unique(with_rows).to_pylist())

    def owned(self, member: str) -> np.ndarray:
        """Per video, how many rows the member should have if nothing was lost."""
        of = self._job.member(member)
        spec = of.system.window(of.predict_config)
        return owned_rows(self._columns, self.videos, spec, self._job.sampling)

    def num_committed(self, member: str) -> int:
        """Rows of a member, each frame of a window once."""
        rows = self._of(self._rows, member)
        if rows.num_rows == 0:
            return 0
        total = int(pc.sum(rows["num_rows"]).as_py() or 0)
        overlapping = rows.filter(pa.array(self._overlaps(rows)))
        for video_id in pc.unique(overlapping["video_id"]).to_pylist():
            mine = rows_to_segments(rows.filter(pc.equal(rows["video_id"], video_id)))
            total += self._counted_once(mine) - sum(segment.num_rows for segment in mine)
        return total

    def num_missing(self, member: str) -> int:
        """Owned frames that are holes or in quarantine."""
        rows = np.asarray([self._row_of(name) for name in self._with_losses(member)], np.int64)
        sampling = self._job.sampling
        spec = self._job.member(member).system.window
        if spec(self._job.member(member).predict_config).whole_windows:
            return sum(
                _missing_by_window(s, member, sampling) for s in self.videos_of(rows.tolist())
            )
        return sum(len(s.missing(member, sampling)) for s in self.videos_of(rows.tolist()))

    def _with_losses(self, member: str) -> list[str]:
        """Videos of which this member misses frames."""
        lost = (*self.hole_rows(), *self.given_up_rows())
        return sorted({row["video_id"] for row in lost if row["member"] == member})

    def _row_of(self, video_id: str) -> int:
        return int(pc.index(self.videos["video_id"], video_id).as_py())

    def _of(self, rows: pa.Table, member: str) -> pa.Table:
        return rows.filter(pc.equal(rows["fingerprint"], self._job.member(member).fingerprint))

    def _overlaps(self, rows: pa.Table) -> np.ndarray:
        video = self._columns.locate(rows)
        window = rows["window"].to_numpy()
        start = video * SPAN + rows["start"].to_numpy()
        reach = np.maximum.accumulate(video * SPAN + rows["stop"].to_numpy())
        same = (video[1:] == video[:-1]) & (window[1:] == window[:-1])
        return np.concatenate([[False], same & (start[1:] < reach[:-1])])

    def _counted_once(self, segments: Sequence[SegmentReceipt]) -> int:
        total = 0
        for segment, start, stop in covering(segments):
            for table in parts.read_segment(self._folder, segment, ["frame_index"]):
                index = table["frame_index"].to_numpy()
                total += int(np.count_nonzero((index >= start) & (index < stop)))
        return total


def _missing_by_window(settled: SettledVideo, member: str, sampling: Sampling) -> int:
    """Windows overlap: a frame that is lost in two is missing twice, as it is owned twice."""
    holes = [(hole.window, hole.start, hole.stop) for hole in settled.holes(member)]
    frames = sampled_frames(settled.video, sampling)
    lost = {
        (window, frame)
        for window, start, stop in holes
        for frame in frames[slice(*np.searchsorted(frames, [start, stop]))].tolist()
    }
    return len(lost)


def _without_committed(given_up: pa.Table, rows: pa.Table) -> pa.Table:
    """Quarantine ends where somebody succeeded after all: only what is still missing stays."""
    kept = []
    for lost in given_up.to_pylist():
        same = pc.and_(
            pc.equal(rows["fingerprint"], lost["fingerprint"]),
            pc.equal(rows["video_id"], lost["video_id"]),
        )
        mine = rows.filter(pc.and_(same, pc.equal(rows["window"], lost["window"])))
        done = zip(mine["start"].to_pylist(), mine["stop"].to_pylist(), strict=True)
        reached = lost["start"]
        for start, stop in sorted(done):
            if start > reached:
                kept.append({**lost, "start": reached, "stop": min(start, lost["stop"])})
            reached = max(reached, stop)
        if reached < lost["stop"]:
            kept.append({**lost, "start": reached})
    kept = [row for row in kept if row["start"] < row["stop"]]
    return pa.Table.from_pylist(kept, schema=given_up.schema)


def _lost_ranges(given_up: pa.Table) -> dict[tuple[str, str], list[Hole]]:
    """Segments in quarantine by (video_id, fingerprint)."""
    lost: dict[tuple[str, str], list[Hole]] = collections.defaultdict(list)
    for row in given_up.to_pylist():
        reason, window = row["message"], row["window"]
        hole = Hole(start=row["start"], stop=row["stop"], reason=reason, window=window)
        lost[row["video_id"], row["fingerprint"]].append(hole)
    return dict(lost)


def _resized(video: VideoInfo, segments: Sequence[SegmentReceipt]) -> VideoInfo:
    """The video with the number of frames the decoder found, where it alone can know."""
    found = [s.num_frames_found for s in segments if s.num_frames_found is not None]
    return dataclasses.replace(video, num_frames=max(found)) if found else video


def _with_found_lengths(videos: pa.Table, rows: pa.Table) -> pa.Table:
    """The videos table with lengths corrected by the decoder, which wins over the index."""
    found = rows.filter(pc.is_valid(rows["num_frames_found"]))
    if found.num_rows == 0:
        return videos
    lengths = dict(
        zip(found["video_id"].to_pylist(), found["num_frames_found"].to_pylist(), strict=True)
    )
    names = videos["video_id"].to_pylist()
    counts = [
        lengths.get(name, count)
        for name, count in zip(names, videos["num_frames"].to_pylist(), strict=True)
    ]
    position = videos.schema.get_field_index("num_frames")
    return videos.set_column(position, "num_frames", pa.array(counts, pa.int32()))
