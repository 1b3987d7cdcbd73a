"""Proposed sequences of one window: summed up row by row, reduced at its end.

N sequences of a window in the order in which they came, M of them kept, K categories, I masks.
"""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Callable

import numpy as np

from vis_core.association.mask_file import MaskFile
from vis_core.association.propose_reduce import Float32, Reduced
from vis_core.association.sequence_iou import Overlaps, OverlapSums
from vis_core.columns import offsets_of
from vis_core.types import FloatArray, FramePrediction, IntArray

Reduction = Callable[[Float32, Overlaps], Reduced]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ReducedWindow:
    """What is left of a window: sequences in the order of their selection, each with masks."""

    window: int
    first: int  # frame index of its first row
    last: int
    scores: Float32  # (M,) or (M, K) after the reduction
    class_scores: Float32  # (M, K) before it
    weights: FloatArray  # (M,) number of frames the class scores are the mean of
    offsets: IntArray  # (M + 1,): sequence i owns masks offsets[i]:offsets[i + 1], in frame order
    frame_index: IntArray  # (I,)
    instance: IntArray  # (I,)

    def __len__(self) -> int:
        return len(self.weights)


class ProposalWindow:
    """The rows of one window: 16 bytes per visible instance, its mask put aside."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.rows = array.array("i")  # frame index of each, also of those without instances
        self.masks = MaskFile()  # of the visible instances, as they came
        self.sequence = array.array("i")  # of the visible instances
        self.frame_index = array.array("i")
        self._instance = array.array("i")
        self._numbers: dict[int, int] = {}  # proposal -> sequence
        self._sums = OverlapSums()
        self._score_sums = np.zeros((0, 0))
        self._num_visible = np.zeros(0, np.int64)

    def add(self, prediction: FramePrediction) -> tuple[IntArray, IntArray]:
        """Takes a row; returns the sequences and areas of its instances.

        What has an empty mask is not visible, and its scores do not count.
        """
        self.rows.append(prediction.frame_index)
        if not len(prediction):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        assert prediction.proposals is not None and prediction.class_scores is not None
        numbers = self._numbers
        proposals = prediction.proposals.tolist()
        sequence = np.array([numbers.setdefault(p, len(numbers)) for p in proposals], np.int64)
        areas = self._sums.add(sequence, prediction.masks, (prediction.height, prediction.width))
        visible = np.flatnonzero(areas)
        self._add_scores(sequence[visible], prediction.class_scores[visible])
        self.masks.add([prediction.masks[i] for i in visible.tolist()])
        self.sequence.extend(sequence[visible].tolist())
        self.frame_index.extend([prediction.frame_index] * len(visible))
        self._instance.extend(visible.tolist())
        return sequence, areas

    def _add_scores(self, sequence: IntArray, scores: FloatArray) -> None:
        missing = len(self._numbers) - len(self._num_visible)
        if missing > 0:
            more = max(missing, len(self._num_visible))
            width = scores.shape[1] - self._score_sums.shape[1]  # 0 but for the first time
            self._score_sums = np.pad(self._score_sums, ((0, more), (0, width)))
            self._num_visible = np.pad(self._num_visible, (0, more))
        self._score_sums[sequence] += scores
        self._num_visible[sequence] += 1

    def reduce(
        self, reduction: Reduction, *, over_all_frames: bool
    ) -> tuple[ReducedWindow, IntArray]:
        """What is kept, and the place of each sequence in it; -1 where it is not kept."""
        number = np.argsort(np.fromiter(self._numbers, np.int64, len(self._numbers)))
        number = number[self._num_visible[number] > 0]  # ascending proposals decide ties
        weights = self._num_visible[number].astype(np.float64)
        if over_all_frames:
            weights[:] = len(self.rows)
        class_scores = (self._score_sums[number] / weights[:, None]).astype(np.float32)
        overlaps = self._sums.overlaps(len(self._numbers)).among(number)
        kept, scores = reduction(class_scores, overlaps)
        place = np.full(len(self._numbers), -1, np.int32)
        place[number[kept]] = np.arange(len(kept))
        places = place[np.frombuffer(self.sequence, np.int32)]
        order = np.argsort(places, kind="stable")[int((places < 0).sum()) :]
        reduced = ReducedWindow(
            window=self.window,
            first=self.rows[0],
            last=self.rows[-1],
            scores=scores,
            class_scores=class_scores[kept],
            weights=weights[kept],
            offsets=offsets_of(np.bincount(places[order], minlength=len(kept))),
            frame_index=np.frombuffer(self.frame_index, np.int32)[order],
            instance=np.frombuffer(self._instance, np.int32)[order],
        )
        return reduced, place
