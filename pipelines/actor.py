"""The process that decodes and predicts: set up once, then one unit after another.

Returns a small receipt row for every unit, also when it failed; raises only for what no retry and
no other worker can mend.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import pyarrow as pa

from pipelines.units import unit_from_row
from vis_core.errors import ReelmaskError
from vis_core.job import Job
from vis_core.schema import FileMetadata
from vis_core.stages.predict import MemberRuntime, UnitFailed, run_shard
from vis_core.store.folder import open_folder
from vis_core.store.segments import receipt_to_json
from vis_core.store.store import note_in_flight
from vis_core.video.reader import VideoReader

RECEIPTS = pa.schema(
    [
        ("part", pa.string()),
        ("worker", pa.string()),
        ("receipt", pa.string()),  # null: the unit failed
        ("stage", pa.string()),  # of an attempt; null with a message: the run must stop
        ("message", pa.string()),
        ("exit_code", pa.int32()),
    ]
)


class ShardActor:
    """Called by Ray Data with one unit at a time."""

    def __init__(self, job: Job, metadata: Mapping[str, FileMetadata]) -> None:
        self._job = job
        self._metadata = metadata
        self._folder = open_folder(job.out)
        self._reader = VideoReader(job.settings.limits)
        self._runtimes: dict[str, MemberRuntime] = {}
        self._worker = f"{socket.gethostname()}-{os.getpid()}"

    def __call__(self, row: pa.Table) -> pa.Table:
        unit = unit_from_row(row)
        answer: dict[str, object] = {"part": unit.part, "worker": self._worker}
        try:
            note_in_flight(self._folder, self._worker, unit.keys)
            if unit.member not in self._runtimes:
                self._runtimes[unit.member] = MemberRuntime.set_up(self._job.member(unit.member))
            receipt = run_shard(
                unit,
                self._runtimes[unit.member],
                self._job,
                self._folder,
                self._reader,
                metadata=self._metadata[unit.member],
            )
            answer["receipt"] = receipt_to_json(receipt)
        except UnitFailed as failure:
            answer |= {"stage": failure.stage, "message": failure.message}
        except ReelmaskError as error:
            answer |= {"message": str(error), "exit_code": error.exit_code}
        return pa.Table.from_pylist([answer], schema=RECEIPTS)
