"""Matching by instance flow: which track each instance of a frame continues.

Instance Flow Assembly, section III-C2; docs/methods/instance_flow.md says what is ours.
N instances of the frame, n of a reference frame, E entries (an instance and a reference frame),
C candidates (an instance and a track). Points are (y, x).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from vis_core.masks import rle
from vis_core.types import FloatArray, IntArray

Conflict = Literal["greedy", "allow", "hungarian"]


class Reference(NamedTuple):
    """An earlier frame: its instances' centres, and the tracks they were given to."""

    frame_index: int
    centers: FloatArray  # (n, 2) float64
    tracks: IntArray  # (n,)


class Candidates(NamedTuple):
    """Possible links and what they cost."""

    cost: FloatArray  # (C,) less is better
    instance: IntArray  # (C,)
    track: IntArray  # (C,)
    frame_index: IntArray  # (C,) of the reference; of equal costs the most recent counts

    def at(self, index: IntArray) -> Candidates:
        return Candidates._make(column[index] for column in self)


def by_distance(
    points: FloatArray, instance: IntArray, frame_index: IntArray, references: Sequence[Reference]
) -> Candidates:
    """From each entry's point in its reference frame to every centre there (Eq. 5)."""
    found = []
    for reference in references:
        here = np.flatnonzero(frame_index == reference.frame_index)
        away = points[here, None] - reference.centers[None]
        shape = away.shape[:2]
        found.append(
            Candidates(
                cost=np.sqrt((away**2).sum(axis=2)).ravel(),
                instance=np.repeat(instance[here], shape[1]),
                track=np.tile(reference.tracks, shape[0]),
                frame_index=np.full(shape[0] * shape[1], reference.frame_index),
            )
        )
    return _joined(found)


def by_similarity(
    similarity: FloatArray,
    instance: IntArray,
    frame_index: IntArray,
    ref_instance: IntArray,
    references: Sequence[Reference],
) -> Candidates:
    """From entries that name an instance of the reference frame; more similar costs less."""
    found = []
    for reference in references:
        here = np.flatnonzero(frame_index == reference.frame_index)
        named = ref_instance[here]
        if len(named) and not 0 <= named.min() <= named.max() < len(reference.tracks):
            raise ValueError(
                f"ref_affinity names instance {named.max()} of frame {reference.frame_index}, which"
                f" has {len(reference.tracks)}"
            )
        found.append(
            Candidates(
                cost=-similarity[here].astype(np.float64),
                instance=instance[here],
                track=reference.tracks[named],
                frame_index=np.full(len(here), reference.frame_index),
            )
        )
    return _joined(found)


def _joined(parts: Sequence[Candidates]) -> Candidates:
    none = Candidates(np.zeros(0), *(np.zeros(0, np.int64) for _ in range(3)))
    return Candidates(*(np.concatenate(columns) for columns in zip(none, *parts, strict=True)))


def resolve(
    candidates: Candidates, num_instances: int, *, limit: float, conflict: Conflict
) -> IntArray:
    """(N,) the track each instance continues, -1 where none is within `limit`.

    `allow`: every instance takes its best, so several may share a track. `greedy`: one to one, the
    cheapest link first. `hungarian`: one to one at the least total cost, no link counting `limit`.
    """
    candidates = candidates.at(np.flatnonzero(candidates.cost <= limit))
    cost, instance, track, frame_index = candidates
    order = np.lexsort([instance, track, -frame_index, cost])
    if conflict == "hungarian":
        return _least_total(candidates, num_instances, limit)
    chosen = np.full(num_instances, -1, np.int64)
    if conflict == "allow":
        first, position = np.unique(instance[order], return_index=True)
        chosen[first] = track[order][position]
        return chosen
    taken: set[int] = set()
    for i, t in zip(instance[order].tolist(), track[order].tolist(), strict=True):
        if chosen[i] < 0 and t not in taken:
            chosen[i] = t
            taken.add(t)
    return chosen


def _least_total(candidates: Candidates, num_instances: int, limit: float) -> IntArray:
    from scipy.optimize import linear_sum_assignment  # not needed by the default rule

    tracks, column = np.unique(candidates.track, return_inverse=True)
    no_link = np.nextafter(limit, np.inf)  # a link at the limit is better than none
    costs = np.full((num_instances, len(tracks)), no_link)
    np.minimum.at(costs, (candidates.instance, column), candidates.cost)
    rows, columns = linear_sum_assignment(costs)
    linked = costs[rows, columns] <= limit
    chosen = np.full(num_instances, -1, np.int64)
    chosen[rows[linked]] = tracks[columns[linked]]
    return chosen


def centroids(masks: Sequence[bytes], size: rle.Size) -> FloatArray:
    """(N, 2) mean y, x of each mask's pixels; NaN for an empty one. Work is per run, not pixel."""
    height = size[0]
    runs = rle.decode_counts(masks)
    total = np.cumsum(runs.lengths)
    stop = total - np.repeat(height * size[1] * np.arange(len(runs)), np.diff(runs.offsets))
    inside = runs.position % 2 == 1
    stop, lengths, mask = stop[inside], runs.lengths[inside], runs.mask_index[inside]

    def sums_below(position: IntArray) -> IntArray:
        """(2, …) sums of y and of x over all positions of the frame before this one."""
        x, y = np.divmod(position, height)
        of_y = x * (height * (height - 1) // 2) + y * (y - 1) // 2
        return np.stack([of_y, height * (x * (x - 1) // 2) + x * y])

    sums = sums_below(stop) - sums_below(stop - lengths)
    areas = np.bincount(mask, weights=lengths, minlength=len(runs))
    with np.errstate(invalid="ignore"):
        return np.stack([np.bincount(mask, s, len(runs)) / areas for s in sums], axis=1)
