"""flow_match with a trained detector: masks of a network, flow to the next row by DIS."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
import torch

from vis_core.flow.dis import DisFlow
from vis_core.masks import rle
from vis_core.models import mask_rcnn
from vis_core.models.place import best_device
from vis_core.models.weights import read_weights
from vis_core.systems.flow_match.config import FlowMatchPredictConfig
from vis_core.systems.flow_match.motion import MotionSettings, Sight, look, step_between
from vis_core.types import FrameBatch, FramePrediction
from vis_core.windows import ShardWindow

logger = logging.getLogger(__name__)

_MASK_LEVEL = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Found:
    """A row whose flow is still unknown."""

    row: FramePrediction
    sight: Sight


class DetectorPredictor:
    """Batches of frames through the network; a row leaves when the next one has been seen."""

    def __init__(self, config: FlowMatchPredictConfig) -> None:
        cv2.setNumThreads(1)  # one process per core is faster than many threads on small pictures
        assert config.weights is not None, "the config has checked it"
        self._device = best_device()
        logger.info("detector on %s: %s", self._device, config.weights)
        self._network = mask_rcnn.from_weights(
            config.detector.removeprefix("torchvision:"),
            read_weights(config.weights),
            config.weights,
        )
        self._network.roi_heads.score_thresh = config.min_score
        self._network.roi_heads.detections_per_img = config.kept_masks
        self._network.eval().to(self._device)
        self._settings = MotionSettings.of(config)

    def predict(
        self, frames: Iterator[FrameBatch], window: ShardWindow
    ) -> Iterator[FramePrediction]:
        flow, before = DisFlow(), None
        for batch in frames:
            for found in self._detected(batch, window):
                if before is not None:
                    step = step_between(before.sight, found.sight, flow, self._settings)
                    if window.owns(before.row.frame_index):
                        yield dataclasses.replace(before.row, flow=step.flow)
                before = found
        if before is not None and window.owns(before.row.frame_index):
            yield before.row

    def _detected(self, batch: FrameBatch, window: ShardWindow) -> Iterator[_Found]:
        """Frames of the halo are only looked at for the flow that leads to them."""
        index = batch.frame_index.tolist()
        owned = [position for position, number in enumerate(index) if window.owns(number)]
        masks_of, scores_of = self._masks(batch.frames, owned)
        for position, number in enumerate(index):
            pixels = batch.frames[position]
            size = pixels.shape[0], pixels.shape[1]
            masks = masks_of.get(position, [])
            yield _Found(
                sight=look(pixels, self._settings),
                row=FramePrediction(
                    video_id=window.video.video_id,
                    frame_index=number,
                    pts_seconds=float(batch.pts_seconds[position]),
                    height=size[0],
                    width=size[1],
                    scores=scores_of.get(position, np.zeros(0, np.float32)),
                    labels=np.ones(len(masks), np.int32),
                    boxes=rle.boxes(masks, size),
                    masks=masks,
                    window=window.window,
                ),
            )

    def _masks(
        self, frames: np.ndarray, owned: Sequence[int]
    ) -> tuple[dict[int, list[bytes]], dict[int, np.ndarray]]:
        """Run lengths and scores by position, best first; empty masks are left out."""
        if not owned:
            return {}, {}
        pixels = torch.from_numpy(frames[owned]).to(self._device)
        found = mask_rcnn.detect(self._network, list(pixels.permute(0, 3, 1, 2).float() / 255))
        masks_of, scores_of = {}, {}
        for position, answer in zip(owned, found, strict=True):
            masks_NHW = (answer["masks"][:, 0] > _MASK_LEVEL).cpu().numpy()
            masks, size = rle.encode(masks_NHW), masks_NHW.shape[1:]
            kept = np.flatnonzero(rle.areas(masks, size))
            masks_of[position] = [masks[i] for i in kept]
            scores_of[position] = answer["scores"].cpu().numpy()[kept].astype(np.float32)
        return masks_of, scores_of
