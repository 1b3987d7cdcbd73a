"""MinVIS's tracking as plain loops over queries and categories; one number of queries per video."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
from scipy.optimize import linear_sum_assignment

from vis_core.types import FramePrediction


@dataclasses.dataclass(kw_only=True)
class Result:
    """One of the tracks of the best pairs."""

    references: list[tuple[int, int]]  # frame, instance
    class_scores: list[float]
    entries: list[tuple[int, float]]


def link_minvis(predictions: Iterable[FramePrediction], *, topk: int = 10) -> list[Result]:
    """Tracks of the rows given, in frame order, the best first."""
    last: list[np.ndarray] = []  # of each track
    references: list[list[tuple[int, int]]] = []
    logits: list[list[list[float]]] = []  # of each track, each frame
    for prediction in predictions:
        queries = _queries(prediction, last)
        if not last:
            last = [prediction.embeddings[query] for query in queries]
            references, logits = [[] for _ in last], [[] for _ in last]
        for track, query in enumerate(queries):
            last[track] = prediction.embeddings[query]
            references[track].append((prediction.frame_index, query))
            logits[track].append(_logits(prediction, query))
    scores = [_averaged(rows) for rows in logits]
    pairs = [(-s, track, k + 1) for track, row in enumerate(scores) for k, s in enumerate(row)]
    best: dict[int, list[tuple[int, float]]] = {}
    for score, track, label in sorted(pairs)[:topk]:
        best.setdefault(track, []).append((label, -score))
    return [
        Result(references=references[track], class_scores=scores[track], entries=entries)
        for track, entries in best.items()
    ]


def _queries(prediction: FramePrediction, last: list[np.ndarray]) -> list[int]:
    """For each track its query in this frame."""
    if not last:
        return list(range(len(prediction)))
    cost = np.zeros((len(last), len(prediction)))
    for track, before in enumerate(last):
        for query, now in enumerate(prediction.embeddings):
            cost[track, query] = 1 - _cosine(before.astype(np.float64), now.astype(np.float64))
    return linear_sum_assignment(cost)[1].tolist()


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b) / (math.sqrt(a @ a) * math.sqrt(b @ b))


def _logits(prediction: FramePrediction, query: int) -> list[float]:
    scores = [float(score) for score in prediction.class_scores[query]]
    if prediction.no_object_logprob is None:
        rest = math.log(max(1 - sum(scores), 1e-9))
    else:
        rest = float(prediction.no_object_logprob[query])
    return [*(math.log(max(score, 1e-45)) for score in scores), rest]


def _averaged(rows: list[list[float]]) -> list[float]:
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    largest = max(means)
    weights = [math.exp(mean - largest) for mean in means]
    return [weight / sum(weights) for weight in weights[:-1]]
