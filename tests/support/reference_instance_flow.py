"""Matching by instance flow as plain loops over instances and references: slow, and as written."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vis_core.masks import rle
from vis_core.types import FramePrediction


def link_instance_flow(
    rows: Sequence[FramePrediction],
    *,
    references: int = 3,
    first: bool = True,
    epsilon: float = 0.06,
    min_similarity: float = 0.1,
    conflict: str = "greedy",
    flow_mode: str = "residual",
) -> list[list[int]]:
    """The track of each instance, row by row."""
    found: list[list[int]] = []
    num_tracks = 0
    for t, row in enumerate(rows):
        positions = sorted({*([0] if first and t else []), *range(max(0, t - references), t)})
        links = [
            link
            for r in positions
            for m in range(len(row))
            for link in _links(row, m, rows[r], found[r], flow_mode)
        ]
        limit = epsilon * math.sqrt(row.height * row.width)
        if flow_mode in ("inter_iou", "affinity"):
            limit = -float(np.float32(min_similarity))
        links = sorted(link for link in links if link[0] <= limit)
        tracks = [-1] * len(row)
        for _, _, track, m in links:
            if tracks[m] < 0 and (conflict == "allow" or track not in tracks):
                tracks[m] = track
        for m in range(len(row)):
            if tracks[m] < 0:
                tracks[m], num_tracks = num_tracks, num_tracks + 1
        found.append(tracks)
    return found


def _links(row, m, reference, tracks, flow_mode):
    """(cost, minus frame, track, instance) of everything instance m could continue there."""
    entries = row.ref_affinity if flow_mode in ("inter_iou", "affinity") else row.ref_flow
    for e in range(int(entries.offsets[m]), int(entries.offsets[m + 1])):
        if entries.frame_index[e] != reference.frame_index:
            continue
        if entries is row.ref_affinity:
            value = entries.iou[e] if flow_mode == "inter_iou" else entries.affinity[e]
            track = tracks[int(entries.instance[e])]
            yield -float(value), -reference.frame_index, track, m
            continue
        y, x = (float(v) for v in row.centers[m])
        if flow_mode == "inter_avg":
            inside = np.argwhere(rle.decode([row.masks[m]], (row.height, row.width))[0])
            y, x = inside.mean(axis=0) + row.mean_offsets[m].astype(np.float64)
        y, x = y + float(entries.dydx[e, 0]), x + float(entries.dydx[e, 1])
        for n, track in enumerate(tracks):
            center = reference.centers[n].astype(np.float64)
            distance = math.sqrt((y - center[0]) ** 2 + (x - center[1]) ** 2)
            yield distance, -reference.frame_index, track, m
