"""What the oracle claims to see in a frame: the truth, with its mistakes.

Everything is addressed by an *entity*: object k of O is entity k, its duplicate O + k; each false
instance is an entity of its own, numbered after them. Entities are also the proposals.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vis_core.masks import rle
from vis_core.systems.oracle.config import OraclePredictConfig
from vis_core.systems.oracle.formula import stamp, stamped
from vis_core.systems.oracle.noise import Channel, Noise
from vis_core.systems.oracle.truth import TruthFrame

IntArray = npt.NDArray[np.int64]

_BASE_SCORES = (0.9, 0.6, 0.3)  # of a true, a duplicate and a false instance
_TRUE, _DUPLICATE, _FALSE = range(3)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Detections:
    """N instances of a frame: true ones by object, then duplicates, then false ones."""

    rows: IntArray  # (N,) position in the truth frame; -1: false
    entities: IntArray  # (N,)
    kinds: IntArray  # (N,)
    masks: Sequence[bytes]
    boxes: npt.NDArray[np.float32]  # (N, 4)

    def take(self, index: npt.NDArray) -> Detections:
        return Detections(
            rows=self.rows[index],
            entities=self.entities[index],
            kinds=self.kinds[index],
            masks=[self.masks[i] for i in index.tolist()],
            boxes=self.boxes[index],
        )


class Detector:
    """Sees the objects of one video as badly as the settings say."""

    def __init__(
        self, config: OraclePredictConfig, noise: Noise, num_objects: int, size: rle.Size
    ) -> None:
        self._config = config
        self._noise = noise
        self._num_objects = num_objects
        self._size = size

    def detect(self, truth: TruthFrame, frame: int) -> Detections:
        rows, kinds = self._found(truth.objects, frame)
        found = Detections(
            rows=rows,
            entities=truth.objects[rows] + kinds * self._num_objects,
            kinds=kinds,
            masks=[truth.masks[row] for row in rows.tolist()],
            boxes=truth.boxes[rows],
        )
        if self._config.jitter_px:
            found = self._shifted(found, frame)
        if self._config.false_rate:
            found = _joined(found, self._false(frame))
        return found

    def _found(self, objects: npt.NDArray[np.int32], frame: int) -> tuple[IntArray, IntArray]:
        """Truth rows that are seen, once or twice, and as what kind."""
        every = np.arange(len(objects))
        kept = every
        if self._config.drop:
            draws = self._noise.uniform(Channel.DROP, frame, objects)[:, 0]
            kept = every[draws >= self._config.drop]
        again = every[:0]
        if self._config.duplicate:
            draws = self._noise.uniform(Channel.DUPLICATE, frame, objects[kept])[:, 0]
            again = kept[draws < self._config.duplicate]
        kinds = np.repeat([_TRUE, _DUPLICATE], [len(kept), len(again)])
        return np.concatenate([kept, again]), kinds

    def _shifted(self, found: Detections, frame: int) -> Detections:
        """Each mask moved by whole pixels; what leaves the frame is lost."""
        draws = self._noise.normal(Channel.JITTER, frame, found.entities, 2)
        shifts = np.rint(draws * self._config.jitter_px).astype(int).tolist()
        crops = rle.crops(found.masks, self._size)
        moved = [
            _shift(crop, dx, dy, self._size) for crop, (dx, dy) in zip(crops, shifts, strict=True)
        ]
        masks = rle.encode_crops(moved, self._size)
        boxes = rle.boxes(masks, self._size)
        visible = np.flatnonzero(rle.areas(masks, self._size))
        return dataclasses.replace(found, masks=masks, boxes=boxes).take(visible)

    def _false(self, frame: int) -> Detections:
        rate = self._config.false_rate
        most = max(1, math.ceil(rate))
        draw = float(self._noise.uniform(Channel.FALSE, frame, [-1])[0, 0])
        entities = 2 * self._num_objects + frame * most + np.arange(math.floor(rate + draw))
        draws = self._noise.uniform(Channel.FALSE, frame, entities, 5)
        masks = [self._anywhere(row) for row in draws]
        return Detections(
            rows=np.full(len(entities), -1),
            entities=entities,
            kinds=np.full(len(entities), _FALSE),
            masks=masks,
            boxes=rle.boxes(masks, self._size),
        )

    def _anywhere(self, draws: npt.NDArray[np.floating]) -> bytes:
        shape = stamp(draws[:3], self._size)
        x0 = int(draws[3] * (self._size[1] - shape.width + 1))
        y0 = int(draws[4] * (self._size[0] - shape.height + 1))
        return stamped(shape, x0, y0, self._size)

    def scores(self, found: Detections, frame: int) -> npt.NDArray[np.float32]:
        scores = np.array(_BASE_SCORES)[found.kinds]
        if self._config.score_noise:
            draws = self._noise.normal(Channel.SCORE, frame, found.entities)[:, 0]
            scores = scores + draws * self._config.score_noise
        return np.clip(scores, 0.001, 0.999).astype(np.float32)

    def labels(
        self, found: Detections, truth: TruthFrame, frame: int, legal: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.int32]:
        """True labels, some changed into another legal one; any legal one for false instances."""
        false = found.rows < 0
        if not false.any() and not self._config.label_noise:
            return truth.labels[found.rows]
        draws = self._noise.uniform(Channel.LABEL, frame, found.entities, 2)
        labels = legal[(draws[:, 0] * len(legal)).astype(int)]
        labels[~false] = truth.labels[found.rows[~false]]
        wrong = ~false & (draws[:, 1] < self._config.label_noise)
        steps = 1 + (draws[:, 0] * (len(legal) - 1)).astype(int)
        others = (np.searchsorted(legal, labels) + steps) % len(legal)
        return np.where(wrong, legal[others], labels)

    def embeddings(
        self, found: Detections, truth: TruthFrame, frame: int
    ) -> npt.NDArray[np.float32]:
        """(N, D) one direction per object, the same in every frame, plus noise."""
        dim, every_frame = self._config.embedding_dim, -1
        false = found.rows < 0
        identity = found.entities.copy()
        identity[~false] = truth.objects[found.rows[~false]]
        values = self._noise.normal(Channel.IDENTITY, every_frame, identity, dim)
        if self._config.embedding_noise:
            noise = self._noise.normal(Channel.EMBEDDING, frame, found.entities, dim)
            values = values + noise * self._config.embedding_noise
        # Twice, so that dot products tell objects apart at small dimensions too. Rounded as they
        # will be stored, so that linking before and after storage is the same.
        return (2 * values).astype(np.float16).astype(np.float32)


def _joined(a: Detections, b: Detections) -> Detections:
    return Detections(
        rows=np.concatenate([a.rows, b.rows]),
        entities=np.concatenate([a.entities, b.entities]),
        kinds=np.concatenate([a.kinds, b.kinds]),
        masks=[*a.masks, *b.masks],
        boxes=np.concatenate([a.boxes, b.boxes]),
    )


def _shift(crop: rle.Crop, dx: int, dy: int, size: rle.Size) -> rle.Crop:
    x0, y0, x1, y1 = crop.box
    left, top = max(0, -(x0 + dx)), max(0, -(y0 + dy))
    right, bottom = min(x1 - x0, size[1] - x0 - dx), min(y1 - y0, size[0] - y0 - dy)
    inside = crop.mask[top : max(top, bottom), left : max(left, right)]
    if not inside.size:
        return rle.Crop(mask=inside[:0, :0], x0=0, y0=0)
    return rle.Crop(mask=inside, x0=x0 + dx + left, y0=y0 + dy + top)
