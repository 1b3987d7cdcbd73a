"""From tracked frames to video predictions: what a track took, its scores, what is written out.

A record is what a track leaves in the result. K categories; M tracks in the memory bank.
"""

from __future__ import annotations

import array

import numpy as np
import numpy.typing as npt

from vis_core.association.idol import BoolArray, Float32Array, Float64Array, IntArray
from vis_core.columns import offsets_of
from vis_core.systems.idol.config import IdolLinkConfig
from vis_core.types import TrackPlan

_FIRST_PURGE = 9  # the row, counted from 0, after which short tracks are first looked for;
_UNSEEN = 2  # those unseen for so many rows are dropped


class Records:
    """One record per track in the bank, in the bank's order, and those whose tracks are forgotten.

    If a track returns after its record was dropped as too short, it starts another one.
    """

    def __init__(self, config: IdolLinkConfig, num_classes: int) -> None:
        self._config = config
        self._num_records = 0
        self._number = np.zeros(0, np.int64)
        self._num_frames = np.zeros(0, np.int64)
        self._last_row = np.zeros(0, np.int64)
        self._totals = np.zeros((0, num_classes))  # sum or maximum of the class scores
        self._references = {name: array.array("i") for name in ("number", "frame", "instance")}
        self._done = {name: array.array("i") for name in ("number", "num_frames", "last_row")}
        self._done_scores = array.array("f")  # (records, K)

    def add(self, num: int, row: int) -> None:
        """Records for new tracks, put behind the others."""
        self._number = np.concatenate([self._number, self._numbers(num)])
        self._num_frames = np.concatenate([self._num_frames, np.zeros(num, np.int64)])
        self._last_row = np.concatenate([self._last_row, np.full(num, row)])
        empty = np.zeros((num, self._totals.shape[1]))
        self._totals = np.concatenate([self._totals, empty])

    def _numbers(self, num: int) -> IntArray:
        first = self._num_records
        self._num_records += num
        return np.arange(first, first + num)

    def extend(
        self,
        tracks: IntArray,
        instance: IntArray,
        class_scores: Float64Array,
        *,
        frame_index: int,
        row: int,
    ) -> None:
        """Adds to each of these tracks an instance of the frame in this row."""
        dropped = self._too_short(self._num_frames[tracks], self._last_row[tracks], row - 1)
        if dropped.any():
            again = tracks[dropped]
            self._number[again] = self._numbers(len(again))
            self._num_frames[again] = 0
            self._totals[again] = 0
        self._num_frames[tracks] += 1
        self._last_row[tracks] = row
        if self._config.score == "mean":
            self._totals[tracks] += class_scores
        else:
            self._totals[tracks] = np.maximum(self._totals[tracks], class_scores)
        _append(self._references["number"], self._number[tracks])
        _append(self._references["frame"], np.full(len(tracks), frame_index))
        _append(self._references["instance"], instance)

    def _too_short(self, num_frames: npt.NDArray, last_row: npt.NDArray, row: int) -> BoolArray:
        """Which of these records were dropped by the time `row` was done."""
        looked_at = np.maximum(last_row + _UNSEEN, _FIRST_PURGE)
        return (num_frames < self._config.min_len) & (looked_at <= row)

    def keep(self, kept: BoolArray, row: int) -> None:
        """Puts away the records of the other tracks, which are forgotten after this row."""
        gone = np.flatnonzero(~kept)
        gone = gone[~self._too_short(self._num_frames[gone], self._last_row[gone], row)]
        scores = self._totals[gone]
        if self._config.score == "mean":
            scores /= self._num_frames[gone, None]
        _append(self._done["number"], self._number[gone])
        _append(self._done["num_frames"], self._num_frames[gone])
        _append(self._done["last_row"], self._last_row[gone])
        self._done_scores.frombytes(scores.astype(np.float32).tobytes())
        self._number, self._num_frames = self._number[kept], self._num_frames[kept]
        self._last_row, self._totals = self._last_row[kept], self._totals[kept]

    def finish(self, num_rows: int) -> list[TrackPlan]:
        """The tracks of the video, in order of birth."""
        self.keep(np.zeros(len(self._number), bool), num_rows - 1)
        done = {name: np.frombuffer(values, np.int32) for name, values in self._done.items()}
        scores = np.frombuffer(self._done_scores, np.float32)
        scores = scores.reshape(len(done["number"]), self._totals.shape[1])
        # A record may have been put away before the first look for short ones.
        short = self._too_short(done["num_frames"], done["last_row"], num_rows - 1)
        kept = np.flatnonzero(~short & self._emitted(scores).any(axis=1))
        kept = kept[np.argsort(done["number"][kept])]
        return self._plans(done["number"][kept], scores[kept])

    def _emitted(self, scores: Float32Array) -> BoolArray:
        """(records, K) which categories get a result line."""
        emitted = scores > self._config.emit_score
        if not self._config.multi_class and scores.size:
            emitted &= np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None]
        return emitted

    def _plans(self, numbers: npt.NDArray, scores: Float32Array) -> list[TrackPlan]:
        frames, instances, bounds = self._references_of(numbers)
        emitted = self._emitted(scores)
        plans = []
        for index, row in enumerate(scores):
            best = int(row.argmax())
            taken = slice(bounds[index], bounds[index + 1])
            lines = np.flatnonzero(emitted[index])
            plans.append(
                TrackPlan(
                    score=float(row[best]),
                    label=best + 1,
                    frame_index=frames[taken],
                    instance=instances[taken],
                    class_scores=row,
                    entries=tuple(zip((lines + 1).tolist(), row[lines].tolist(), strict=True)),
                )
            )
        return plans

    def _references_of(
        self, numbers: npt.NDArray
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], list[int]]:
        """Frames and instances of these records, one record after the other, and the borders."""
        place = np.full(self._num_records, -1, np.int32)
        place[numbers] = np.arange(len(numbers))
        place = place[np.frombuffer(self._references["number"], np.int32)]
        rows = np.flatnonzero(place >= 0)
        rows = rows[np.argsort(place[rows], kind="stable")]
        frames = np.frombuffer(self._references["frame"], np.int32)[rows]
        instances = np.frombuffer(self._references["instance"], np.int32)[rows]
        counts = np.bincount(place[rows], minlength=len(numbers))
        return frames, instances, offsets_of(counts).tolist()


def _append(column: array.array, values: npt.NDArray) -> None:
    column.frombytes(values.astype(np.int32).tobytes())
