"""Joins the sequences of overlapping windows to tracks with one mask per frame.

Two sequences of neighbouring windows are one track if they overlap enough on the frames that both
windows saw: one to one, and where several could be, the largest overlap times agreement of class
scores first. Overlap alone would cross tracks: a sequence that is half one object and half another
lies on an object like that object's own, for a while, but not with its scores.

Which frames both windows saw is only known once the next one comes: the masks of the latest window
are put aside until then. Of two masks of a track in one frame the one stays that is farther from
the ends of its window, since more was seen around it; the earlier window's where that is equal.
"""

from __future__ import annotations

import numpy as np

from vis_core.association.proposals import ProposalWindow, ReducedWindow
from vis_core.association.propose_reduce import Float32
from vis_core.association.sequence_iou import OverlapSums
from vis_core.masks import rle
from vis_core.types import FramePrediction, IntArray

_TINY = np.float32(1e-12)


class Seam:
    """A closed window's sequences against those of the next, on the frames of both."""

    def __init__(self, window: ProposalWindow, place: IntArray, class_scores: Float32) -> None:
        self._class_scores = class_scores
        self._num_kept = len(class_scores)
        self._rows = np.frombuffer(window.rows, np.int32)
        places = place[np.frombuffer(window.sequence, np.int32)]
        self._position = np.flatnonzero(places >= 0).astype(np.int32)
        self._place = places[self._position]
        self._frames = np.frombuffer(window.frame_index, np.int32)[self._position]
        self._masks = window.masks
        self._sums = OverlapSums()  # sequences of the next window count behind the kept ones

    def add(self, prediction: FramePrediction, sequence: IntArray, areas: IntArray) -> None:
        """Takes a row of the next window."""
        frame, size = prediction.frame_index, (prediction.height, prediction.width)
        row = int(np.searchsorted(self._rows, frame))
        if row == len(self._rows) or self._rows[row] != frame:
            return
        here = slice(*np.searchsorted(self._frames, [frame, frame + 1]).tolist())
        masks, others = self._masks.read(self._position[here]), self._num_kept + sequence
        self._sums.add_areas(self._place[here], rle.areas(masks, size))
        self._sums.add_areas(others, areas)
        self._sums.add_between(self._place[here], masks, others, prediction.masks, size)

    def continued(self, place: IntArray, class_scores: Float32, min_iou: float) -> dict[int, int]:
        """Which sequence of this window each one of the next continues; both by place when kept."""
        self._masks.close()
        overlaps = self._sums.overlaps(self._num_kept + len(place))
        candidates = []
        for earlier in range(self._num_kept):
            others, ious = overlaps.of(earlier)
            later = place[others - self._num_kept]
            fits = (later >= 0) & (ious >= min_iou)
            agreement = _agreement(self._class_scores[earlier], class_scores[later[fits]])
            weights = ious[fits] * agreement
            candidates += [(-w, earlier, i) for w, i in zip(weights, later[fits], strict=True)]
        found: dict[int, int] = {}
        for _, earlier, after in sorted(candidates):
            if after not in found and earlier not in found.values():
                found[int(after)] = earlier
        return found


def _agreement(scores_K: Float32, others_NK: Float32) -> Float32:
    """The share of two vectors of class scores that both have: 1 where they are equal."""
    common = np.minimum(scores_K, others_NK).sum(axis=1)
    return common / np.maximum(np.maximum(scores_K, others_NK).sum(axis=1), _TINY)


Part = tuple[ReducedWindow, int]  # a window and one of its sequences


def chains(windows: list[ReducedWindow], continued: list[dict[int, int]]) -> list[list[Part]]:
    """The parts of each track; `continued[i]` leads from window i to the one before."""
    found: list[list[Part]] = []
    before: list[list[Part]] = []  # the track of each sequence of the window before
    for window, earlier in zip(windows, continued, strict=True):
        here: list[list[Part]] = []
        for sequence in range(len(window)):
            track = before[earlier[sequence]] if sequence in earlier else []
            if not track:
                found.append(track)
            track.append((window, sequence))
            here.append(track)
        before = here
    return found


def one_mask_per_frame(parts: list[Part]) -> tuple[IntArray, IntArray, IntArray]:
    """Window, frame and instance of a track's masks, in frame order."""
    slices = [slice(int(w.offsets[i]), int(w.offsets[i + 1])) for w, i in parts]
    frames = [w.frame_index[part] for (w, _), part in zip(parts, slices, strict=True)]
    instance = [w.instance[part] for (w, _), part in zip(parts, slices, strict=True)]
    window = [np.full(len(f), w.window, np.int32) for (w, _), f in zip(parts, frames, strict=True)]
    depth = [np.minimum(f - w.first, w.last - f) for (w, _), f in zip(parts, frames, strict=True)]
    frame = np.concatenate(frames)
    order = np.lexsort([np.concatenate(window), -np.concatenate(depth), frame])
    order = order[np.diff(frame[order], prepend=-1) > 0]
    return np.concatenate(window)[order], frame[order], np.concatenate(instance)[order]
