"""The flow_match predictor: instances of each frame, and the flow to the next one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from vis_core.flow.dis import DisFlow
from vis_core.masks import rle
from vis_core.systems.flow_match.config import FlowMatchPredictConfig
from vis_core.systems.flow_match.evidence import BoolArray
from vis_core.systems.flow_match.motion import (
    Found,
    MotionSettings,
    Sight,
    Step,
    detect,
    look,
    step_between,
)
from vis_core.types import FrameBatch, FramePrediction
from vis_core.windows import ShardWindow


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Row:
    frame_index: int
    pts_seconds: float
    sight: Sight


class FlowMatchPredictor:
    """Slides over the rows with `reach` of them on either side; what has passed is forgotten."""

    def __init__(self, config: FlowMatchPredictConfig) -> None:
        cv2.setNumThreads(1)  # one process per core is faster than many threads on small pictures
        self._kept_masks = config.kept_masks
        self._settings = MotionSettings.of(config)

    def predict(
        self, frames: Iterator[FrameBatch], window: ShardWindow
    ) -> Iterator[FramePrediction]:
        settings, flow = self._settings, DisFlow()
        rows: list[_Row] = []
        steps: list[Step] = []
        here = 0  # the next row to answer
        for row in _rows(frames, settings):
            if rows:
                steps.append(step_between(rows[-1].sight, row.sight, flow, settings))
            rows.append(row)
            if len(rows) - 1 - here >= settings.reach:
                yield from self._answer(rows, steps, here, window)
                here += 1
            if here > settings.reach:
                del rows[0], steps[0]
                here -= 1
        for last in range(here, len(rows)):
            yield from self._answer(rows, steps, last, window)

    def _answer(
        self, rows: Sequence[_Row], steps: Sequence[Step], here: int, window: ShardWindow
    ) -> Iterator[FramePrediction]:
        row = rows[here]
        if not window.owns(row.frame_index):
            return
        found = detect([other.sight for other in rows], steps, here, self._settings)
        found = found[: self._kept_masks]
        size = row.sight.size
        masks = [mask for item in found for mask in rle.encode(_enlarged(item, size)[None])]
        kept = np.flatnonzero(rle.areas(masks, size))
        masks = [masks[i] for i in kept]
        yield FramePrediction(
            video_id=window.video.video_id,
            frame_index=row.frame_index,
            pts_seconds=row.pts_seconds,
            height=size[0],
            width=size[1],
            scores=np.array([found[i].score for i in kept], np.float32),
            labels=np.ones(len(kept), np.int32),
            boxes=rle.boxes(masks, size),
            masks=masks,
            flow=steps[here].flow if here < len(steps) else None,
            window=window.window,
        )


def _rows(frames: Iterator[FrameBatch], settings: MotionSettings) -> Iterator[_Row]:
    for batch in frames:
        index, seconds = batch.frame_index.tolist(), batch.pts_seconds.tolist()
        for number, time, pixels in zip(index, seconds, batch.frames, strict=True):
            yield _Row(frame_index=number, pts_seconds=time, sight=look(pixels, settings))


def _enlarged(found: Found, size: rle.Size) -> BoolArray:
    """(H, W) the mask at the size of the frame, its outline smooth."""
    soft = cv2.GaussianBlur(found.mask.astype(np.uint8) * 255, (5, 5), 0)
    return np.asarray(cv2.resize(soft, size[::-1], interpolation=cv2.INTER_LINEAR) > 127)
