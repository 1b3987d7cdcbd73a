"""The process that decodes and predicts: set up once, then one unit after another.

Returns a small receipt row for every unit, also when it failed; nothing is raised through Ray.
Two calls are here at once: one computes, the other waits its turn, so that its first frames are
decoded already.
"""

from __future__ import annotations

import collections
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator

import pyarrow as pa
import ray

from pipelines.units import unit_from_row
from vis_core import addresses, errors
from vis_core.errors import ReelmaskError
from vis_core.job import Job, file_metadata
from vis_core.stages.predict import MemberRuntime, UnitFailed, run_shard
from vis_core.store import in_flight
from vis_core.store.folder import open_folder
from vis_core.store.in_flight import InFlight
from vis_core.store.parts import find_part
from vis_core.store.segments import Unit, receipt_to_json
from vis_core.video.reader import VideoReader

CALLS_AT_ONCE = 2  # more would bind units to a worker while others are idle

RECEIPTS = pa.schema(
    [
        ("part", pa.string()),
        ("worker", pa.string()),
        ("seconds", pa.float64()),
        ("receipt", pa.string()),  # null: the unit failed
        ("stage", pa.string()),  # of an attempt; null with a message: the run must stop
        ("message", pa.string()),
        ("again", pa.bool_()),  # a process that is dead had begun it
        ("died", pa.bool_()),  # that process alone, not its node: blamed on the unit
        ("exit_code", pa.int32()),
    ]
)


class ShardActor:
    """Called by Ray Data with one unit at a time, from two threads."""

    def __init__(
        self, job: Job, member: str, run_id: str, secrets: addresses.Secrets | None = None
    ) -> None:
        if secrets is not None:
            addresses.learn(secrets)
        context = ray.get_runtime_context()
        self._job = job
        self._run_id = run_id
        self._actor = context.get_actor_id() or f"{socket.gethostname()}-{os.getpid()}"
        self._worker = f"{socket.gethostname()}-{os.getpid()}"
        self._node = context.get_node_id()
        self._folder = open_folder(job.out)
        self._reader = VideoReader(job.settings.limits)
        self._metadata = file_metadata(job, job.member(member))
        self._turns = _Turns()
        self._died_on = self._last_words() if context.was_current_actor_reconstructed else None
        self._runtime: MemberRuntime | None = None
        self._broken: ReelmaskError | None = None
        try:
            self._runtime = MemberRuntime.set_up(job.member(member))
        except ReelmaskError as error:
            self._broken = error
        except Exception as error:  # noqa: BLE001 - whatever a model's code raises ends the run
            self._broken = ReelmaskError(
                f"member {member!r} cannot be set up: {type(error).__name__}: {error}"
            )

    def __call__(self, row: pa.Table) -> pa.Table:
        unit = unit_from_row(row)
        with self._turns.taken(unit):
            started = time.monotonic()
            answer: dict[str, object] = {"part": unit.part, "worker": self._worker}
            answer |= self._after_death(unit) or self._answer(unit)
            answer["seconds"] = time.monotonic() - started
        return pa.Table.from_pylist([answer], schema=RECEIPTS)

    def _after_death(self, unit: Unit) -> dict[str, object] | None:
        """The answer to a unit that the process before this one died on; None: compute it."""
        died_on = self._died_on
        if died_on is None or set(died_on.keys) != set(unit.keys):
            return None
        self._died_on = None
        found = find_part(self._folder, unit.part)
        if found is not None:
            return {"receipt": receipt_to_json(found)}
        nodes = {node["NodeID"] for node in ray.nodes() if node["Alive"]}
        if died_on.node not in nodes:
            return self._answer(unit) | {"again": True}
        message = died_on.reason or "the worker died, while its node and the driver lived"
        return {"stage": "predict", "message": message, "died": True, "again": True}

    def _answer(self, unit: Unit) -> dict[str, object]:
        try:
            return {"receipt": self._compute(unit)}
        except UnitFailed as failure:
            if failure.ends_process:
                self._note(unit, failure.message)
                os._exit(1)  # a raised exception would keep this process, and its broken device
            return {"stage": failure.stage, "message": failure.message}
        except ReelmaskError as error:
            return {"message": str(error), "exit_code": error.exit_code}
        except OSError as error:
            return {"message": f"{unit}: {error}", "exit_code": errors.EXIT_FAILED}

    def _compute(self, unit: Unit) -> str:
        if self._runtime is None:
            assert self._broken is not None
            raise self._broken
        self._note(unit)
        receipt = run_shard(
            unit,
            self._runtime,
            self._job,
            self._folder,
            self._reader,
            metadata=self._metadata,
            then=self._turns.following(),
        )
        return receipt_to_json(receipt)

    def _note(self, unit: Unit, reason: str = "") -> None:
        begun = InFlight(run_id=self._run_id, keys=unit.keys, node=self._node, reason=reason)
        in_flight.note(self._folder, self._actor, begun)

    def _last_words(self) -> InFlight | None:
        """What this actor's dead process had begun in this run."""
        begun = in_flight.of_worker(self._folder, self._actor)
        return begun if begun is not None and begun.run_id == self._run_id else None


class _Turns:
    """Units in the order they came in; the first is computed, the others wait."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._units: collections.deque[Unit] = collections.deque()

    @contextlib.contextmanager
    def taken(self, unit: Unit) -> Iterator[None]:
        with self._changed:
            self._units.append(unit)
            self._changed.wait_for(lambda: self._units[0] is unit)
        try:
            yield
        finally:
            with self._changed:
                self._units.popleft()
                self._changed.notify_all()

    def following(self) -> Unit | None:
        """The unit that waits behind the one being computed."""
        with self._changed:
            return self._units[1] if len(self._units) > 1 else None
