"""What the tracks leave: class scores averaged over time, and which query they had in each row.

M tracks, N queries of a row, K categories without "no object".
"""

from __future__ import annotations

import array

import numpy as np
import numpy.typing as npt

from vis_core.association import minvis
from vis_core.association.minvis import IntArray
from vis_core.columns import offsets_of
from vis_core.systems.minvis.config import MinvisLinkConfig
from vis_core.types import FramePrediction, TrackPlan


class Records:
    """Sums over time per track, and one number per query of a row: its track."""

    def __init__(self, config: MinvisLinkConfig) -> None:
        self._config = config
        self._log_sums = np.zeros((0, 0))  # (M, K + 1)
        self._num_frames = np.zeros(0, np.int64)  # (M,)
        self._frames = array.array("i")  # of each row its frame,
        self._counts = array.array("i")  # how many queries it has,
        self._tracks = array.array("i")  # and the track of each of them

    def __len__(self) -> int:
        return len(self._num_frames)

    def add(self, prediction: FramePrediction, tracks: IntArray) -> None:
        """A row whose queries belong to these tracks, each at most once."""
        self._frames.append(prediction.frame_index)
        self._counts.append(len(tracks))
        self._tracks.frombytes(tracks.astype(np.int32).tobytes())
        if not len(tracks):
            return
        if prediction.class_scores is None:
            raise ValueError(
                f"{_where(prediction)} has no `class_scores`, which minvis averages over time: "
                "choose the linker of the system that made these predictions"
            )
        logs = minvis.log_probabilities(prediction.class_scores, prediction.no_object_logprob)
        if not np.isfinite(logs).all():
            raise ValueError(f"{_where(prediction)}: a class score or logprob is not finite")
        self._grow(prediction, int(tracks.max()) + 1, logs.shape[1])
        self._log_sums[tracks] += logs
        self._num_frames[tracks] += 1

    def _grow(self, prediction: FramePrediction, num_tracks: int, num_logs: int) -> None:
        """Room for new tracks."""
        if not len(self):
            self._log_sums = np.zeros((0, num_logs))
        if num_logs != self._log_sums.shape[1]:
            raise ValueError(
                f"{_where(prediction)} has {num_logs - 1} class scores per instance, earlier "
                f"frames have {self._log_sums.shape[1] - 1}"
            )
        new = num_tracks - len(self)
        if new > 0:
            self._log_sums = np.pad(self._log_sums, ((0, new), (0, 0)))
            self._num_frames = np.pad(self._num_frames, (0, new))

    def finish(self) -> list[TrackPlan]:
        """Plans the tracks of the best pairs of track and category, the best first."""
        if not len(self):
            return []
        scores = minvis.class_scores(self._log_sums / self._num_frames[:, None])
        most, least = self._config.lines
        lines: dict[int, list[tuple[int, float]]] = {}
        for track, category in zip(*minvis.best_pairs(scores, most), strict=True):
            score = float(scores[track, category])
            if score >= least:
                lines.setdefault(int(track), []).append((int(category) + 1, score))
        frames, instances, bounds = self._references_of(list(lines))
        return [
            TrackPlan(
                score=entries[0][1],
                label=entries[0][0],
                frame_index=frames[bounds[index] : bounds[index + 1]],
                instance=instances[bounds[index] : bounds[index + 1]],
                class_scores=scores[track].astype(np.float32),
                entries=tuple(entries),
            )
            for index, (track, entries) in enumerate(lines.items())
        ]

    def _references_of(
        self, tracks: list[int]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], list[int]]:
        """Frames and instances of these tracks, one track after the other, and the borders."""
        place = np.full(len(self), -1, np.int32)
        place[tracks] = np.arange(len(tracks))
        place = place[np.frombuffer(self._tracks, np.int32)]
        position = np.flatnonzero(place >= 0)
        position = position[np.argsort(place[position], kind="stable")]
        counts = np.frombuffer(self._counts, np.int32)
        row = np.repeat(np.arange(len(counts), dtype=np.int32), counts)[position]
        frames = np.frombuffer(self._frames, np.int32)[row]
        instances = (position - offsets_of(counts)[row]).astype(np.int32)
        bounds = offsets_of(np.bincount(place[position], minlength=len(tracks))).tolist()
        return frames, instances, bounds


def _where(prediction: FramePrediction) -> str:
    return f"frame {prediction.frame_index} of {prediction.video_id!r}"
