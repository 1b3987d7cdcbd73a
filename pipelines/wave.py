"""One execution of Ray Data over a range of the plan: units in, receipts out as they are done.

A thread reads the receipts, so that the driver's loop can look at other things while none come,
and can end an execution that waits for a node that will not return.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, TypeAlias, cast

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy

from cluster import data_context
from cluster.profile import Profile
from pipelines.actor import CALLS_AT_ONCE, ShardActor
from pipelines.units import unit_to_row
from vis_core import addresses
from vis_core.errors import ReelmaskError
from vis_core.job import Job
from vis_core.store.segments import Unit

TICK_SECONDS = 0.5
_WAITING = 1024  # batches of receipts between the thread and the loop

_Item: TypeAlias = list[dict[str, Any]] | BaseException | None  # None: no more will come


class Wave:
    """Starts at once; iterate over batches of receipt rows, empty ones when nothing has come."""

    def __init__(
        self,
        job: Job,
        run_id: str,
        units: Sequence[Unit],
        profile: Profile,
        *,
        actor: type = ShardActor,
    ) -> None:
        data_context.configure()
        rows = ray.data.from_arrow([unit_to_row(unit) for unit in units])
        self._dataset = rows.map_batches(
            actor,
            fn_constructor_kwargs={
                "job": job,
                "member": units[0].member,
                "run_id": run_id,
                "secrets": addresses.secrets(),
            },
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(
                size=min(profile.num_actors, len(units)),
                max_tasks_in_flight_per_actor=CALLS_AT_ONCE,
                max_concurrent_calls_per_actor=CALLS_AT_ONCE,
                enable_true_multi_threading=True,
            ),
            num_cpus=profile.actor_cpus,
            num_gpus=profile.actor_gpus,
        )
        self._left = threading.Event()
        self._items: queue.Queue[_Item] = queue.Queue(_WAITING)
        threading.Thread(target=self._read, name="receipts", daemon=True).start()

    def __enter__(self) -> Wave:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Ends the execution; what its workers are computing is lost, unless it was done."""
        self._left.set()
        # Public ways to end an execution need the thread that is blocked in reading it.
        executor = getattr(self._dataset, "_current_executor", None)
        if executor is not None:
            executor.shutdown(force=True)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        while True:
            try:
                item = self._items.get(timeout=TICK_SECONDS)
            except queue.Empty:
                yield []
                continue
            if item is None:
                return
            if isinstance(item, ray.exceptions.RayError):
                raise ReelmaskError(
                    f"Ray ended the prediction: {_first_line(item)}; what was done is saved, the"
                    " same command goes on"
                ) from item
            if isinstance(item, BaseException):
                raise item
            yield item

    def _read(self) -> None:
        try:
            # The default batch of 256 would hold every receipt back until the end.
            for batch in self._dataset.iter_batches(
                batch_size=None, batch_format="pyarrow", prefetch_batches=0
            ):
                self._put(cast(pa.Table, batch).to_pylist())
            self._put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the loop
            self._put(error)

    def _put(self, item: _Item) -> None:
        while not self._left.is_set():  # a loop that has left must not keep this thread
            try:
                return self._items.put(item, timeout=1.0)
            except queue.Full:
                continue


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
