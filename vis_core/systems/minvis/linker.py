"""MinVIS's linker: each frame's queries continue the previous frame's by one assignment.

"Previous" means the member's previous row: the chain goes on across a hole. With the same number
of queries in every frame, as MinVIS predicts, this is the release's rule. In rows of another
system their number changes: then a track that gets no query waits with its last embedding, and a
query that no track is left for starts a new one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vis_core.association import minvis
from vis_core.association.minvis import Float64Array, IntArray
from vis_core.systems.minvis.config import MinvisLinkConfig
from vis_core.systems.minvis.records import Records
from vis_core.types import FramePrediction, Hole, TrackPlan, VideoInfo


class MinvisLinker:
    """Keeps 4 bytes per instance and 8 per row, and of each track one embedding and one sum."""

    def __init__(self, config: MinvisLinkConfig) -> None:
        self._config = config
        self._begin()

    def start(self, video: VideoInfo) -> None:
        self._begin()

    def _begin(self) -> None:
        self._previous = np.zeros(0, np.int64)  # the track of each query of the previous row
        self._directions: Float64Array | None = None  # (M, D) of the query each track had last
        self._records = Records(self._config)

    def step(self, prediction: FramePrediction | Hole) -> None:
        if isinstance(prediction, Hole):
            return
        directions = _directions(prediction)
        tracks = self._continued(prediction, directions)
        self._records.add(prediction, tracks)
        if len(prediction):
            self._move(tracks, directions)
        self._previous = tracks

    def _continued(self, prediction: FramePrediction, directions: Float64Array | None) -> IntArray:
        """(N,) the track of each query; numbers from M on are new tracks."""
        if not len(prediction) or not len(self._records):
            return np.arange(len(prediction))
        if prediction.prev_query is not None:
            _check_prev_query(prediction, prediction.prev_query, len(self._previous))
            return self._previous[prediction.prev_query]
        known = self._directions
        if directions is None or known is None:
            raise ValueError(
                f"{_where(prediction)} has no `prev_query`, and it or the row before no "
                "`embedding`, by one of which minvis links: predict with --system minvis (or "
                "oracle with --set embedding_dim=16), or choose the linker of the system that made "
                "these predictions"
            )
        if directions.shape[1] != known.shape[1]:
            raise ValueError(
                f"{_where(prediction)} has {directions.shape[1]} embedding values per instance, "
                f"earlier frames have {known.shape[1]}"
            )
        tracks = np.full(len(directions), -1)
        matched, queries = minvis.assign(known, directions)
        tracks[queries] = matched
        new = np.flatnonzero(tracks < 0)
        tracks[new] = len(known) + np.arange(len(new))
        return tracks

    def _move(self, tracks: IntArray, directions: Float64Array | None) -> None:
        """Remembers what these tracks look like now; without embeddings nothing of any track."""
        if directions is None:
            self._directions = None
            return
        moved = np.zeros((len(self._records), directions.shape[1]))
        if self._directions is not None and len(tracks) < len(moved):
            moved[: len(self._directions)] = self._directions
        moved[tracks] = directions
        self._directions = moved

    def finish(self) -> list[TrackPlan]:
        return self._records.finish()


def _directions(prediction: FramePrediction) -> Float64Array | None:
    if prediction.embeddings is None:
        return None
    if not np.isfinite(prediction.embeddings).all():
        raise ValueError(f"{_where(prediction)}: an embedding is not finite")
    return minvis.directions(prediction.embeddings)


def _check_prev_query(
    prediction: FramePrediction, prev_query: npt.NDArray, num_previous: int
) -> None:
    """A frame's queries continue queries of the row before, each of them once at most."""
    outside = (prev_query < 0) | (prev_query >= num_previous)
    again = np.ones(len(prev_query), bool)
    again[np.unique(prev_query, return_index=True)[1]] = False
    wrong = np.flatnonzero(outside | again)
    if len(wrong):
        what = "another query names too" if not outside[wrong[0]] else "is not there"
        raise ValueError(
            f"{_where(prediction)}: `prev_query` of query {wrong[0]} is {prev_query[wrong[0]]}, "
            f"which {what}; the row before has {num_previous} queries"
        )


def _where(prediction: FramePrediction) -> str:
    return f"frame {prediction.frame_index} of {prediction.video_id!r}"
