"""IDOL's tracker as plain loops over rows, pairs and records: slow, and close to its rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from vis_core.masks import rle
from vis_core.types import FramePrediction


@dataclasses.dataclass(kw_only=True)
class Track:
    """A track in memory, and the record of frames that the result is made of."""

    embeddings: list[np.ndarray]
    scores: list[float]
    num_matched: int
    last_row: int
    record: list[tuple[int, int, int, np.ndarray]]  # row, frame, instance, class scores


@dataclasses.dataclass(kw_only=True)
class Result:
    """What becomes of a record."""

    references: list[tuple[int, int]]  # frame, instance
    class_scores: np.ndarray
    entries: list[tuple[int, float]]


def link_idol(
    predictions: Iterable[FramePrediction],
    *,
    nms_pre: float = 0.5,
    add_new: float = 0.2,
    min_score: float = 0.1,
    init_score: float = 0.2,
    match: float = 0.5,
    memory: int = 3,
    forget: int = 10,
    min_len: int = 3,
    emit: float = 0.05,
) -> list[Result]:
    """Tracks of the rows given, in frame order; holes are left out by the caller."""
    tracks: list[Track] = []
    records: list[list] = []
    row = -1
    for row, prediction in enumerate(predictions):
        found = _candidates(prediction, min_score, nms_pre)
        chosen = _assigned(prediction, found, tracks, match)
        least = add_new if tracks else init_score
        for instance, track in zip(found, chosen, strict=True):
            if track is None and prediction.scores[instance] > least:
                track = Track(embeddings=[], scores=[], num_matched=0, last_row=row, record=[])
                tracks.append(track)
                records.append(track.record)
            if track is None:
                continue
            if not any(record is track.record for record in records):  # it was dropped
                track.record = []
                records.append(track.record)
            taken = (row, prediction.frame_index, instance, prediction.class_scores[instance])
            track.record.append(taken)
            track.embeddings = [*track.embeddings, prediction.embeddings[instance]][-memory:]
            track.scores = [*track.scores, float(prediction.scores[instance])][-memory:]
            track.num_matched += 1
            track.last_row = row
        tracks = [track for track in tracks if row - track.last_row < forget]
        if row > 8:
            records = [
                record for record in records if len(record) >= min_len or record[-1][0] > row - 2
            ]
    results = [_result(record, emit) for record in records]
    return [result for result in results if result.entries]


def _candidates(prediction: FramePrediction, min_score: float, nms_pre: float) -> list[int]:
    order = sorted(range(len(prediction)), key=lambda i: -prediction.scores[i])
    above = [i for i in order if prediction.scores[i] > np.float32(min_score)]
    size = (prediction.height, prediction.width)
    masks = {i: rle.decode([prediction.masks[i]], size)[0] for i in order}
    kept: list[int] = []
    for i in above or order[:1]:
        if all(_overlap(masks[i], masks[j]) <= np.float32(nms_pre) for j in kept):
            kept.append(i)
    return kept


def _overlap(a: np.ndarray, b: np.ndarray) -> np.float32:
    small = np.float32(1e-6)
    common, union = np.float32((a & b).sum()), np.float32((a | b).sum())
    return (common + small) / (union + small)


def _assigned(
    prediction: FramePrediction, found: list[int], tracks: list[Track], match: float
) -> list[Track | None]:
    if not tracks or not found:
        return [None] * len(found)
    similar = _bisoftmax([prediction.embeddings[i] for i in found], [_mean(t) for t in tracks])
    chosen: list[Track | None] = []
    for row in range(len(found)):
        values = list(similar[row])
        several = [j for j, value in enumerate(values) if value > np.float32(match)]
        if len(several) > 1:
            mean = np.float32(np.mean([tracks[j].num_matched for j in several]))
            for j, track in enumerate(tracks):
                values[j] *= np.float32(track.num_matched) if j in several else mean
        best = int(np.argmax(values))
        if values[best] > np.float32(match):
            chosen.append(tracks[best])
            similar[row + 1 :, best] = 0
        else:
            chosen.append(None)
    return chosen


def _mean(track: Track) -> np.ndarray:
    total, weights = np.zeros(len(track.embeddings[0])), 0.0
    for t, (embedding, score) in enumerate(zip(track.embeddings, track.scores, strict=True), 1):
        weight = score + t / len(track.embeddings)
        total += weight * embedding.astype(np.float64)
        weights += weight
    return total / weights


def _bisoftmax(detections: list[np.ndarray], memory: list[np.ndarray]) -> np.ndarray:
    dots = np.zeros((len(detections), len(memory)), np.float32)
    for i, detection in enumerate(detections):
        for j, track in enumerate(memory):
            dots[i, j] = np.dot(detection.astype(np.float64), track)
    return (_softmax(dots) + _softmax(dots.T).T) / np.float32(2)


def _softmax(rows: np.ndarray) -> np.ndarray:
    result = np.zeros_like(rows)
    for i, row in enumerate(rows):
        weights = np.exp(row - row.max())
        result[i] = weights / weights.sum()
    return result


def _result(record: list[tuple[int, int, int, np.ndarray]], emit: float) -> Result:
    total = np.zeros(len(record[0][3]))
    for *_, class_scores in record:
        total += class_scores
    scores = (total / len(record)).astype(np.float32)
    entries = [(k + 1, float(s)) for k, s in enumerate(scores) if s > np.float32(emit)]
    references = [(frame, instance) for _, frame, instance, _ in record]
    return Result(references=references, class_scores=scores, entries=entries)
