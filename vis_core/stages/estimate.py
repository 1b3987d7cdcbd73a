"""plan, for people: what a job would do and how much it would store; nothing is predicted."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator

import pyarrow.compute as pc

from vis_core.job import Job
from vis_core.progress import Progress, telling
from vis_core.stages.index import index_videos
from vis_core.stages.plan import plan_job
from vis_core.stages.settle import Settlement
from vis_core.store.store import Store, is_results_folder, open_store
from vis_core.video.reader import probing

BUDGET_BYTES = 50_000  # a frame and member should take no more in `frames`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """What `reelmask plan` prints."""

    num_videos: int
    num_failed: int
    seconds_of_video: float
    frames_to_predict: int
    frames_committed: int
    num_units: int
    bytes_per_frame: float | None  # as stored by this job so far; None before the first part
    bytes_to_store: int
    bytes_to_store_at_most: int

    def __str__(self) -> str:
        unknown = f" ({self.num_failed} cannot be read)" if self.num_failed else ""
        lines = [
            f"{self.num_videos} videos{unknown}, {self.seconds_of_video / 3600:.2f} hours",
            f"{self.frames_to_predict} frames to predict in {self.num_units} units,"
            f" {self.frames_committed} committed already",
        ]
        if self.bytes_per_frame is None:
            lines.append(f"frames/ at most {self.bytes_to_store_at_most / 1e9:.2f} GB")
        else:
            lines.append(
                f"frames/ about {self.bytes_to_store / 1e9:.3f} GB more, at"
                f" {self.bytes_per_frame:.0f} bytes per frame as stored so far"
            )
        return "\n".join(lines)


def estimate(job: Job, progress: Progress) -> Estimate:
    """Indexes and plans, in a scratch folder unless the job's own exists."""
    with _store(job) as store:
        videos = index_videos(
            job.inputs,
            store.videos(),
            make_probe=lambda: probing(job.settings.limits),
            workers=job.settings.index_workers,
            limit=job.limit,
            progress=telling(progress),
        )
        progress.end()
        plan = plan_job(job, store, videos)
        segments = store.manifest.segments.load()
        rows = Settlement(job, store.folder, videos, segments, plan.given_up).segments
    committed = pc.sum(rows["num_rows"]).as_py() or 0
    parts = rows.group_by("part").aggregate([("part_bytes", "max")])
    stored = pc.sum(parts["part_bytes_max"]).as_py() or 0
    per_frame = stored / committed if committed else None
    frames = round(plan.num_frames)
    return Estimate(
        num_videos=len(videos),
        num_failed=pc.sum(pc.equal(videos["num_frames"], 0)).as_py() or 0,
        seconds_of_video=pc.sum(videos["duration_seconds"]).as_py() or 0.0,
        frames_to_predict=frames,
        frames_committed=committed,
        num_units=plan.num_units,
        bytes_per_frame=per_frame,
        bytes_to_store=round(frames * (per_frame or 0)),
        bytes_to_store_at_most=frames * BUDGET_BYTES,
    )


@contextlib.contextmanager
def _store(job: Job) -> Iterator[Store]:
    if job.out and is_results_folder(job.out):
        yield open_store(job.out, create=False)
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield open_store(scratch)
