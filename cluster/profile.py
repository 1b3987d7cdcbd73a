"""How much of a machine each part of a run gets: data in one place, chosen with a reason."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from vis_core.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """Shares of the cluster; CPUs are what Ray accounts for, not threads."""

    name: str
    num_actors: int  # processes that decode and predict; too few idle the machine
    actor_cpus: float  # too high leaves none for linking, too low overloads a node
    actor_gpus: float
    link_slots: int  # link tasks at once; reserved, so that predicting cannot starve them
    link_cpus: float
    reason: str

    @property
    def reserved_cpus(self) -> float:
        return self.link_slots * self.link_cpus


def choose(
    resources: Mapping[str, float], num_actors: int | None = None, *, num_nodes: int = 1
) -> Profile:
    """The profile for what the cluster has, or an error if it has too little."""
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0.0))
    if cpus < 1:
        raise UsageError(f"the cluster has {cpus:g} CPUs free; at least 1 is needed")
    if gpus:
        return _with_gpus(cpus, gpus, num_actors)
    actors = num_actors or max(1, round(cpus))
    # Half a CPU stays free for linking and for rebuilding what a lost node held.
    link_cpus = 0.25 if cpus <= 2 else 0.5
    share = _share(cpus - 2 * link_cpus, actors, cpus)
    if num_nodes > 1:
        # Workers of a lost node go to the others at once: there must be a place on each.
        share = min(share, _share(cpus / num_nodes, math.ceil(actors / (num_nodes - 1)), cpus))
    return Profile(
        name="laptop",
        num_actors=actors,
        actor_cpus=share,
        actor_gpus=0.0,
        link_slots=1,
        link_cpus=link_cpus,
        reason=f"no GPU, {cpus:g} CPUs: {actors} actors and a slot for linking",
    )


def _with_gpus(cpus: float, gpus: int, num_actors: int | None) -> Profile:
    actors = num_actors or gpus
    slots = max(1, min(4, int(cpus) // 8))
    return Profile(
        name="one_gpu" if gpus == 1 else "eight_gpus",
        num_actors=actors,
        actor_cpus=min(_share(cpus - slots - 0.5, actors, cpus), 4.0),
        actor_gpus=_floor(min(1.0, gpus / actors)),
        link_slots=slots,
        link_cpus=1.0,
        reason=f"{gpus} GPUs, {cpus:g} CPUs: {actors} actors, {slots} link slots",
    )


def _share(room: float, actors: int, cpus: float) -> float:
    """Each actor's part of the room that linking leaves."""
    share = _floor(room / actors)
    if share <= 0:
        raise UsageError(
            f"{actors} actors and linking do not fit in {cpus:g} CPUs; set fewer num_actors, or"
            " join a larger cluster"
        )
    return share


def _floor(share: float) -> float:
    """Down to hundredths, so that shares never add up to more than there is."""
    return max(0.0, int(share * 100) / 100)
