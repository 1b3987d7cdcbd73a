"""flow_match with a trained detector: masks of a network, flow to the next row by DIS."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vis_core.flow.dis import DisFlow
from vis_core.masks import rle
from vis_core.models import mask_rcnn
from vis_core.models.numerics import exact
from vis_core.models.place import best_device
from vis_core.models.slots import SlottedFrame, calls, filled
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Instances:
    """Run lengths and scores of a frame's instances, best first."""

    masks: list[bytes]
    scores: npt.NDArray[np.float32]


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
        self._batch_size, self._threads = config.batch_size, config.cpu_threads

    def predict(
        self, frames: Iterator[FrameBatch], window: ShardWindow
    ) -> Iterator[FramePrediction]:
        flow, before = DisFlow(), None
        for call in calls(frames, self._batch_size):
            for found in self._detected(call, window):
                if before is not None:
                    step = step_between(before.sight, found.sight, flow, self._settings)
                    if window.owns(before.row.frame_index):
                        yield dataclasses.replace(before.row, flow=step.flow)
                before = found
        if before is not None and window.owns(before.row.frame_index):
            yield before.row

    def _detected(self, call: Sequence[SlottedFrame], window: ShardWindow) -> Iterator[_Found]:
        """Frames of the halo are only looked at for the flow that leads to them."""
        owned = [frame for frame in call if window.owns(frame.frame_index)]
        instances = dict(zip((frame.rank for frame in owned), self._instances(owned), strict=True))
        nothing = _Instances(masks=[], scores=np.zeros(0, np.float32))
        for frame in call:
            found = instances.get(frame.rank, nothing)
            yield _Found(
                sight=look(frame.pixels, self._settings),
                row=FramePrediction(
                    video_id=window.video.video_id,
                    frame_index=frame.frame_index,
                    pts_seconds=frame.pts_seconds,
                    height=frame.size[0],
                    width=frame.size[1],
                    scores=found.scores,
                    labels=np.ones(len(found.masks), np.int32),
                    boxes=rle.boxes(found.masks, frame.size),
                    masks=found.masks,
                    window=window.window,
                ),
            )

    def _instances(self, frames: Sequence[SlottedFrame]) -> list[_Instances]:
        """Of frames that share a call; empty masks are left out."""
        if not frames:
            return []
        slots = [frame.slot for frame in frames]
        with exact(self._threads):
            pictures = [self._picture(frame) for frame in frames]
            batch = filled(pictures, slots, self._batch_size)
            return [_kept(answer) for answer in mask_rcnn.detect(self._network, batch, slots)]

    def _picture(self, frame: SlottedFrame) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(frame.pixels)).to(self._device)
        return pixels.permute(2, 0, 1).float() / 255


def _kept(answer: Mapping[str, Tensor]) -> _Instances:
    masks_NHW = (answer["masks"][:, 0] > _MASK_LEVEL).cpu().numpy()
    masks = rle.encode(masks_NHW)
    kept = np.flatnonzero(rle.areas(masks, masks_NHW.shape[1:]))
    scores = answer["scores"].cpu().numpy()[kept].astype(np.float32)
    return _Instances(masks=[masks[i] for i in kept], scores=scores)
