"""The oracle's predictor: frames are only counted; what is in them comes from the truth."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from vis_core.columns import offsets_of
from vis_core.errors import UsageError
from vis_core.masks import rle
from vis_core.systems.oracle.config import OraclePredictConfig
from vis_core.systems.oracle.detections import Detections, Detector
from vis_core.systems.oracle.formula import FormulaTruth
from vis_core.systems.oracle.noise import Noise
from vis_core.systems.oracle.truth import Truth, TruthFile, TruthFrame, centers_of
from vis_core.types import FlowField, FrameBatch, FramePrediction, RefFlow
from vis_core.windows import ShardWindow

_FORMULA = "formula:"
_CELL_PX = 8  # stored flow has one value per cell of 8 x 8 pixels


def open_truth(source: str) -> Truth:
    """The truth a setting names: a file, or `formula:N`."""
    if not source.startswith(_FORMULA):
        return TruthFile(source)
    number = source.removeprefix(_FORMULA)
    if not (number.isascii() and number.isdigit() and len(number) <= 6):
        raise UsageError(f"truth={source!r}: expected formula:N with the number of objects")
    return FormulaTruth(int(number))


class OraclePredictor:
    """Emits what the truth says about each core frame, with the mistakes that were asked for."""

    def __init__(self, config: OraclePredictConfig) -> None:
        self._config = config
        self._truth = open_truth(config.truth)
        self._labels = np.unique([c.label for c in self._truth.categories] or [1]).astype(np.int32)

    def predict(
        self, frames: Iterator[FrameBatch], window: ShardWindow
    ) -> Iterator[FramePrediction]:
        video: _Video | None = None
        for here, following in _with_next(_frames(frames)):
            if video is None:
                video = _Video(
                    self._config, self._truth, self._labels, window.video.video_id, here.size
                )
            if window.owns(here.frame_index):
                yield video.predict(here, following, window.window)
            video.remember(here.frame_index)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Frame:
    frame_index: int
    pts_seconds: float
    size: rle.Size


def _frames(batches: Iterable[FrameBatch]) -> Iterator[_Frame]:
    for batch in batches:
        size = (batch.frames.shape[1], batch.frames.shape[2])
        for index, pts in zip(batch.frame_index, batch.pts_seconds, strict=True):
            yield _Frame(frame_index=int(index), pts_seconds=float(pts), size=size)


def _with_next(frames: Iterator[_Frame]) -> Iterator[tuple[_Frame, _Frame | None]]:
    here = next(frames, None)
    while here is not None:
        following = next(frames, None)
        yield here, following
        here = following


class _Video:
    """One video during one predict call."""

    def __init__(
        self,
        config: OraclePredictConfig,
        truth: Truth,
        labels: npt.NDArray[np.int32],
        video_id: str,
        size: rle.Size,
    ) -> None:
        self._config = config
        self._video_id = video_id
        self._labels = labels
        self._truth = truth.video(video_id, size)
        noise = Noise(config.seed, video_id)
        self._detector = Detector(config, noise, self._truth.num_objects, size)
        self._first: int | None = None
        self._recent: collections.deque[int] = collections.deque(maxlen=config.ref_flow)

    def remember(self, frame_index: int) -> None:
        """A frame that later ones may refer to."""
        if self._first is None:
            self._first = frame_index
        self._recent.append(frame_index)

    def predict(self, here: _Frame, following: _Frame | None, window: int) -> FramePrediction:
        config, frame = self._config, here.frame_index
        truth = self._truth.frame(frame)
        found = self._detector.detect(truth, frame)
        scores = self._detector.scores(found, frame)
        labels = self._detector.labels(found, truth, frame, self._labels)
        centers = centers_of(found.boxes) if config.centers else None
        embed = config.embedding_dim > 0
        return FramePrediction(
            video_id=self._video_id,
            frame_index=frame,
            pts_seconds=here.pts_seconds,
            height=here.size[0],
            width=here.size[1],
            scores=scores,
            labels=labels,
            boxes=found.boxes,
            masks=found.masks,
            class_scores=_class_scores(scores, labels, int(self._labels[-1])),
            embeddings=self._detector.embeddings(found, truth, frame) if embed else None,
            proposals=found.entities.astype(np.int32) if config.proposals else None,
            centers=centers,
            mean_offsets=None if centers is None else np.zeros_like(centers),
            ref_flow=self._ref_flow(found, truth) if config.ref_flow else None,
            flow=self._flow(truth, here.size, following) if config.flow and following else None,
            window=window,
        )

    def _ref_flow(self, found: Detections, truth: TruthFrame) -> RefFlow:
        """Displacement of each true object's centre to the references where it is visible."""
        references = sorted({*([] if self._first is None else [self._first]), *self._recent})
        num_objects = self._truth.num_objects
        there = np.full((num_objects + 1, len(references), 2), np.nan, np.float32)
        for column, reference in enumerate(references):
            seen = self._truth.frame(reference)
            there[seen.objects, column] = seen.centers
        objects = np.append(truth.objects, num_objects)[found.rows]  # -1, false: a row of NaN
        here = np.concatenate([truth.centers, np.zeros((1, 2), np.float32)])[found.rows]
        dydx = there[objects] - here[:, None]
        visible = ~np.isnan(dydx[:, :, 0])
        frames = np.broadcast_to(np.array(references, np.int32), visible.shape)
        return RefFlow(
            offsets=offsets_of(visible.sum(axis=1)),
            frame_index=frames[visible],
            dydx=dydx[visible],
        )

    def _flow(self, truth: TruthFrame, size: rle.Size, following: _Frame) -> FlowField:
        """Every object's pixels move as its box's centre does; the rest stands still."""
        field = np.zeros((2, -(-size[0] // _CELL_PX), -(-size[1] // _CELL_PX)), np.float16)
        after = self._truth.frame(following.frame_index)
        position = {int(k): row for row, k in enumerate(after.objects)}
        crops = rle.crops(truth.masks, size)
        for row, k in enumerate(truth.objects.tolist()):
            if k in position:
                dy, dx = np.rint((after.centers[position[k]] - truth.centers[row]) * 8) / 8
                field[:, _cells(crops[row], field.shape[1:])] = [[dx], [dy]]
        return FlowField(dxdy=field)


def _cells(crop: rle.Crop, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Cells that hold a pixel of the mask."""
    row, column = np.nonzero(crop.mask)
    cells = np.zeros(shape, bool)
    cells[(row + crop.y0) // _CELL_PX, (column + crop.x0) // _CELL_PX] = True
    return cells


def _class_scores(
    scores: npt.NDArray[np.float32], labels: npt.NDArray[np.int32], num_labels: int
) -> npt.NDArray[np.floating]:
    """(N, K) the score at the label, a tenth of what is left to 1 spread over the others."""
    spread = (1 - scores[:, None]) * np.float32(0.1) / max(1, num_labels - 1)
    table = np.repeat(spread, num_labels, axis=1)
    table[np.arange(len(labels)), labels - 1] = scores
    return table
