"""IDOL's network on frames, each for itself: instances, embeddings, masks of those worth one.

Shape letters: B frames of a batch, Q queries, K categories, N instances.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert

from vis_core.masks import rle
from vis_core.models.idol.attention import Size
from vis_core.models.idol.files import from_weights
from vis_core.models.idol.pictures import full_masks, input_size, resized
from vis_core.models.idol.selection import select_queries
from vis_core.models.numerics import exact
from vis_core.models.place import best_device
from vis_core.models.slots import SlottedFrame, calls, filled
from vis_core.models.weights import read_weights
from vis_core.shipped import file_of
from vis_core.systems.idol.config import IdolPredictConfig
from vis_core.types import FrameBatch, FramePrediction
from vis_core.windows import ShardWindow

logger = logging.getLogger(__name__)


class Found(NamedTuple):
    """The N instances of a frame, best first; mask logits are of the network's grid."""

    class_scores_NK: Tensor
    boxes_N4: Tensor  # (cx, cy, w, h), shares of the frame
    embeddings_NC: Tensor
    logits_Nhw: Tensor


class IdolPredictor:
    """Every call of the network has the same shape, and every frame its slot in it."""

    def __init__(self, config: IdolPredictConfig) -> None:
        self._config = config
        self._device = best_device()
        path = file_of(config.weights)
        self._network, settings = from_weights(read_weights(path), path)
        self._network.to(self._device)
        self._short_side = config.short_side_px or settings.short_side_px
        self._long_edge = config.long_edge_cap or settings.long_edge_cap
        logger.info(
            "idol on %s: short side %d px, long edge at most %d px",
            *(self._device, self._short_side, self._long_edge),
        )

    def predict(
        self, frames: Iterator[FrameBatch], window: ShardWindow
    ) -> Iterator[FramePrediction]:
        for call in calls(frames, self._config.batch_size):
            owned = [frame for frame in call if window.owns(frame.frame_index)]
            if owned:
                with exact(self._config.cpu_threads):
                    rows = self._rows(owned, window)
                yield from rows

    def _rows(self, frames: Sequence[SlottedFrame], window: ShardWindow) -> list[FramePrediction]:
        small = input_size(frames[0].size, self._short_side, self._long_edge)
        pictures = [resized(frame.pixels, small).to(self._device) for frame in frames]
        slots = [frame.slot for frame in frames]
        found = self.detect(filled(pictures, slots, self._config.batch_size), slots)
        return [_row(window, *of_one, small) for of_one in zip(frames, found, strict=True)]

    def detect(self, batch: Sequence[Tensor], wanted: Sequence[int]) -> list[Found]:
        """Of the wanted ones of B pictures (3, H, W) of one size."""
        network, config = self._network, self._config
        decoded = network(batch)
        scores_BQK = network.class_logits(decoded).sigmoid()
        boxes_BQ4 = network.boxes(decoded)
        embeddings_BQC = network.embeddings(decoded.hidden[-1])
        features = network.mask_features(decoded)
        nothing = torch.zeros(0, dtype=torch.long, device=self._device)
        chosen = [
            select_queries(scores_BQK[i], boxes_BQ4[i], config.emit_floor, config.nms)
            if i in wanted
            else nothing
            for i in range(len(batch))
        ]
        sizes = [(int(picture.shape[1]), int(picture.shape[2])) for picture in batch]
        masks = network.masks(decoded, features, sizes, chosen)
        return [
            Found(
                class_scores_NK=scores_BQK[i, chosen[i]],
                boxes_N4=boxes_BQ4[i, chosen[i]],
                embeddings_NC=embeddings_BQC[i, chosen[i]],
                logits_Nhw=masks[i],
            )
            for i in wanted
        ]


def _row(window: ShardWindow, frame: SlottedFrame, found: Found, small: Size) -> FramePrediction:
    class_scores_NK = found.class_scores_NK.cpu().numpy().astype(np.float32)
    height, width = frame.size
    corners = box_convert(found.boxes_N4.cpu(), "cxcywh", "xyxy").clamp(0, 1)
    boxes = corners.numpy() * np.array([width, height] * 2, np.float32)
    embeddings = found.embeddings_NC.cpu().numpy().astype(np.float16)  # as they are stored
    return FramePrediction(
        video_id=window.video.video_id,
        frame_index=frame.frame_index,
        pts_seconds=frame.pts_seconds,
        height=height,
        width=width,
        scores=class_scores_NK.max(1),
        labels=(class_scores_NK.argmax(1) + 1).astype(np.int32),
        boxes=boxes.astype(np.float32),
        masks=rle.encode(full_masks(found.logits_Nhw, small, frame.size)),
        class_scores=class_scores_NK,
        embeddings=embeddings.astype(np.float32),
        window=window.window,
    )
