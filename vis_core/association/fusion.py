"""Fuses the tracks of several members (runs, models, scales) of one video.

`cluster`: tracks of different members that overlap in space and time become one, whose class scores
and masks are means. `nms`: all tracks are pooled, and in each category the best suppress what
overlaps them. Overlap is the IoU over all frames; where a track has no mask it counts as empty.
A cluster is compared with others by its seed, its best member's track.

Nothing but light columns is held of all tracks: their masks wait in a file, are compared frame by
frame, and then averaged one fused track at a time.

C fused tracks, K categories.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from vis_core.association.mask_mean import MaskMean
from vis_core.association.propose_reduce import DROPPED
from vis_core.association.sequence_iou import Overlaps, keep_best
from vis_core.association.track_pool import MemberTrack, TrackPool
from vis_core.config import check, setting
from vis_core.errors import UsageError
from vis_core.masks import rle
from vis_core.types import Category, FloatArray, IntArray

__all__ = ["FusedTrack", "FusionConfig", "MemberTrack", "check_label_maps", "fuse_tracks"]

FUSION_VERSION = 1  # part of the key of fused tracks: bump it with every change of output


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FusionConfig:
    """How tracks of several members become one set."""

    mode: Literal["cluster", "nms"] = setting(
        "cluster",
        says="`cluster` averages what members agree on; `nms` keeps the best track as it is.",
    )
    tau: float = setting(
        0.5,
        above=0,
        high=1,
        says="IoU in space and time: from it on a track joins a cluster, above it a track is"
        " suppressed. Too high leaves doubles, too low merges neighbours.",
    )
    alpha: float = setting(
        1.0,
        low=0,
        high=1,
        says="How much a track loses that few members saw: mean score x (weight that saw it / all)"
        " ^ alpha. 1 counts the others as 0, 0 forgives; too low lifts what one member made up.",
    )
    mask_mean: MaskMean = setting(
        "distance",
        says="`distance` puts the outline between those of the members; `vote` takes pixels with"
        " half the weight, which for two members copies the stronger one.",
    )
    band_px: float = setting(
        4.0,
        low=1,
        high=100,
        says="Distances count up to here. Too high lets a far-off mask bend the rest.",
    )
    min_line_score: float = setting(
        0.01, low=0, says="Result lines must score above this; members' tracks no less."
    )
    label_map: str | None = setting(
        None,
        file=True,
        says="A JSON file, member to {label: label}, for members whose label maps differ.",
    )
    max_lines: int = setting(
        100, low=1, says="Most result lines per video, the best ones. Too low cuts crowded videos."
    )

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FusedTrack:
    """A track of the fused result; none of its masks is empty."""

    label: int
    score: float
    class_scores: FloatArray  # (K,); DROPPED where suppressed
    entries: tuple[tuple[int, float], ...]
    members: tuple[str, ...]
    frame_index: IntArray  # (M,) ascending
    masks: list[bytes]  # M
    mask_scores: FloatArray  # (M,); NaN where no member detected the mask


def check_label_maps(categories: Mapping[str, Iterable[Category]]) -> None:
    """Members can be fused only if a label means the same to all of them."""
    maps = {member: {c.label: c.name for c in found} for member, found in categories.items()}
    first, *others = maps or {"": {}}
    for other in others:
        for label in sorted({*maps[first], *maps[other]}):
            mine, theirs = (maps[name].get(label) for name in (first, other))
            if mine != theirs:
                raise UsageError(
                    f"label {label} is {_named(mine)} to member {first!r} but {_named(theirs)} to"
                    f" {other!r}: members of one fusion need equal label maps; translate one with"
                    " --set label_map="
                )


def _named(name: str | None) -> str:
    return "unknown" if name is None else repr(name)


def fuse_tracks(
    tracks: Iterable[MemberTrack],
    weights: Mapping[str, float],
    size: rle.Size,
    config: FusionConfig,
) -> Iterator[FusedTrack]:
    """The fused tracks of one video, best score first.

    `weights` names all members in their order, also those without a track here. Tracks may come in
    any order; each is put aside before the next is asked for. A single member's tracks come out as
    they are.
    """
    pool = TrackPool(tracks, weights, size, config.min_line_score)
    overlaps = pool.overlaps()
    if config.mode == "cluster":
        clusters = _clusters(pool.member, overlaps, config.tau)
        class_scores = pool.mean_scores(clusters, config.alpha)
        precedence = class_scores
    else:
        clusters = [[rank] for rank in range(len(pool))]
        class_scores = pool.class_scores
        precedence = class_scores * pool.weight[:, None]
    if len(weights) > 1:
        seeds = overlaps.among(np.array([cluster[0] for cluster in clusters], np.int64))
        lines = np.where(class_scores > config.min_line_score, precedence, DROPPED)
        class_scores = np.where(_suppressed(lines, seeds, config.tau), DROPPED, class_scores)
    return _emitted(pool, clusters, class_scores.astype(np.float32), config)


def _clusters(member: IntArray, overlaps: Overlaps, tau: float) -> list[list[int]]:
    """Greedy, in order of rank: to the cluster whose seed overlaps most, if its slot is free."""
    clusters: list[list[int]] = []
    cluster_of_seed: dict[int, int] = {}
    for rank in range(len(overlaps)):
        best, best_iou = -1, 0.0
        for seed, value in zip(*(column.tolist() for column in overlaps.of(rank)), strict=True):
            if value > best_iou and seed in cluster_of_seed:
                best, best_iou = cluster_of_seed[seed], value
        if best_iou >= tau and all(member[other] != member[rank] for other in clusters[best]):
            clusters[best].append(rank)
        else:
            cluster_of_seed[rank] = len(clusters)
            clusters.append([rank])
    return clusters


def _suppressed(lines_CK: FloatArray, overlaps: Overlaps, tau: float) -> npt.NDArray[np.bool_]:
    """(C, K) lines that a better one of the category overlaps by more than `tau`."""
    gone = np.zeros(lines_CK.shape, bool)
    for k, column in enumerate(lines_CK.T):
        order = np.argsort(-column, kind="stable")[: int((column > DROPPED).sum())]
        kept = keep_best(order, overlaps, np.nextafter(tau, 2))
        gone[np.setdiff1d(order, kept), k] = True
    return gone


def _emitted(
    pool: TrackPool, clusters: list[list[int]], class_scores: FloatArray, config: FusionConfig
) -> Iterator[FusedTrack]:
    """Tracks with a line above `min_line_score` among the best `max_lines` of the video."""
    cluster, category = np.nonzero(class_scores > config.min_line_score)
    values = class_scores[cluster, category]
    best = np.lexsort([category, cluster, -values])[: config.max_lines]
    entries: dict[int, list[tuple[int, float]]] = {}  # tracks in the order of their best line
    for index in best.tolist():
        line = (int(category[index]) + 1, float(values[index]))
        entries.setdefault(int(cluster[index]), []).append(line)
    with contextlib.closing(pool):
        for position, lines in entries.items():
            found = pool.mean_masks(clusters[position], config.mask_mean, config.band_px)
            if not found.masks:
                continue
            yield FusedTrack(
                label=lines[0][0],
                score=lines[0][1],
                class_scores=class_scores[position],
                entries=tuple(sorted(lines)),
                members=pool.members(clusters[position]),
                frame_index=found.frame_index,
                masks=found.masks,
                mask_scores=found.scores,
            )
