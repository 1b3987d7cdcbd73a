"""The propose_reduce linker: groups masks by proposal, reduces each window, stitches windows.

A video without windows is one window, and gives what the release gives. With more:

- Each window is reduced on its own; caps and thresholds of the reduction hold per window.
- Tracks are stitched as `vis_core.association.stitching` says. What is not seen on the shared
  frames, or overlaps too little there, begins a new track.
- The scores of a track are the mean of its windows' scores, weighted by the frames each of them is
  a mean of. A category counts as dropped where all windows dropped it.

Holes need nothing: their frames have no masks, and count as frames of no window.
"""

from __future__ import annotations

import numpy as np

from vis_core.association.proposals import ProposalWindow, ReducedWindow
from vis_core.association.propose_reduce import (
    DROPPED,
    Float32,
    Reduced,
    hard_nms,
    per_category,
    soft_nms,
)
from vis_core.association.sequence_iou import Overlaps
from vis_core.association.stitching import Part, Seam, chains, one_mask_per_frame
from vis_core.systems.propose_reduce.config import ProposeReduceLinkConfig
from vis_core.types import FramePrediction, Hole, TrackPlan, VideoInfo


class ProposeReduceLinker:
    """Keeps sums per sequence, and 16 bytes per visible instance of what is still in the running.

    Masks of the latest window wait in a `MaskFile`, to be compared with those of the next.
    """

    def __init__(self, config: ProposeReduceLinkConfig) -> None:
        self._config = config

    def start(self, video: VideoInfo) -> None:
        self._num_categories: int | None = None
        self._open: ProposalWindow | None = None
        self._seam: Seam | None = None  # of the window before the open one
        self._windows: list[ReducedWindow] = []
        self._continued: list[dict[int, int]] = []  # of each window, what it continues

    def step(self, prediction: FramePrediction | Hole) -> None:
        if isinstance(prediction, Hole):
            return
        self._check(prediction)
        if self._open is None or self._open.window != prediction.window:
            self._close(more=True)
            self._open = ProposalWindow(prediction.window)
        sequence, areas = self._open.add(prediction)
        if self._seam is not None:
            self._seam.add(prediction, sequence, areas)

    def finish(self) -> list[TrackPlan]:
        self._close(more=False)
        return [
            plan
            for parts in chains(self._windows, self._continued)
            if (plan := self._plan(parts)) is not None
        ]

    def _check(self, prediction: FramePrediction) -> None:
        if not len(prediction):
            return
        where = f"frame {prediction.frame_index} of {prediction.video_id!r}"
        for name, value in (
            ("proposal", prediction.proposals),
            ("class_scores", prediction.class_scores),
        ):
            if value is None:
                raise ValueError(
                    f"{where} has no `{name}`, by which propose_reduce links: predict with"
                    " --system propose_reduce (or oracle with proposals=true), or choose the"
                    " linker of the system that made these predictions"
                )
        assert prediction.proposals is not None and prediction.class_scores is not None
        if len(np.unique(prediction.proposals)) < len(prediction):
            raise ValueError(f"{where} has two instances of one proposal; expected one at most")
        found = prediction.class_scores.shape[1]
        if found == 0 or found != (self._num_categories or found):
            raise ValueError(
                f"{where} has {found} class scores per instance, expected"
                f" {self._num_categories or 'one or more'}, as many in every frame"
            )
        self._num_categories = found

    def _close(self, *, more: bool) -> None:
        """Reduces the open window and links it to the one before."""
        if self._open is None:
            return
        window, place = self._open.reduce(
            self._reduce, over_all_frames=self._config.score_norm == "all"
        )
        self._windows.append(window)
        self._continued.append(
            self._seam.continued(place, window.class_scores, self._config.stitch)
            if self._seam
            else {}
        )
        if more:
            self._seam = Seam(self._open, place, window.class_scores)
        else:
            self._open.masks.close()
        self._open = None

    def _reduce(self, class_scores_NK: Float32, overlaps: Overlaps) -> Reduced:
        number = self._config.number
        if self._config.reduce == "soft":
            return soft_nms(
                class_scores_NK.max(axis=1, initial=0.0),
                overlaps,
                sigma=number("sigma"),
                min_score=number("min_soft_score"),
                max_kept=int(number("max_tracks")),
            )
        first = hard_nms(
            class_scores_NK,
            overlaps,
            iou=number("nms"),
            min_score=number("min_sequence_score"),
        )
        if self._config.reduce == "hard":
            return first
        return per_category(
            first,
            overlaps,
            sigma=number("sigma"),
            min_score=number("min_soft_score"),
            max_kept=int(number("max_tracks")),
        )

    def _plan(self, parts: list[Part]) -> TrackPlan | None:
        """One track; None where no category reaches `emit`."""
        windows, frames, instances = one_mask_per_frame(parts)
        soft = self._config.reduce == "soft"
        vector = _mean(parts, before=soft)
        label = int(vector.argmax()) + 1
        score = float(_mean(parts, before=False)) if soft else float(vector[label - 1])
        entries: list[tuple[int, float]] = [(label, score)]
        if not soft:
            chosen = np.flatnonzero(vector >= np.float32(self._config.number("emit")))
            entries = [(int(k) + 1, float(vector[k])) for k in chosen]
        if not entries:
            return None
        return TrackPlan(
            score=score,
            label=label,
            frame_index=frames,
            instance=instances,
            window=windows if windows.any() else None,
            class_scores=None if soft else vector,
            entries=tuple(entries),
        )


def _mean(parts: list[Part], *, before: bool) -> Float32:
    """Scores of a track over its windows: () or (K,)."""
    weights = np.array([window.weights[i] for window, i in parts])
    values = np.array([(w.class_scores if before else w.scores)[i] for w, i in parts])
    found = np.tensordot(weights / weights.sum(), np.maximum(values, 0), axes=1)
    return np.where((values < 0).all(axis=0), DROPPED, found).astype(np.float32)
