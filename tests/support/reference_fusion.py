"""Fusion of tracks with plain loops over dense masks: slow, and close to its description."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.ndimage import distance_transform_edt


@dataclasses.dataclass(kw_only=True)
class DenseTrack:
    """A track of the member at position `run`; masks by frame, none empty."""

    run: int
    track_id: int
    scores: np.ndarray  # (K,)
    masks: Mapping[int, np.ndarray]


@dataclasses.dataclass(kw_only=True)
class DenseResult:
    scores: np.ndarray  # (K,); -1 where suppressed
    entries: list[tuple[int, float]]
    runs: set[int]
    masks: dict[int, np.ndarray]


def iou(a: DenseTrack, b: DenseTrack) -> float:
    common = sum(int((a.masks[t] & b.masks[t]).sum()) for t in {*a.masks} & {*b.masks})
    total = sum(int(mask.sum()) for one in (a, b) for mask in one.masks.values())
    return common / (total - common) if total > common else 0.0


def fuse(
    tracks: Sequence[DenseTrack],
    weights: Sequence[float],
    *,
    mode: str = "cluster",
    tau: float = 0.5,
    alpha: float = 1.0,
    mask_mean: str = "distance",
) -> list[DenseResult]:
    tracks = [one for one in tracks if one.masks and one.scores.max() >= 0.01]
    tracks.sort(key=lambda one: (-one.scores.max() * weights[one.run], one.run, one.track_id))
    clusters: list[list[DenseTrack]] = []
    for one in tracks:
        ious = [iou(one, cluster[0]) for cluster in clusters] if mode == "cluster" else []
        best = int(np.argmax(ious)) if ious else -1
        free = bool(ious) and all(member.run != one.run for member in clusters[best])
        if ious and ious[best] >= tau and free:
            clusters[best].append(one)
        else:
            clusters.append([one])
    scores = [_scores(cluster, weights, alpha) for cluster in clusters]
    if mode == "nms":
        scores = [cluster[0].scores.astype(float) for cluster in clusters]
    if len(weights) > 1:
        scores = _suppressed(clusters, scores, weights, tau, mode)
    results = []
    for cluster, vector in zip(clusters, scores, strict=True):
        entries = [(k + 1, float(s)) for k, s in enumerate(vector) if s > 0.01]
        if entries:
            results.append(
                DenseResult(
                    scores=vector,
                    entries=entries,
                    runs={one.run for one in cluster},
                    masks=_masks(cluster, weights, mask_mean),
                )
            )
    return sorted(results, key=lambda one: -max(score for _, score in one.entries))


def _scores(cluster, weights, alpha):
    total = sum(weights[one.run] for one in cluster)
    mean = sum(weights[one.run] * one.scores.astype(float) for one in cluster) / total
    return mean * (total / sum(weights)) ** alpha


def _suppressed(clusters, scores, weights, tau, mode):
    result = [vector.copy() for vector in scores]
    for k in range(len(scores[0]) if scores else 0):
        trust = [weights[c[0].run] if mode == "nms" else 1.0 for c in clusters]
        order = sorted(range(len(clusters)), key=lambda i: (-scores[i][k] * trust[i], i))
        kept: list[int] = []
        for i in order:
            if scores[i][k] <= 0.01:
                continue
            if any(iou(clusters[i][0], clusters[j][0]) > tau for j in kept):
                result[i][k] = -1
            else:
                kept.append(i)
    return result


def _masks(cluster, weights, rule):
    total = sum(weights[one.run] for one in cluster)
    found = {}
    for frame in sorted({t for one in cluster for t in one.masks}):
        here = [one for one in cluster if frame in one.masks]
        if 2 * sum(weights[one.run] for one in here) < total * (1 - 1e-9):
            continue
        mean = np.zeros(here[0].masks[frame].shape)
        for one in here:
            strength = weights[one.run] * one.scores.max()
            mask = one.masks[frame]
            mean += strength * (signed_distance(mask) if rule == "distance" else mask - 0.5)
        if (mean >= 0).any():
            found[frame] = mean >= 0
    return found


def signed_distance(mask: np.ndarray, band_px: float = 4.0) -> np.ndarray:
    """Over the whole frame; a frame full of foreground has no outline."""
    if mask.all():
        return np.full(mask.shape, band_px)
    inside, outside = distance_transform_edt(mask), distance_transform_edt(~mask)
    return np.clip(np.where(mask, inside - 0.5, 0.5 - outside), -band_px, band_px)
