"""IDOL's linker: a memory bank of contrastive embeddings, matched by bi-softmax frame by frame.

Time is counted in rows of the member: a hole ages no track, as if its frames were cut out.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from vis_core.association import idol
from vis_core.association.idol import Float32Array, Float64Array, IntArray
from vis_core.systems.idol.config import IdolLinkConfig
from vis_core.systems.idol.records import Records
from vis_core.types import FramePrediction, Hole, TrackPlan, VideoInfo


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Candidates:
    """The N instances of a frame that may be tracked, best score first."""

    instance: IntArray  # (N,) position in the row's list
    scores: Float32Array  # (N,)
    embeddings: Float64Array  # (N, D)
    class_scores: Float64Array  # (N, K)


class IdolLinker:
    """Keeps 12 bytes per tracked instance, and what it remembers of the tracks alive."""

    def __init__(self, config: IdolLinkConfig) -> None:
        self._config = config
        self._begin()

    def start(self, video: VideoInfo) -> None:
        self._begin()

    def _begin(self) -> None:
        self._row = 0
        self._sizes: tuple[int, int] | None = None  # D and K, known from the first instance on
        self._bank = idol.MemoryBank.empty(self._config.memory, 0)
        self._records = Records(self._config, 0)

    def step(self, prediction: FramePrediction | Hole) -> None:
        if isinstance(prediction, Hole):
            return
        if len(prediction):
            self._check(prediction)
            self._track(prediction)
        kept = self._row - self._bank.last_row < self._config.forget
        if not kept.all():
            self._bank.keep(kept)
            self._records.keep(kept, self._row)
        self._row += 1

    def _track(self, prediction: FramePrediction) -> None:
        """Finds each instance of a frame its track, begins new ones, and remembers them."""
        config, bank = self._config, self._bank
        found = self._candidates(prediction)
        chosen = np.full(len(found.scores), idol.UNMATCHED)
        if len(bank):
            similar = idol.similarity(found.embeddings, bank.recall(), config.min_cosine)
            chosen = idol.assign(similar, bank.num_matched, config.match, config.assoc)
        least = config.new_score if len(bank) else config.init_score
        new = np.flatnonzero((chosen == idol.UNMATCHED) & (found.scores > least))
        old = np.flatnonzero(chosen >= 0)
        bank.update(chosen[old], found.embeddings[old], found.scores[old], self._row)
        if len(new):
            chosen[new] = bank.add(found.embeddings[new], found.scores[new], self._row)
            self._records.add(len(new), self._row)
        tracked = np.flatnonzero(chosen >= 0)
        self._records.extend(
            chosen[tracked],
            found.instance[tracked],
            found.class_scores[tracked],
            frame_index=prediction.frame_index,
            row=self._row,
        )

    def _candidates(self, prediction: FramePrediction) -> _Candidates:
        """Picks the instances above the score threshold that mask NMS keeps."""
        assert prediction.embeddings is not None and prediction.class_scores is not None
        instance = idol.select(prediction.scores, self._config.min_score)
        masks = [prediction.masks[i] for i in instance.tolist()]
        size = (prediction.height, prediction.width)
        instance = instance[idol.mask_nms(masks, size, self._config.max_overlap)]
        embeddings = prediction.embeddings[instance].astype(np.float64)
        class_scores = prediction.class_scores[instance].astype(np.float64)
        if not (np.isfinite(embeddings).all() and np.isfinite(class_scores).all()):
            raise ValueError(f"{_where(prediction)}: an embedding or class score is not finite")
        return _Candidates(
            instance=instance,
            scores=prediction.scores[instance],
            embeddings=embeddings,
            class_scores=class_scores,
        )

    def _check(self, prediction: FramePrediction) -> None:
        """A frame's instances carry what idol needs, of the sizes the first ones had."""
        embeddings, class_scores = prediction.embeddings, prediction.class_scores
        if embeddings is None or class_scores is None:
            missing = "embedding" if embeddings is None else "class_scores"
            raise ValueError(
                f"{_where(prediction)} has no `{missing}`, by which idol links: predict with "
                "--system idol (or oracle with --set embedding_dim=16), or choose the linker of "
                "the system that made these predictions"
            )
        sizes = (embeddings.shape[1], class_scores.shape[1])
        if self._sizes is None:
            self._sizes = sizes
            self._bank = idol.MemoryBank.empty(self._config.memory, sizes[0])
            self._records = Records(self._config, sizes[1])
        if sizes != self._sizes:
            raise ValueError(
                f"{_where(prediction)} has {sizes[0]} embedding values and {sizes[1]} class "
                f"scores per instance, earlier frames have {self._sizes[0]} and {self._sizes[1]}"
            )

    def finish(self) -> list[TrackPlan]:
        return self._records.finish(self._row)


def _where(prediction: FramePrediction) -> str:
    return f"frame {prediction.frame_index} of {prediction.video_id!r}"
