"""MinVIS's tracking as pure steps: chain of assignments, logits averaged over time, best pairs.

The steps are those of docs/methods/minvis.md.
N queries of a frame, M tracks, D embedding size, K categories without "no object".
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Below these a stored probability says nothing about its logarithm.
_LEAST_CLASS = float(np.finfo(np.float32).smallest_subnormal)
_LEAST_REST = 1e-9  # 1 minus a sum of float32


def directions(embeddings_ND: npt.NDArray[np.floating]) -> Float64Array:
    """(N, D) embeddings of length 1; one of length 0 stays, and is like no other."""
    embeddings = embeddings_ND.astype(np.float64)
    lengths = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings))
    embeddings /= np.where(lengths > 0, lengths, 1)[:, None]
    return embeddings


def assign(tracks_MD: Float64Array, queries_ND: Float64Array) -> tuple[IntArray, IntArray]:
    """Matches tracks and queries one to one, by the least sum of 1 − cosine.

    All min(M, N) are matched, whatever the cosine. Costs are rounded to float32, so that equal
    ones are equal wherever they stand; between equal sums scipy decides, the same way for the same
    costs, and in favour of query n for track n where all costs are equal.
    """
    from scipy.optimize import linear_sum_assignment  # half a second: only those who link pay

    cost_MN = (1 - tracks_MD @ queries_ND.T).astype(np.float32)
    tracks, queries = linear_sum_assignment(cost_MN)
    return tracks, queries


def log_probabilities(
    class_scores_NK: npt.NDArray[np.floating], no_object_logprob_N: npt.NDArray | None
) -> Float64Array:
    """(N, K + 1) logarithms of a frame's distributions, "no object" last.

    Where its logarithm was not stored, "no object" is 1 minus the sum of the others.
    """
    scores = class_scores_NK.astype(np.float64)
    logs = np.empty((len(scores), scores.shape[1] + 1))
    np.log(np.maximum(scores, _LEAST_CLASS), out=logs[:, :-1])
    if no_object_logprob_N is None:
        logs[:, -1] = np.log(np.maximum(1 - scores.sum(axis=1), _LEAST_REST))
    else:
        logs[:, -1] = no_object_logprob_N
    return logs


def class_scores(mean_logs_MK: Float64Array) -> Float64Array:
    """Takes the softmax of logits averaged over time, (M, K), and leaves "no object" out.

    Logarithms of probabilities are logits but for a constant per frame, which cancels.
    """
    weights = np.exp(mean_logs_MK - mean_logs_MK.max(axis=1, keepdims=True))
    return weights[:, :-1] / weights.sum(axis=1, keepdims=True)


def best_pairs(scores_MK: Float64Array, topk: int | None) -> tuple[IntArray, IntArray]:
    """Finds tracks and categories (from 0) of the `topk` largest scores, or all; best first.

    Of equal scores the earlier track comes first, then the lower category.
    """
    order = np.argsort(-scores_MK, axis=None, kind="stable")[:topk]
    tracks, categories = np.divmod(order, scores_MK.shape[1])
    return tracks, categories
