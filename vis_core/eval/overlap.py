"""Overlap of tracks in space and time, on run lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from pycocotools import mask as coco

from vis_core.formats.model import BoolArray, FloatArray, IntArray, VideoTracks

_SLACK = 1e-9  # of a bound, for rounding: a pair exactly at the threshold is computed


class Overlaps:
    """The masks of A and B tracks of one video, frame by frame."""

    def __init__(self, a: VideoTracks, b: VideoTracks) -> None:
        self.a, self.b = a, b
        self._orders = [np.argsort(tracks.frame_index, kind="stable") for tracks in (a, b)]
        self._objects = [_objects(tracks) for tracks in (a, b)]

    def frames(self) -> Iterator[tuple[int, IntArray, IntArray]]:
        """Every frame in which both have masks, and the positions of their masks in it."""
        sides = (self.a, self.b)
        sorted_frames = [t.frame_index[o] for t, o in zip(sides, self._orders, strict=True)]
        frames = np.intersect1d(sorted_frames[0], sorted_frames[1])
        bounds = [
            np.searchsorted(found, frames, side).tolist()
            for found in sorted_frames
            for side in ("left", "right")
        ]
        for frame, a_start, a_stop, b_start, b_stop in zip(frames.tolist(), *bounds, strict=True):
            yield frame, self._orders[0][a_start:a_stop], self._orders[1][b_start:b_stop]

    def common(self, mine: IntArray, other: IntArray) -> IntArray:
        """(A, B) pixels in common of masks of one frame."""
        # "Crowd" overlap is intersection over area of `a`: exact again after rounding.
        share = coco.iou(
            [self._objects[0][i] for i in mine.tolist()],
            [self._objects[1][i] for i in other.tolist()],
            [1] * len(other),
        )
        return np.rint(share * self.a.areas[mine, None]).astype(np.int64)


def _objects(tracks: VideoTracks) -> list[dict[str, Any]]:
    size = tracks.video.size
    return [{"size": size, "counts": mask} for mask in tracks.masks]


def volumes(tracks: VideoTracks) -> IntArray:
    """(N,) pixels of each track, summed over frames."""
    return np.bincount(tracks.owner, weights=tracks.areas, minlength=len(tracks)).astype(np.int64)


def track_iou(
    a: VideoTracks, b: VideoTracks, wanted: BoolArray | None = None, least: float = 0.0
) -> FloatArray:
    """(A, B) summed intersection over summed union; 0 where neither has a pixel.

    Exact for the `wanted` pairs (all by default) that reach `least`; the others, which are given
    up as soon as they cannot reach it any more, may come out too low.
    """
    pairs = Overlaps(a, b)
    a_owner, b_owner = a.owner, b.owner
    both = (volumes(a)[:, None] + volumes(b)[None, :]).astype(np.float64)
    needed = both * (least / (1 + least) * (1 - _SLACK))  # pixels in common
    if wanted is not None:
        needed[~wanted] = np.inf
    common = np.zeros(both.shape)
    # Beside what is counted, no more than the smaller mask of each frame to come.
    reach = np.zeros(both.shape)
    for _, mine, other in pairs.frames():
        reach[np.ix_(a_owner[mine], b_owner[other])] += _smaller(a, mine, b, other)
    for _, mine, other in pairs.frames():
        here = np.ix_(a_owner[mine], b_owner[other])
        alive = reach[here] >= needed[here]
        reach[here] -= _smaller(a, mine, b, other)
        rows, columns = alive.any(axis=1), alive.any(axis=0)
        if rows.any():
            some = np.ix_(a_owner[mine[rows]], b_owner[other[columns]])
            found = pairs.common(mine[rows], other[columns])
            common[some] += found
            reach[some] += found
    return common / np.maximum(both - common, 1)


def _smaller(a: VideoTracks, mine: IntArray, b: VideoTracks, other: IntArray) -> IntArray:
    return np.minimum(a.areas[mine, None], b.areas[None, other])
