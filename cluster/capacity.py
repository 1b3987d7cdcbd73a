"""Whether the cluster still has room for a pool that was sized for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import ray

from cluster.profile import Profile

CHECK_SECONDS = 5.0


class CapacityWatch:
    """Says when waiting for a lost node has become pointless.

    Units of a worker that cannot be placed again wait for it. All others are still being done, so
    nothing is given up while answers keep coming, or may still come from a long unit.
    """

    def __init__(
        self,
        profile: Profile,
        patience_seconds: float,
        *,
        resources: Callable[[], Mapping[str, float]] = ray.cluster_resources,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cpus = profile.num_actors * profile.actor_cpus + profile.reserved_cpus
        self._gpus = profile.num_actors * profile.actor_gpus
        self._patience = patience_seconds
        self._resources = resources
        self._clock = clock
        self._heard = self._checked = clock()
        self._short_since: float | None = None
        self._longest = 0.0

    def answered(self, seconds: float) -> None:
        """A unit that took so long is done."""
        self._heard = self._clock()
        self._longest = max(self._longest, seconds)

    def is_lost(self) -> bool:
        """Asks the cluster now and then, and remembers."""
        now = self._clock()
        if now - self._checked >= min(CHECK_SECONDS, self._patience / 2):
            self._checked = now
            has = self._resources()
            if has.get("CPU", 0) >= self._cpus and has.get("GPU", 0) >= self._gpus - 1e-6:
                self._short_since = None
            elif self._short_since is None:
                self._short_since = now
        if self._short_since is None:
            return False
        quiet = now - max(self._heard, self._short_since)
        return quiet >= max(self._patience, 3 * self._longest)
