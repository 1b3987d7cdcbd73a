"""The oracle's linker: one track per proposal, from any system whose instances carry one."""

from __future__ import annotations

import array

import numpy as np
import numpy.typing as npt

from vis_core.systems.oracle.config import OracleLinkConfig
from vis_core.types import FramePrediction, Hole, TrackPlan, VideoInfo

_COLUMNS = {
    "window": np.int32,
    "proposal": np.int32,
    "frame_index": np.int32,
    "instance": np.int32,
    "label": np.int32,
    "score": np.float32,
}

Columns = dict[str, npt.NDArray]


class OracleLinker:
    """Keeps 24 bytes per instance; decides everything at the end."""

    def __init__(self, config: OracleLinkConfig) -> None:
        self._config = config
        self._stored: dict[str, array.array] = {}

    def start(self, video: VideoInfo) -> None:
        self._stored = {name: array.array("B") for name in _COLUMNS}

    def step(self, prediction: FramePrediction | Hole) -> None:
        if isinstance(prediction, Hole) or not len(prediction):
            return
        if prediction.proposals is None:
            raise ValueError(
                f"frame {prediction.frame_index} of {prediction.video_id!r} has no `proposal`, by "
                "which the oracle links: predict with proposals=true, or choose the linker of the "
                "system that made these predictions"
            )
        num = len(prediction)
        values = {
            "window": np.full(num, prediction.window),
            "proposal": prediction.proposals,
            "frame_index": np.full(num, prediction.frame_index),
            "instance": np.arange(num),
            "label": prediction.labels,
            "score": prediction.scores,
        }
        for name, dtype in _COLUMNS.items():
            self._stored[name].frombytes(values[name].astype(dtype).tobytes())

    def finish(self) -> list[TrackPlan]:
        columns = {
            name: np.frombuffer(self._stored[name].tobytes(), dtype)
            for name, dtype in _COLUMNS.items()
        }
        columns = _take(columns, columns["score"] >= self._config.min_score)
        columns = _take(columns, _track_order(columns))
        columns = _take(columns, _starts(columns, "window", "proposal", "frame_index"))
        begin = np.flatnonzero(_starts(columns, "window", "proposal"))
        if not len(begin):
            return []
        lengths = np.diff(np.append(begin, len(columns["score"])))
        scores = np.add.reduceat(columns["score"].astype(np.float64), begin) / lengths
        labels = _majority(columns["label"], np.repeat(np.arange(len(begin)), lengths))
        rows = zip(begin.tolist(), lengths.tolist(), scores.tolist(), labels.tolist(), strict=True)
        return [
            _plan(columns, slice(start, start + length), score, label)
            for start, length, score, label in rows
            if length >= self._config.min_len
        ]


def _track_order(columns: Columns) -> npt.NDArray[np.int64]:
    """By track, then frame; of two instances in one frame the better one, then the earlier."""
    first = [columns[name] for name in ("frame_index", "proposal", "window")]  # last counts first
    return np.lexsort([columns["instance"], -columns["score"], *first])


def _starts(columns: Columns, *names: str) -> npt.NDArray[np.bool_]:
    """Where a row differs from the one before in any of these columns."""
    starts = np.zeros(len(columns["score"]), bool)
    starts[:1] = True
    for name in names:
        starts[1:] |= columns[name][1:] != columns[name][:-1]
    return starts


def _take(columns: Columns, index: npt.NDArray) -> Columns:
    return {name: values[index] for name, values in columns.items()}


def _majority(labels: npt.NDArray, track: npt.NDArray[np.int64]) -> npt.NDArray:
    """The commonest label of each track; the lowest of equally common ones."""
    order = np.lexsort([labels, track])
    labels, track = labels[order], track[order]
    first = np.flatnonzero(np.diff(track, prepend=-1) | np.diff(labels, prepend=-1))
    votes = np.diff(np.append(first, len(labels)))
    best = np.lexsort([labels[first], -votes, track[first]])
    winners = first[best][np.flatnonzero(np.diff(track[first][best], prepend=-1))]
    return labels[winners]


def _plan(columns: Columns, rows: slice, score: float, label: int) -> TrackPlan:
    window = columns["window"][rows]
    return TrackPlan(
        score=score,
        label=label,
        frame_index=columns["frame_index"][rows],
        instance=columns["instance"][rows],
        window=window if window.any() else None,
    )
