"""The tracks of several members of one video, put aside to be compared by frame and read by track.

N tracks in order of rank (weighted best class score; of equal ones the earlier member's, then the
lower id), M masks of a track, K categories.
"""

from __future__ import annotations

import array
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vis_core.association.mask_file import MaskFile
from vis_core.association.mask_mean import MaskMean, mean_mask
from vis_core.association.sequence_iou import Overlaps, OverlapSums
from vis_core.errors import UsageError
from vis_core.masks import rle
from vis_core.types import FloatArray, IntArray

_AT_ONCE = 64  # fused masks that are dense at a time


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MemberTrack:
    """A track of one member, as its linker with settings for fusion gives it."""

    member: str
    track_id: int
    label: int
    score: float
    class_scores: FloatArray | None  # (K,) not thresholded; None: the score counts at the label
    frame_index: IntArray  # (M,) ascending
    masks: Sequence[bytes]  # M
    mask_scores: FloatArray | None = None  # (M,); NaN where a mask was carried

    @property
    def vector(self) -> npt.NDArray[np.float64]:
        """(K,) class scores; a category for which the track was dropped counts as 0."""
        if self.class_scores is not None:
            return np.maximum(self.class_scores.astype(np.float64), 0)
        vector = np.zeros(self.label)
        vector[self.label - 1] = self.score
        return vector


class _Row(NamedTuple):
    """What stays in memory of a track: its masks are `start` to `stop` of the file."""

    member: int
    track_id: int
    vector: npt.NDArray[np.float64]
    has_vector: bool
    start: int
    stop: int


class MeanMasks(NamedTuple):
    """The masks of a fused track."""

    frame_index: IntArray  # (M,)
    masks: list[bytes]  # M, none of them empty
    scores: FloatArray  # (M,); NaN where no member detected the mask


class TrackPool:
    """Light columns in memory, 24 bytes per mask; the masks in a `MaskFile`.

    Left out are tracks without a mask, and those whose best class score is below `min_score`.
    """

    def __init__(
        self,
        tracks: Iterable[MemberTrack],
        weights: Mapping[str, float],
        size: rle.Size,
        min_score: float,
    ) -> None:
        _check_weights(weights)
        self._names, self._size = [*weights], size
        self._file = MaskFile()
        self._frame_index = array.array("i")
        self._scores = array.array("f")
        rows = [row for track in tracks if (row := self._put_aside(track, min_score)) is not None]
        given = np.array([*weights.values()], np.float64)
        rows.sort(key=lambda row: (-given[row.member] * row.vector.max(), row.member, row.track_id))
        self._rows = rows
        self._total_weight = math.fsum(given)  # the same in any order
        self.member = np.array([row.member for row in rows], np.int64)  # (N,) its position
        self.weight = given[self.member]  # (N,)
        self.class_scores = _stacked(rows, self._names)  # (N, K)

    def __len__(self) -> int:
        return len(self._rows)

    def close(self) -> None:
        self._file.close()

    def members(self, ranks: Sequence[int]) -> tuple[str, ...]:
        """Names of the members these tracks come from, in the members' order."""
        return tuple(self._names[i] for i in sorted({self._rows[rank].member for rank in ranks}))

    def _put_aside(self, track: MemberTrack, min_score: float) -> _Row | None:
        if track.member not in self._names:
            raise UsageError(
                f"track {track.track_id} is of member {track.member!r}, which has no weight;"
                f" members: {', '.join(self._names)}"
            )
        vector = track.vector
        if not np.isfinite(vector).all():
            raise ValueError(f"{_named(track)} has class scores that are no finite numbers")
        if len(track.masks) != len(track.frame_index) or (np.diff(track.frame_index) <= 0).any():
            raise ValueError(f"{_named(track)} needs one mask per frame, in ascending order")
        shown = np.flatnonzero(rle.areas(track.masks, self._size))
        if not len(shown) or not vector.max(initial=0) >= min_score:
            return None
        start = len(self._file)
        self._file.add([track.masks[i] for i in shown.tolist()])
        self._frame_index.extend(track.frame_index[shown].tolist())
        scores = (
            np.full(len(track.masks), np.nan) if track.mask_scores is None else track.mask_scores
        )
        self._scores.extend(scores[shown].tolist())
        return _Row(
            member=self._names.index(track.member),
            track_id=track.track_id,
            vector=vector,
            has_vector=track.class_scores is not None,
            start=start,
            stop=len(self._file),
        )

    def overlaps(self) -> Overlaps:
        """IoU in space and time between all tracks, frame by frame."""
        frames = np.frombuffer(self._frame_index, np.int32)
        rank_of_mask = np.zeros(len(frames), np.int32)
        for rank, row in enumerate(self._rows):
            rank_of_mask[row.start : row.stop] = rank
        order = np.argsort(frames, kind="stable")
        sums = OverlapSums()
        for here in np.split(order, np.flatnonzero(np.diff(frames[order])) + 1):
            sums.add(rank_of_mask[here], self._file.read(here), self._size)
        return sums.overlaps(len(self))

    def mean_scores(self, clusters: Sequence[Sequence[int]], alpha: float) -> FloatArray:
        """(C, K) weighted mean over the members of each cluster, x (their weight / all) ^ alpha."""
        means = np.zeros((len(clusters), self.class_scores.shape[1]))
        for position, ranks in enumerate(clusters):
            weight = self.weight[ranks]
            share = weight.sum() / self._total_weight
            means[position] = weight @ self.class_scores[ranks] / weight.sum() * share**alpha
        return means

    def mean_masks(self, ranks: Sequence[int], by: MaskMean, band_px: float) -> MeanMasks:
        """Masks of the frames in which tracks of at least half the weight are present.

        In a mean mask a track counts by weight x best class score.
        """
        frames = np.unique(np.concatenate([self._frames_of(rank) for rank in ranks]))
        parts = [
            self._mean_masks_in(frames[start : start + _AT_ONCE], ranks, by, band_px)
            for start in range(0, len(frames), _AT_ONCE)
        ]
        return MeanMasks(
            frame_index=np.concatenate([part.frame_index for part in parts]),
            masks=[mask for part in parts for mask in part.masks],
            scores=np.concatenate([part.scores for part in parts]),
        )

    def _mean_masks_in(
        self, frames: IntArray, ranks: Sequence[int], by: MaskMean, band_px: float
    ) -> MeanMasks:
        weights = self.weight[list(ranks)]
        strengths = weights * self.class_scores[list(ranks)].max(axis=1)
        masks, scores = zip(*(self._read(rank, frames) for rank in ranks), strict=True)
        seen = np.array([[mask is not None for mask in row] for row in masks])
        enough = weights @ seen >= weights.sum() / 2 * (1 - 1e-9)  # sums of weights are not exact
        means = []
        for column in np.flatnonzero(enough).tolist():
            there = np.flatnonzero(seen[:, column])
            here = [masks[i][column] for i in there]
            means.append(mean_mask(here, strengths[there], self._size, by=by, band_px=band_px))
        encoded = _encoded(means, self._size)
        shown = rle.areas(encoded, self._size) > 0
        return MeanMasks(
            frame_index=frames[enough][shown],
            masks=[mask for mask, kept in zip(encoded, shown, strict=True) if kept],
            scores=_mean_where_known(np.array(scores), weights)[enough][shown],
        )

    def _frames_of(self, rank: int) -> IntArray:
        row = self._rows[rank]
        return np.frombuffer(self._frame_index, np.int32)[row.start : row.stop]

    def _read(self, rank: int, frames: IntArray) -> tuple[list[bytes | None], FloatArray]:
        """A track's mask and score in each frame; None and NaN where it has none."""
        mine, start = self._frames_of(rank), self._rows[rank].start
        position = np.minimum(np.searchsorted(mine, frames), len(mine) - 1)
        there = mine[position] == frames
        found = iter(self._file.read(start + position[there]))
        masks = [next(found) if here else None for here in there.tolist()]
        scores = np.frombuffer(self._scores, np.float32)[start + position]
        return masks, np.where(there, scores, np.nan)


def _encoded(means: Sequence[rle.Crop | bytes], size: rle.Size) -> list[bytes]:
    encoded = iter(rle.encode_crops([m for m in means if isinstance(m, rle.Crop)], size))
    return [next(encoded) if isinstance(mean, rle.Crop) else mean for mean in means]


def _mean_where_known(values_RT: FloatArray, weights: FloatArray) -> npt.NDArray[np.float32]:
    """(T,) weighted mean over rows; NaN where all are."""
    known = ~np.isnan(values_RT)
    total = weights @ known
    mean = weights @ np.where(known, values_RT, 0) / np.where(total, total, 1)
    return np.where(total, mean, np.nan).astype(np.float32)


def _stacked(rows: Sequence[_Row], names: Sequence[str]) -> npt.NDArray[np.float64]:
    """(N, K) class scores; a track that has a label only is padded to the width of the others."""
    given = {len(row.vector): names[row.member] for row in rows if row.has_vector}
    if len(given) > 1:
        widths = ", ".join(f"{width} of {name!r}" for width, name in sorted(given.items()))
        raise UsageError(
            f"tracks have class scores of different length ({widths}): members of one fusion need"
            " equal label maps"
        )
    width = max((len(row.vector) for row in rows), default=1)
    if given and width > min(given):
        raise UsageError(
            f"a track has label {width}, but others have class scores for {min(given)} categories:"
            " members of one fusion need equal label maps"
        )
    return np.array([np.pad(row.vector, (0, width - len(row.vector))) for row in rows]).reshape(
        len(rows), width
    )


def _check_weights(weights: Mapping[str, float]) -> None:
    for member, weight in weights.items():
        if not (math.isfinite(weight) and weight > 0):
            raise UsageError(f"weight of member {member!r}: expected more than 0, got {weight}")


def _named(track: MemberTrack) -> str:
    return f"track {track.track_id} of member {track.member!r}"
