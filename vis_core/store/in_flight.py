"""What each worker is computing right now, written before it starts: evidence, should it die.

A later run learns from it what was lost; a restarted worker learns what it died on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Sequence

from vis_core.store.folder import Folder
from vis_core.store.segments import SegmentKey, is_sound_key

IN_FLIGHT = "manifest/in_flight"


@dataclasses.dataclass(frozen=True, kw_only=True)
class InFlight:
    """A unit that a worker has begun."""

    run_id: str
    keys: Sequence[SegmentKey]
    node: str = ""  # where the worker lives; tells its own death from its node's
    reason: str = ""  # why it ends itself, if it does so on purpose


def note(folder: Folder, worker: str, begun: InFlight) -> None:
    """Replaces what this worker said before."""
    folder.replace(_name(worker), json.dumps(dataclasses.asdict(begun)).encode())


def of_worker(folder: Folder, worker: str) -> InFlight | None:
    """What a worker said last; None if it said nothing, or nothing that can be read."""
    if not folder.exists(_name(worker)):
        return None
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError, RecursionError):
        values = json.loads(folder.read(_name(worker)))
        keys = [SegmentKey(**key) for key in values.pop("keys")]
        if not all(map(is_sound_key, keys)):
            return None
        return InFlight(keys=keys, **values)
    return None


def everything(folder: Folder) -> list[SegmentKey]:
    """What workers of earlier runs had begun; the last unit of each."""
    workers = [name.removesuffix(".json") for name in _notes(folder)]
    found = [of_worker(folder, worker) for worker in workers]
    return [key for begun in found if begun for key in begun.keys]


def forget(folder: Folder) -> None:
    """Called when it has been looked at, and when a run is done."""
    for name in _notes(folder):
        folder.delete(f"{IN_FLIGHT}/{name}")


def _notes(folder: Folder) -> list[str]:
    return [name for name in folder.names(IN_FLIGHT) if name.endswith(".json")]


def _name(worker: str) -> str:
    return f"{IN_FLIGHT}/{worker}.json"
