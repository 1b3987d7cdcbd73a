"""Category and score of a track from all of its frames.

Instance Flow Assembly, sections III-C3 and III-C4 (eq. 6).

K categories. A category's vote is the sum of an instance's soft class scores over all frames, not
a majority of its best categories per frame.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from vis_core.types import FloatArray, IntArray


class Votes:
    """Sums per track; tracks are numbered from 0 as they come."""

    def __init__(self) -> None:
        self._num_tracks = 0
        self._num = np.zeros(0, np.int64)
        self._center = np.zeros(0)
        self._semantic = np.zeros((0, 0))
        self._product = np.zeros((0, 0))

    def __len__(self) -> int:
        return self._num_tracks

    def add(self, tracks: IntArray, class_scores_NK: FloatArray, peaks: FloatArray) -> None:
        """Takes the instances of a frame."""
        width = class_scores_NK.shape[1]
        if width == 0 or (self._num_tracks and width != self._semantic.shape[1]):
            expected = self._semantic.shape[1] or "one or more"
            raise ValueError(
                f"{width} class scores per instance, expected {expected}, as many in every frame"
            )
        self._make_room(int(tracks.max()) + 1, width)
        np.add.at(self._num, tracks, 1)
        np.add.at(self._center, tracks, peaks)
        np.add.at(self._semantic, tracks, class_scores_NK)
        np.add.at(self._product, tracks, class_scores_NK.astype(np.float64) * peaks[:, None])

    def _make_room(self, num_tracks: int, width: int) -> None:
        self._num_tracks = max(self._num_tracks, num_tracks)
        missing = self._num_tracks - len(self._num)
        if missing <= 0:
            return
        more = (0, max(missing, len(self._num)))
        columns = (0, width - self._semantic.shape[1])  # nothing but for the first time
        self._num, self._center = np.pad(self._num, more), np.pad(self._center, more)
        self._semantic = np.pad(self._semantic, (more, columns))
        self._product = np.pad(self._product, (more, columns))

    def result(
        self, track: int, score: Literal["product", "semantic", "center"]
    ) -> tuple[int, float, npt.NDArray[np.float32] | None]:
        """Label, score, and scores of all categories; the lowest of equally voted labels."""
        best = int(self._semantic[track].argmax())
        num = self._num[track]
        if score == "center":
            return best + 1, float(self._center[track] / num), None
        sums = self._product if score == "product" else self._semantic
        class_scores = (sums[track] / num).astype(np.float32)
        return best + 1, float(class_scores[best]), class_scores
