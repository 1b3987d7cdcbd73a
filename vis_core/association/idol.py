"""IDOL's tracker as pure steps: candidates, mask NMS, memory bank, bi-softmax, assignment.

The rules are those of the released tracker, as docs/methods/idol.md describes them. N detections of
a frame, best score first, which is the order that rules go by; M tracks in memory; T remembered
embeddings of a track, D their size.
"""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from vis_core.masks import rle

BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Assoc = Literal["code", "report"]

UNMATCHED = -1  # no track is similar enough: may start a new one
DUPLICATE = -2  # the track it chose went to a better one

_SMOOTH = np.float32(1e-6)


# --- candidates -----------------------------------------------------------------------------------


def select(scores: npt.NDArray[np.floating], min_score: float) -> IntArray:
    """Positions of the instances above `min_score`, or of the best one alone; best score first.

    Equal scores keep their order. The comparison is in the scores' own precision, so that a score
    stored as float32(0.1) is not above 0.1.
    """
    order = np.argsort(-scores, kind="stable")
    return order[: max(1, np.count_nonzero(scores > min_score))]


def mask_nms(masks: Sequence[bytes], size: rle.Size, max_iou: float) -> IntArray:
    """Drops masks that overlap a better, kept one by more than `max_iou`; returns who is left.

    Masks are compared pixel by pixel only where their areas and boxes do not settle it.
    """
    dropped = np.zeros(len(masks), bool)
    pixels = rle.areas(masks, size).astype(np.float64)
    pair = pixels[:, None] + pixels[None, :]
    most = np.minimum(np.minimum(pixels[:, None], pixels[None, :]), _box_overlaps(masks, size))
    possible = np.triu(_overlap(most, pair) > max_iou, 1)
    for better in np.flatnonzero(possible.any(axis=1)).tolist():
        worse = np.flatnonzero(possible[better] & ~dropped)
        if dropped[better] or not len(worse):
            continue
        iou = rle.iou_matrix([masks[better]], [masks[i] for i in worse.tolist()], size)[0]
        total = pair[better, worse]
        common = np.rint(iou * total / (1 + iou))  # exact again: iou = common / (total - common)
        dropped[worse[_overlap(common, total) > max_iou]] = True
    return np.flatnonzero(~dropped)


def _box_overlaps(masks: Sequence[bytes], size: rle.Size) -> Float64Array:
    """(N, N) pixels that the tight boxes share."""
    boxes = rle.boxes(masks, size).astype(np.float64)
    start = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    stop = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    return np.maximum(stop - start, 0).prod(axis=2)


def _overlap(common: Float64Array, total: Float64Array) -> Float32Array:
    """(intersection + 1e-6) / (union + 1e-6) in float32, as released.

    Two empty masks overlap by 1. Exactly at a threshold the 1e-6 may tip a small pair over it; from
    32 common pixels on rounding swallows it. Grows with `common`, rounded as it is.
    """
    union = (total - common).astype(np.float32)
    return (common.astype(np.float32) + _SMOOTH) / (union + _SMOOTH)


# --- memory ---------------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class MemoryBank:
    """What the tracker remembers of each track it can still continue, in order of birth."""

    embeddings_MTD: Float64Array  # a ring: match n of a track is in slot n mod T
    scores_MT: Float64Array
    num_matched: IntArray  # (M,) frames in which it was matched
    last_row: IntArray  # (M,) of them the latest

    @classmethod
    def empty(cls, memory: int, dim: int) -> MemoryBank:
        """Remembers the last `memory` embeddings of a track."""
        nothing = np.zeros(0, np.int64)
        return cls(
            embeddings_MTD=np.zeros((0, memory, dim)),
            scores_MT=np.zeros((0, memory)),
            num_matched=nothing,
            last_row=nothing,
        )

    def __len__(self) -> int:
        return len(self.num_matched)

    def recall(self) -> Float64Array:
        """Averages the remembered embeddings, (M, D), the newer and surer ones weighing more.

        Embedding t = 1 (oldest) … T of a track weighs its score + t / T.
        """
        memory = self.scores_MT.shape[1]
        newest = (self.num_matched - 1) % memory
        age = (newest[:, None] - np.arange(memory)) % memory
        kept = np.minimum(self.num_matched, memory)[:, None]
        weights = np.where(age < kept, self.scores_MT + (kept - age) / kept, 0)
        weights /= weights.sum(axis=1, keepdims=True)
        return np.matmul(weights[:, None], self.embeddings_MTD)[:, 0]

    def update(
        self, tracks: IntArray, embeddings: Float64Array, scores: Float32Array, row: int
    ) -> None:
        """Remembers what these tracks, each given once, were matched to in frame `row`."""
        slot = self.num_matched[tracks] % self.scores_MT.shape[1]
        self.embeddings_MTD[tracks, slot] = embeddings
        self.scores_MT[tracks, slot] = scores
        self.num_matched[tracks] += 1
        self.last_row[tracks] = row

    def add(self, embeddings: Float64Array, scores: Float32Array, row: int) -> IntArray:
        """Begins tracks with what was found of them in frame `row`; returns their places."""
        first, num = len(self), len(scores)
        pad = (self.scores_MT.shape[1], embeddings.shape[1])
        self.embeddings_MTD = np.concatenate([self.embeddings_MTD, np.zeros((num, *pad))])
        self.scores_MT = np.concatenate([self.scores_MT, np.zeros((num, pad[0]))])
        self.num_matched = np.concatenate([self.num_matched, np.zeros(num, np.int64)])
        self.last_row = np.concatenate([self.last_row, np.full(num, row)])
        tracks = np.arange(first, first + num)
        self.update(tracks, embeddings, scores, row)
        return tracks

    def keep(self, kept: BoolArray) -> None:
        """Forgets the other tracks."""
        self.embeddings_MTD = self.embeddings_MTD[kept]
        self.scores_MT = self.scores_MT[kept]
        self.num_matched = self.num_matched[kept]
        self.last_row = self.last_row[kept]


# --- association ----------------------------------------------------------------------------------


def similarity(
    detections_ND: Float64Array, memory_MD: Float64Array, min_cosine: float | None = None
) -> Float32Array:
    """Compares by bi-softmax, (N, M): the mean of the softmax over tracks and over detections.

    Dot products are summed in float64 and rounded, so that equal pairs stay equal wherever they
    stand; the softmax is float32, because far embeddings saturate there as in the release. Pairs
    whose cosine is below `min_cosine` get 0.
    """
    dots = detections_ND @ memory_MD.T
    logits_NM = dots.astype(np.float32)
    over_tracks, over_detections = _softmax(logits_NM, 1), _softmax(logits_NM, 0)
    similar = (over_tracks + over_detections) / np.float32(2)
    if min_cosine is not None:
        lengths = np.linalg.norm(detections_ND, axis=1)[:, None] * np.linalg.norm(memory_MD, axis=1)
        similar[dots < min_cosine * lengths] = 0
    return similar


def _softmax(logits: Float32Array, axis: int) -> Float32Array:
    weights = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return weights / weights.sum(axis=axis, keepdims=True)


def assign(
    similarity_NM: Float32Array, num_matched: IntArray, match: float, assoc: Assoc = "code"
) -> IntArray:
    """Chooses for each detection, best first, its track, or `UNMATCHED` or `DUPLICATE`.

    `code`: of the free tracks above `match` the one with the largest similarity × frames matched;
    a track is free until it is taken. (Released as a product over all tracks, which the ones at or
    below `match` can never win.) `report`: the most similar track above `match`, free or not; the
    report lets two detections choose one track, and then the first has it and the other none.
    """
    chosen = np.full(len(similarity_NM), UNMATCHED)
    rows, columns = np.nonzero(similarity_NM > match)
    worth = similarity_NM[rows, columns]
    if assoc == "code":
        worth = worth * num_matched[columns].astype(np.float32)
    taken: set[int] = set()
    pairs = zip(rows.tolist(), worth.tolist(), columns.tolist(), strict=True)
    for row, choices in itertools.groupby(pairs, key=operator.itemgetter(0)):
        open_to = [pair for pair in choices if assoc == "report" or pair[2] not in taken]
        if open_to:
            column = max(open_to, key=operator.itemgetter(1))[2]  # of equal ones the oldest track
            chosen[row] = DUPLICATE if column in taken else column
            taken.add(column)
    return chosen
