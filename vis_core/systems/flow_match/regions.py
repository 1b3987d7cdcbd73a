"""Foreground cut into objects: superpixels grown together where they move alike.

N superpixels or regions, E borders between them; h x w the picture. Flow is what is left of it
after the camera, in pixels of the picture per frame.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from vis_core.flow.field import Float32
from vis_core.systems.flow_match.evidence import BoolArray, Evidence, Image

Labels = npt.NDArray[np.int32]  # (h, w)
Index = npt.NDArray[np.intp]
Float64 = npt.NDArray[np.float64]

_SIDE_PX = 8  # of a superpixel
_MIN_SHARE = 0.65  # of a superpixel that must be foreground
_MIN_BORDER_PX = 2  # superpixels that touch at a corner are no neighbours

# What is likely foreground joins sure foreground of its colour. Then background takes back, from
# the rim, what has its colour and did not change lately: just uncovered, or soon covered.
_SPREAD_STEPS = 6  # superpixels
_JOIN_COLOR = 24.0  # grey levels
_PEEL_COLOR = 16.0
_PEEL_CHANGE = 12.0

# Merging: two regions are one object while their difference, in the units below, is under 1.
_COLOR_RANGE = 80.0  # grey levels after which colours are just different
_WHOLE_FRAC = 0.004  # of the picture: regions smaller than that need more of a difference
_SMALL_FACTOR = 0.2  # … down to this much of it counts
_LONG_BORDER = 0.5  # neighbours along a long border: so much of the difference counts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ground:
    """What has to be cut, in a window."""

    sure: Image  # 1 in the foreground
    likely: Image  # 1 in the foreground, and where an object may have been a moment ago
    flow: Float32  # (h, w, 2)
    num_pixels: int  # of the whole picture


def split_objects(evidence: Evidence, ground: Ground) -> Labels:
    """(h, w) number of the object each pixel of a window belongs to; -1: none."""
    labels, num = _superpixels(evidence.color)
    counts = np.maximum(np.bincount(labels.ravel(), minlength=num), 1).astype(np.float64)
    inside = _means(labels, counts, ground.sure) >= _MIN_SHARE
    likely = _means(labels, counts, ground.likely) >= _MIN_SHARE
    still = _means(labels, counts, evidence.recent) < _PEEL_CHANGE
    flow_N2 = np.stack([_means(labels, counts, ground.flow[:, :, i]) for i in range(2)], axis=1)
    color_N3 = np.stack([_means(labels, counts, evidence.color[:, :, i]) for i in range(3)], axis=1)
    borders = _borders(labels, inside | likely)
    like = np.abs(color_N3[borders.a] - color_N3[borders.b]).max(axis=1, initial=0)
    inside = _spread(inside, likely, borders.take(like < _JOIN_COLOR))
    inside = ~_spread(~inside, still, borders.take(like < _PEEL_COLOR))
    both = inside[borders.a] & inside[borders.b] & (borders.length >= _MIN_BORDER_PX)
    borders = borders.take(both)
    alike = _difference(borders, flow_N2, color_N3, _LINK) < 1
    group = _connected(borders.take(alike), inside)
    group = _merge(group, counts, flow_N2, color_N3, borders, _WHOLE_FRAC * ground.num_pixels)
    return group[labels]


def _superpixels(color: Image) -> tuple[Labels, int]:
    """Watersheds of a grid of seeds: they end where the colour changes."""
    height, width = color.shape[:2]
    rows = np.arange(min(_SIDE_PX // 2, height - 1), height, _SIDE_PX)
    columns = np.arange(min(_SIDE_PX // 2, width - 1), width, _SIDE_PX)
    num = len(rows) * len(columns)
    labels = np.zeros((height, width), np.int32)
    labels[np.ix_(rows, columns)] = np.arange(1, num + 1).reshape(len(rows), -1)
    flooded = cv2.watershed(color, labels)
    # The lines between them, and the rim of the picture, go to a neighbour.
    known = np.maximum(flooded, 0).astype(np.float32)
    grown = cv2.dilate(known, np.ones((3, 3), np.uint8))
    whole = np.where(known > 0, known, grown).astype(np.int32)
    return np.maximum(whole, 1) - 1, num


def _means(labels: Labels, counts: Float64, values: Image) -> Float64:
    """(N,) mean of (h, w) values."""
    return np.bincount(labels.ravel(), values.ravel(), len(counts)) / counts


class _Unit(NamedTuple):
    """What makes a difference of 1."""

    flow_px: float
    flow_frac: float  # of the faster side's speed, added to that
    color: float  # what an entirely different colour adds


_LINK = _Unit(0.6, 0.2, 0.8)  # between superpixels
_MERGE = _Unit(2.0, 0.65, 1.25)  # between grown regions


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Borders:
    """Pairs of neighbours, each once, and how many pixel sides they share."""

    a: Index  # (E,) the lower number
    b: Index
    length: Float64

    def take(self, keep: npt.NDArray) -> _Borders:
        return _Borders(a=self.a[keep], b=self.b[keep], length=self.length[keep])

    @classmethod
    def summed(
        cls, a: npt.NDArray[np.int32], b: npt.NDArray[np.int32], length: Float64, num: int
    ) -> _Borders:
        """From pairs in any order, of which some are the same and some are no border at all."""
        apart = a != b
        low, high = np.minimum(a, b)[apart].astype(np.intp), np.maximum(a, b)[apart]
        keys, inverse = np.unique(low * num + high, return_inverse=True)
        total = np.bincount(inverse, length[apart], len(keys)).astype(np.float64)
        return cls(a=keys // num, b=keys % num, length=total)


def _borders(labels: Labels, inside: BoolArray) -> _Borders:
    """Borders with at least one side in the foreground."""
    first = np.concatenate([labels[:, :-1].ravel(), labels[:-1].ravel()])
    second = np.concatenate([labels[:, 1:].ravel(), labels[1:].ravel()])
    wanted = (first != second) & (inside[first] | inside[second])
    a, b = first[wanted], second[wanted]
    return _Borders.summed(a, b, np.ones(len(a)), len(inside))


def _spread(members: BoolArray, able: BoolArray, borders: _Borders) -> BoolArray:
    """(N,) the members, and those able to join them that neighbour them, some steps far."""
    members = members.copy()
    a, b = borders.a, borders.b
    for _ in range(_SPREAD_STEPS):
        joins = np.concatenate([a[members[b] & able[a]], b[members[a] & able[b]]])
        if members[joins].all():
            break
        members[joins] = True
    return members


def _difference(borders: _Borders, flow_N2: Float64, color_N3: Float64, unit: _Unit) -> Float64:
    """(E,) how differently the two sides move, and look."""
    a, b = borders.a, borders.b
    speed = np.hypot(flow_N2[:, 0], flow_N2[:, 1])
    apart = np.hypot(flow_N2[a, 0] - flow_N2[b, 0], flow_N2[a, 1] - flow_N2[b, 1])
    moves = apart / (unit.flow_px + unit.flow_frac * np.maximum(speed[a], speed[b]))
    looks = np.abs(color_N3[a] - color_N3[b]).max(axis=1, initial=0) / _COLOR_RANGE
    return np.asarray(moves + unit.color * np.minimum(looks, 1))


def _connected(borders: _Borders, inside: BoolArray) -> npt.NDArray[np.int32]:
    """(N,) group of each superpixel, dense from 0; -1 outside the foreground."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    shape = (len(inside), len(inside))
    links = coo_matrix((np.ones(len(borders.a)), (borders.a, borders.b)), shape=shape)
    _, group = connected_components(links, directed=False)
    dense = np.full(len(inside), -1, np.int32)
    dense[inside] = np.unique(group[inside], return_inverse=True)[1]
    return dense


def _merge(
    group: npt.NDArray[np.int32],
    counts: Float64,
    flow_N2: Float64,
    color_N3: Float64,
    borders: _Borders,
    whole: float,
) -> npt.NDArray[np.int32]:
    """Joins the two most similar neighbours again and again, until none are similar enough."""
    num = int(group.max(initial=-1)) + 1
    inside = group >= 0
    values = np.concatenate([flow_N2, color_N3], axis=1) * counts[:, None]
    sums = np.zeros((num, values.shape[1]))
    np.add.at(sums, group[inside], values[inside])
    areas = np.bincount(group[inside], counts[inside], num)
    root = np.arange(num, dtype=np.int32)
    regions = _Borders.summed(group[borders.a], group[borders.b], borders.length, num)
    while len(regions.a):
        means = sums / areas[:, None]
        cost = _difference(regions, means[:, :2], means[:, 2:], _MERGE)
        smaller = np.minimum(areas[regions.a], areas[regions.b])
        cost *= np.clip(smaller / whole, _SMALL_FACTOR, 1)
        cost *= np.clip(1.5 - regions.length / np.sqrt(smaller), _LONG_BORDER, 1)
        best = int(cost.argmin())
        if cost[best] >= 1:
            break
        kept, gone = regions.a[best], regions.b[best]
        root[root == gone] = kept
        sums[kept] += sums[gone]
        areas[kept] += areas[gone]
        regions = _Borders.summed(root[regions.a], root[regions.b], regions.length, num)
    return np.where(inside, root[group] if num else group, -1).astype(np.int32)
