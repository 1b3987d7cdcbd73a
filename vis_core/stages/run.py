"""A run's bookkeeping, shared by every runner: everything but who computes the units.

A runner asks for the plan, computes units with `run_shard`, reports each receipt or failure, links
the batches that `ready` hands out with `link_videos`, and finishes. All state that matters is in
the results folder; this object can be lost at any point.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vis_core import errors, schema
from vis_core.addresses import public
from vis_core.errors import UsageError
from vis_core.failpoints import failpoint
from vis_core.job import Job, file_metadata, job_record, new_run_id
from vis_core.progress import Progress, telling
from vis_core.stages import finish
from vis_core.stages.index import MakeProbe, index_videos
from vis_core.stages.link import SettledVideo, track_key
from vis_core.stages.plan import WorkPlan, attempts_that_count, plan_job, quarantined
from vis_core.stages.predict import UnitFailed
from vis_core.stages.settle import Settlement
from vis_core.stages.trace import Trace
from vis_core.store import in_flight
from vis_core.store import lease as leases
from vis_core.store.damage import DamagedFile
from vis_core.store.folder import open_folder
from vis_core.store.manifest import ATTEMPTS, ReceiptFlusher
from vis_core.store.parts import FRAMES
from vis_core.store.results import MASKS, TRACKS, num_rows
from vis_core.store.segments import Receipt, SegmentKey
from vis_core.store.store import JOB, VIDEOS, Store, holding, now

logger = logging.getLogger(__name__)

COMPACT_AT_FILES = 32


@dataclasses.dataclass(kw_only=True)
class RunReport:
    """What a run did and cost: `run.json`."""

    run_id: str
    runner: str
    exit_code: int = errors.EXIT_FAILED
    seconds: float = 0.0
    num_videos: int = 0
    num_units: int = 0
    frames_planned: int = 0
    frames_predicted: int = 0
    frames_adopted: int = 0  # found committed by a run that could not report it
    frames_recomputed: int = 0  # begun by an earlier run, lost, and predicted again
    failed_attempts: int = 0
    videos_linked: int = 0
    num_tracks: int = 0
    num_masks: int = 0
    open_failures: int = 0
    frames_before_first_link: int = 0  # predicted when the first tracks were committed
    num_workers: int = 0
    ramp_seconds: float = 0.0  # from the plan to the first unit of the worker that came last
    index_seconds: float = 0.0
    plan_seconds: float = 0.0
    decode_seconds: float = 0.0
    wait_seconds: float = 0.0
    predict_seconds: float = 0.0
    write_seconds: float = 0.0
    link_seconds: float = 0.0
    finish_seconds: float = 0.0
    status: dict[str, int] = dataclasses.field(default_factory=dict)
    conservation: list[dict[str, Any]] = dataclasses.field(default_factory=list)


class Run:
    """One run over a results folder that it holds the lease of."""

    def __init__(
        self,
        job: Job,
        store: Store,
        lease: leases.Lease,
        trace: Trace,
        *,
        runner: str,
        run_id: str,
    ) -> None:
        self.job = job
        self.store = store
        self.metadata = {member.name: file_metadata(job, member) for member in job.members}
        self.report = RunReport(run_id=run_id, runner=runner)
        self._lease = lease
        self._started = time.monotonic()
        self._flusher = ReceiptFlusher(
            store.manifest.segments,
            self.report.run_id,
            every=job.settings.flush_receipts,
            seconds=job.settings.flush_seconds,
            guard=lease.check,  # before it takes the rows for written; the folder checks as well
        )
        self._videos = schema.VIDEOS.empty_table()
        self._settlement: Settlement | None = None
        self._open = np.zeros(0, np.int64)
        self._row_of: dict[str, int] = {}
        self._queue: list[int] = []  # rows of videos that were settled since the last `ready`
        self._batch: list[SettledVideo] = []
        self._batch_masks = 0
        self._batch_since = 0.0
        self._wanted: dict[str, str] = {}  # track key by video: the last one computed counts
        self._done_keys: set[str] = set()
        self._predicting_since: float | None = None
        self._workers: set[str] = set()
        self._trace = trace
        self._incomplete = True  # until everything has been planned, predicted and linked
        self._lost: dict[tuple[str, str, str, int], set[tuple[int, int]]] = {}

    # --- index and plan --------------------------------------------------------------------

    def index(
        self, make_probe: MakeProbe, progress: Progress, *, workers: int | None = None
    ) -> None:
        """Brings the videos table up to date with the inputs."""
        finish.check_labels(self.job)
        started = time.monotonic()
        logged = {} if self.job.replace else self._given_ids()
        earlier = None if self.job.replace else self.store.videos()
        # The table knows them too, should the log be damaged.
        ids = ({} if earlier is None else _ids_of(earlier)) | logged
        self._videos = index_videos(
            self.job.inputs,
            earlier,
            make_probe=make_probe,
            ids=ids,
            workers=workers or self.job.settings.index_workers,
            limit=self.job.limit,
            progress=telling(progress),
        )
        progress.end()
        new = self._videos.filter(pc.invert(pc.is_in(self._videos["uri"], _strings(logged))))
        # Only now: a job whose inputs are not there leaves the folder as it was.
        if self.job.replace:
            self.store.clear()
        self.store.manifest.ids.append(new.select(["uri", "video_id"]))
        self.store.write_job({**job_record(self.job), "runner": self.report.runner})
        self.store.write_table(VIDEOS, self._videos, file_metadata(self.job))
        self.report.num_videos = len(self._videos)
        self.report.index_seconds += time.monotonic() - started
        failpoint("after_index")

    def _given_ids(self) -> dict[str, str]:
        return _ids_of(self.store.manifest.ids.compact(min_files=COMPACT_AT_FILES))

    def recover(self) -> None:
        """Adopts what earlier runs wrote but could not report, and notes what they lost."""
        self.lost(in_flight.everything(self.store.folder))
        # Runs that keep dying never come to the end, where this is done as well.
        self.store.manifest.segments.compact(min_files=COMPACT_AT_FILES)
        adopted = self.store.adopt_orphans(self.report.run_id)
        self.report.frames_adopted += sum(s.num_rows for r in adopted for s in r.segments)
        for receipt in adopted:
            for segment in receipt.segments:
                self._forget_lost(segment.key)
        if self.job.retry_quarantined:
            self._pardon()
        self._set_aside_results()
        self._done_keys = self._linked_keys()

    @property
    def witness(self) -> leases.Witness | None:
        """For processes that write results on behalf of this run."""
        return self._lease.witness

    def is_complete(self) -> bool:
        """Whether nothing has turned up, since the last plan, that must be predicted again."""
        return not self._incomplete

    def plan(self) -> WorkPlan:
        """What is left to do now; called again until nothing is."""
        started = time.monotonic()
        self._incomplete = False
        self._settle()
        plan = plan_job(self.job, self.store, self._videos)
        self._open = plan.open_pieces()
        ids = self._videos["video_id"].to_pylist()
        self._row_of = {video_id: row for row, video_id in enumerate(ids)}
        usable = self._videos["num_frames"].to_numpy() > 0
        self._queue = np.flatnonzero((self._open == 0) & usable).tolist()
        self._batch, self._batch_masks = [], 0  # these videos are in the queue again
        self.report.frames_planned = max(self.report.frames_planned, round(plan.num_frames))
        now_is = time.monotonic()
        self.report.plan_seconds += now_is - started
        self._predicting_since = self._predicting_since or now_is
        failpoint("after_plan")
        return plan

    def _settle(self) -> Settlement:
        """Reads anew what is committed and given up, and how long videos really are."""
        self._flusher.drain()
        attempts = attempts_that_count(self.store.manifest.attempts.load())
        self._settlement = Settlement(
            self.job,
            self.store.folder,
            self._videos,
            self.store.manifest.segments.load(),
            quarantined(attempts, self.job.settings.max_attempts),
        )
        self._videos = self._settlement.videos
        return self._settlement

    # --- units -----------------------------------------------------------------------------

    def record(self, receipt: Receipt, worker: str, seconds: float) -> None:
        """Takes a receipt of a unit that took so long; a thread of its own writes the manifest."""
        self._note_worker(worker, seconds)
        rows = sum(segment.num_rows for segment in receipt.segments)
        self._trace.span(worker, str(receipt.segments[0].key), seconds, frames=rows)
        self._flusher.add(receipt)
        assert self._settlement is not None, "plan() comes before record()"
        self._settlement.add(receipt)
        report = self.report
        report.num_units += 1
        if receipt.adopted:
            report.frames_adopted += rows
        report.frames_predicted += receipt.num_frames_predicted
        for name in ("decode_seconds", "wait_seconds", "predict_seconds", "write_seconds"):
            setattr(report, name, getattr(report, name) + getattr(receipt, name))
        for segment in receipt.segments:
            if not receipt.adopted:
                report.frames_recomputed += self._frames_lost_before(segment.key, segment.num_rows)
            self._close_piece(segment.key.video_id)

    def lost(self, keys: Iterable[SegmentKey]) -> None:
        """These were begun by a process that died: what is predicted of them now is done again."""
        for key in keys:
            self._lost.setdefault(_place(key), set()).add((key.start, key.stop))

    def failed(self, failure: UnitFailed) -> None:
        """Writes down an attempt; the next plan isolates the unit or gives it up."""
        unit = failure.unit
        logger.warning("%s", failure)
        self.report.failed_attempts += 1
        rows = [
            {
                **dataclasses.asdict(key),
                "attempt_id": secrets.token_hex(8),
                "member": unit.member,
                "stage": failure.stage,
                "singleton": len(unit.segments) == 1,
                "pardon": False,
                "message": failure.message,
                "run_id": self.report.run_id,
                "time": now(),
            }
            for key in unit.keys
        ]
        self.store.manifest.attempts.append(pa.Table.from_pylist(rows, schema=ATTEMPTS))

    # --- videos to link --------------------------------------------------------------------

    def ready(self, *, everything: bool = False) -> Iterator[list[SettledVideo]]:
        """Batches of settled videos whose tracks are missing, up to the row target each.

        Without `everything` the last, smaller batch waits for more, but not long.
        """
        assert self._settlement is not None, "plan() comes before ready()"
        rows, self._queue = self._queue, []
        for settled in self._settlement.videos_of(rows):
            key = track_key(self.job, settled)
            self._wanted[settled.video.video_id] = key
            if key in self._done_keys:
                continue
            if not self._batch:
                self._batch_since = time.monotonic()
            self._batch.append(settled)
            self._batch_masks += _estimated_masks(settled)
            if self._batch_masks >= self.job.settings.link_rows:
                yield self._take_batch()
        waited = time.monotonic() - self._batch_since
        if self._batch and (everything or waited >= self.job.settings.link_seconds):
            yield self._take_batch()

    def _take_batch(self) -> list[SettledVideo]:
        batch, self._batch, self._batch_masks = self._batch, [], 0
        return batch

    def set_aside(self, damage: DamagedFile) -> None:
        """Takes a part that cannot be read out of the way: its frames are planned again."""
        under, _, name = damage.name.partition("/")
        if under != FRAMES:
            raise damage
        logger.warning("%s", damage)
        self.store.folder.set_aside(damage.name)
        self._flusher.drain()  # rows of this part may still be on their way
        self.store.forget_parts([name])
        self._incomplete = True

    def linked(self, rows: pa.Table, seconds: float) -> None:
        """Commits what `link_videos` returned."""
        position = rows.schema.get_field_index("run_id")
        names = pa.array([self.report.run_id] * len(rows), pa.string())
        self.store.manifest.links.append(rows.set_column(position, "run_id", names))
        failpoint("after_links")
        if self.report.videos_linked == 0:
            self.report.frames_before_first_link = self.report.frames_predicted
        self._trace.span("link", f"{rows.num_rows} videos", seconds, videos=rows.num_rows)
        self._done_keys.update(rows["track_key"].to_pylist())
        self.report.videos_linked += rows.num_rows
        self.report.link_seconds += seconds

    def tell(self, progress: Progress) -> None:
        """Shows how far the videos are; frames are told by whoever counts them."""
        linked = f"{self.report.videos_linked}/{self.report.num_videos}"
        progress.note(linked=linked, failures=self.report.failed_attempts)

    # --- the end ---------------------------------------------------------------------------

    def finish(self) -> RunReport:
        """Writes the tables, leaves exactly the live rows, accounts for every frame."""
        started = time.monotonic()
        settlement = self._settle()
        self._flusher.close()
        live = self._live_links()
        # Again: a run that we superseded may have written its own after ours.
        self.store.write_job(job_record(self.job))
        failures = finish.write_tables(self.job, self.store, settlement, live, self.report.run_id)
        finish.keep_live_results(self.job, self.store, live, self.report.run_id)
        self.store.manifest.segments.compact(min_files=COMPACT_AT_FILES)
        self.store.manifest.attempts.compact(min_files=COMPACT_AT_FILES)
        in_flight.forget(self.store.folder)
        self._fill_report(settlement, failures, live)
        self.report.finish_seconds = time.monotonic() - started
        self.report.seconds = time.monotonic() - self._started
        self.store.write_run(dataclasses.asdict(self.report))
        self._lease.check()  # whoever was superseded says so, also at the very end
        return self.report

    def abandon(self, exit_code: int) -> None:
        """Commits what was received and says how far it came; for a run that ends early."""
        self.report.exit_code = exit_code
        self.report.seconds = time.monotonic() - self._started
        with contextlib.suppress(Exception):  # the storage may be what ended it
            self._flusher.close()
        with contextlib.suppress(Exception):
            self._lease.check()  # a run that was superseded has no say any more
            self.store.write_run(dataclasses.asdict(self.report))

    # --- helpers ---------------------------------------------------------------------------

    def _fill_report(self, settlement: Settlement, failures: pa.Table, live: pa.Table) -> None:
        report = self.report
        accounts = finish.conservation(self.job, settlement)
        for account in accounts:
            log = logger.info if account.holds else logger.error
            log("%s", account)
        report.conservation = [
            {**dataclasses.asdict(account), "holds": account.holds} for account in accounts
        ]
        report.open_failures = pc.sum(pc.equal(failures["state"], "open")).as_py() or 0
        status = self.store.videos()["status"].value_counts().to_pylist()
        report.status = {str(entry["values"]): entry["counts"] for entry in status}
        report.num_tracks = pc.sum(live["num_tracks"]).as_py() or 0
        report.num_masks = pc.sum(live["num_masks"]).as_py() or 0
        whole = all(account.holds for account in accounts)
        report.exit_code = (
            errors.EXIT_FAILED
            if not whole
            else errors.EXIT_QUARANTINE
            if report.open_failures
            else errors.EXIT_OK
        )

    def _note_worker(self, worker: str, seconds: float) -> None:
        if worker not in self._workers:
            self._workers.add(worker)
            self.report.num_workers = len(self._workers)
            assert self._predicting_since is not None, "plan() comes before record()"
            began = time.monotonic() - seconds - self._predicting_since
            self.report.ramp_seconds = max(self.report.ramp_seconds, began)

    def _close_piece(self, video_id: str) -> None:
        row = self._row_of[video_id]
        self._open[row] -= 1
        if self._open[row] == 0:
            self._queue.append(row)

    def _frames_lost_before(self, key: SegmentKey, num_rows: int) -> int:
        lost = self._lost.get(_place(key), ())
        overlap = sum(max(0, min(key.stop, b) - max(key.start, a)) for a, b in lost)
        self._forget_lost(key)
        return min(num_rows, overlap)

    def _forget_lost(self, key: SegmentKey) -> None:
        self._lost.get(_place(key), set()).discard((key.start, key.stop))

    def _pardon(self) -> None:
        """Forgets the attempts that count so far: `--retry-quarantined`."""
        attempts = attempts_that_count(self.store.manifest.attempts.load())
        rows = [
            {
                **row,
                "attempt_id": secrets.token_hex(8),
                "pardon": True,
                "pardoned": row["attempt_id"],
                "run_id": self.report.run_id,
                "time": now(),
            }
            for row in attempts.to_pylist()
        ]
        self.store.manifest.attempts.append(pa.Table.from_pylist(rows, schema=ATTEMPTS))

    def _set_aside_results(self) -> None:
        """Takes result files that cannot be read out of the way: their videos are linked again."""
        links = _with_files(self.store, self.store.manifest.links.load())
        named = links.filter(pc.is_null(links["error"]))
        for name in pc.unique(named["file"]).to_pylist():
            if num_rows(self.store.folder, name) is None:
                logger.warning(
                    "%s: %s cannot be read under %s/ or %s/ and is set aside; its videos are linked"
                    " again",
                    self.store.folder.root,
                    name,
                    TRACKS,
                    MASKS,
                )
                self.store.folder.set_aside(f"{TRACKS}/{name}")
                self.store.folder.set_aside(f"{MASKS}/{name}")

    def _linked_keys(self) -> set[str]:
        links = _with_files(self.store, self.store.manifest.links.load())
        if self.job.retry_quarantined:
            links = links.filter(pc.is_null(links["error"]))
        return set(links["track_key"].to_pylist())

    def _live_links(self) -> pa.Table:
        """One row per linked video, of the tracks that are wanted now."""
        links = _with_files(self.store, self.store.manifest.links.load())
        keys = _strings(self._wanted.values())
        wanted = links.filter(pc.is_in(links["track_key"], keys))
        # Of a failure and a later success, the success counts.
        ascending = "ascending"
        order = [("video_id", ascending), ("error", ascending, "at_start"), ("file", ascending)]
        wanted = wanted.take(pc.sort_indices(wanted, order))
        ids = wanted["video_id"].to_pylist()
        first = [i == 0 or ids[i] != ids[i - 1] for i in range(len(ids))]
        return wanted.filter(pa.array(first, pa.bool_()))


def _ids_of(rows: pa.Table) -> dict[str, str]:
    return dict(zip(rows["uri"].to_pylist(), rows["video_id"].to_pylist(), strict=True))


def _place(key: SegmentKey) -> tuple[str, str, str, int]:
    return key.fingerprint, key.video_id, key.version, key.window


def _with_files(store: Store, links: pa.Table) -> pa.Table:
    """Rows whose files are both there; a failure has none."""
    both = set(store.folder.names(TRACKS)).intersection(store.folder.names(MASKS))
    there = pc.is_in(links["file"], _strings(both))
    return links.filter(pc.or_(there, pc.is_valid(links["error"])))


def _strings(values: Iterable[str]) -> pa.Array:
    return pa.array(sorted(values), pa.string())


def _estimated_masks(settled: SettledVideo) -> int:
    """About how many result rows a video makes; frames stand for masks, ten each."""
    return 10 * sum(s.num_rows for segments in settled.segments.values() for s in segments)


@contextlib.contextmanager
def open_run(job: Job, runner: str) -> Iterator[Run]:
    """Takes the folder's lease and checks that the job belongs there."""
    folder = open_folder(job.out)
    run_id = new_run_id()
    store = Store(folder)
    store.refuse_foreign_records()
    store.refuse_linked_results()
    if not folder.exists(JOB):
        store.refuse_foreign_files()
    store.refuse_strangers()
    with holding(folder, run_id) as (store, lease), Trace(job.settings.trace) as trace:
        folder.remove_stale_staging()
        if not job.replace:
            refuse_other_job(store.job(), job)
        run = Run(job, store, lease, trace, runner=runner, run_id=run_id)
        try:
            yield run
        except KeyboardInterrupt:
            run.abandon(errors.EXIT_INTERRUPTED)
            raise
        except BaseException as error:
            run.abandon(getattr(error, "exit_code", errors.EXIT_FAILED))
            if isinstance(error, FileNotFoundError):
                lease.check()  # whoever took over has deleted what this run still looks for
            raise


def refuse_other_job(earlier: dict[str, Any] | None, job: Job) -> None:
    """One folder, one job: other settings update it, another system or input does not."""
    if earlier is None:
        return
    inputs = {public(path) for path in job.inputs}
    missing = [str(path) for path in earlier["inputs"] if public(str(path)) not in inputs]
    if missing:
        raise UsageError(
            f"{job.out} holds results for {', '.join(missing)}, which this job does not read; use"
            " another --out, or --replace to start over"
        )
    systems = {str(m.get("name")): str(m.get("system")) for m in map(dict, earlier["members"])}
    now_systems = {member.name: member.system.name for member in job.members}
    shared = systems.keys() & now_systems.keys()
    if not shared or any(systems[name] != now_systems[name] for name in shared):
        raise UsageError(
            f"{job.out} holds results of {', '.join(sorted(set(systems.values())))}, this job runs"
            f" {', '.join(sorted(set(now_systems.values())))}; use another --out, or --replace to"
            " start over"
        )
