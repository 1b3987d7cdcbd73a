"""The propose_reduce predictor: objects of key frames, followed through a window of a video.

A window is seen as a whole. Its pictures wait as bytes at the network's size; features are computed
on the way; what leaves is a row per frame with a mask for every sequence that shows in it.

Shapes: O objects of a frame, H x W pixels of the padded picture.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from vis_core.masks import rle
from vis_core.models.heap import give_back
from vis_core.models.numerics import exact
from vis_core.models.place import best_device, place
from vis_core.models.seq_mask_rcnn.detect import DetectConfig
from vis_core.models.seq_mask_rcnn.files import from_weights
from vis_core.models.seq_mask_rcnn.inputs import InputSize, resized
from vis_core.models.seq_mask_rcnn.key_frames import MemoryPolicy, key_frames
from vis_core.models.seq_mask_rcnn.propagate import Found, Start, View, propagate
from vis_core.models.seq_mask_rcnn.rpn import ProposalConfig
from vis_core.models.seq_mask_rcnn.scores import class_scores_of_masks
from vis_core.models.seq_mask_rcnn.seq_prop import fit_masks
from vis_core.models.seq_mask_rcnn.window_frames import Seen, WindowFrames
from vis_core.models.weights import read_weights
from vis_core.systems.propose_reduce.config import ProposeReducePredictConfig
from vis_core.types import FrameBatch, FramePrediction
from vis_core.windows import ShardWindow

logger = logging.getLogger(__name__)

_LEVEL = 0.5  # from which a soft mask shows an object


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Shown:
    """Sequences that show in a frame."""

    proposals: npt.NDArray[np.int32]
    masks: list[bytes]
    class_scores_OK: npt.NDArray[np.float32]  # without the background


class ProposeReducePredictor:
    def __init__(self, config: ProposeReducePredictConfig) -> None:
        self._config = config
        self._device = best_device()
        weights = read_weights(config.weights)
        self._network, loaded = from_weights(weights, config.weights, config.network)
        for line in loaded.lines():
            logger.info("%s: %s", config.weights, line)
        place(self._network.eval(), self._device)
        trained = self._network.config
        if config.long_side_px is not None and config.short_side_px is not None:
            sides = config.long_side_px, config.short_side_px
        elif weights.about is None:
            sides = config.released_input
        else:
            sides = trained.long_side_px, trained.short_side_px
        self._inputs = InputSize(long_side_px=sides[0], short_side_px=sides[1])
        self._choosing = DetectConfig(
            score=config.min_score,
            overlap=config.box_overlap,
            most=config.max_objects,
            mask_overlap=config.highest_mask_overlap,
        )
        every, about = config.memory
        self._memory = MemoryPolicy(every=every, about=about)

    def predict(
        self, frames: Iterator[FrameBatch], window: ShardWindow
    ) -> Iterator[FramePrediction]:
        index: list[int] = []
        seconds: list[float] = []
        pictures: list[npt.NDArray[np.uint8]] = []
        size = (0, 0)
        for batch in frames:
            size = batch.frames.shape[1], batch.frames.shape[2]
            index += batch.frame_index.tolist()
            seconds += batch.pts_seconds.tolist()
            pictures += [np.array(resized(picture, self._inputs)) for picture in batch.frames]
        if not pictures:
            return
        with exact(self._config.cpu_threads):
            shown = self._shown(pictures, size)
        give_back()
        for position, number in enumerate(index):
            yield self._row(window, number, seconds[position], size, shown[position])

    def _shown(self, pictures: Sequence[npt.NDArray[np.uint8]], size: rle.Size) -> list[_Shown]:
        """What each frame of the window shows; sequences are numbered by key frame."""
        config, network = self._config, self._network
        seen = WindowFrames(network, pictures, config.batch_size, config.feature_bytes)
        starts = self._starts(seen, size)
        firsts = np.cumsum([0, *(len(start.masks_OHW) for start in starts)])

        def view(frame: int) -> View:
            features, query = seen[frame]
            return View(p2_1CHW=features.levels[0], query=query)

        parts: list[list[_Shown]] = [[] for _ in pictures]
        steps = propagate(network.prop_head, view, len(seen), starts, self._memory.step(len(seen)))
        for frame, of_frame in itertools.groupby(steps, lambda found: found.frame):
            together = list(of_frame)
            numbers = [
                np.arange(firsts[found.start], firsts[found.start + 1]) for found in together
            ]
            soft_OHW = torch.cat([self._masks_of(found, starts) for found in together])
            parts[frame].append(
                self._instances(seen[frame], np.concatenate(numbers), soft_OHW, size)
            )
        return [_merged(of_frame) for of_frame in parts]

    def _starts(self, seen: WindowFrames, size: rle.Size) -> list[Start]:
        config, network = self._config, self._network
        inside, canvas = self._inputs.resized(size), self._inputs.canvas(size)
        chosen = key_frames(len(seen), config.key_frames, config.preset)
        masks = {
            frame: network.objects(
                seen[frame].features, inside, canvas, ProposalConfig(), self._choosing
            )
            for frame in sorted(set(chosen))
        }
        return [Start(frame=frame, masks_OHW=masks[frame]) for frame in chosen]

    def _masks_of(self, found: Found, starts: Sequence[Start]) -> Tensor:
        """As found, but in the paper a key frame shows what was detected in it."""
        start = starts[found.start]
        if self._config.preset == "paper" and found.frame == start.frame:
            height, width = found.masks_OHW.shape[1:]
            return fit_masks(start.masks_OHW.to(found.masks_OHW), (height, width))
        return found.masks_OHW

    def _instances(
        self, seen: Seen, numbers: npt.NDArray[np.integer], soft_OHW: Tensor, size: rle.Size
    ) -> _Shown:
        visible_O, scores_OK = class_scores_of_masks(
            self._network, seen.features, soft_OHW >= _LEVEL
        )
        kept = visible_O.cpu().numpy()
        height, width = self._inputs.resized(size)
        return _Shown(
            proposals=numbers[kept].astype(np.int32),
            masks=_encoded(soft_OHW[visible_O, :height, :width], size, smooth=self._config.smooth),
            class_scores_OK=scores_OK[visible_O, 1:].float().cpu().numpy(),
        )

    def _row(
        self, window: ShardWindow, frame: int, seconds: float, size: rle.Size, shown: _Shown
    ) -> FramePrediction:
        best = shown.class_scores_OK.argmax(axis=1)
        return FramePrediction(
            video_id=window.video.video_id,
            frame_index=frame,
            pts_seconds=seconds,
            height=size[0],
            width=size[1],
            scores=shown.class_scores_OK[np.arange(len(best)), best],
            labels=(best + 1).astype(np.int32),
            boxes=rle.boxes(shown.masks, size),
            masks=shown.masks,
            class_scores=shown.class_scores_OK,
            proposals=shown.proposals,
            window=window.window,
        )


def _merged(parts: Sequence[_Shown]) -> _Shown:
    """What the way up and the way down found of a frame, in order of the sequences."""
    numbers = np.concatenate([part.proposals for part in parts] or [np.zeros(0, np.int32)])
    order = np.argsort(numbers, kind="stable")
    masks = [mask for part in parts for mask in part.masks]
    scores = [part.class_scores_OK for part in parts] or [np.zeros((0, 1), np.float32)]
    return _Shown(
        proposals=numbers[order],
        masks=[masks[i] for i in order],
        class_scores_OK=np.concatenate(scores)[order],
    )


def _encoded(soft_OHW: Tensor, size: rle.Size, *, smooth: bool) -> list[bytes]:
    """Run lengths at the video's size, one mask at a time, since many large ones fill memory."""
    found = []
    for soft_HW in soft_OHW:
        values = soft_HW if smooth else (soft_HW >= _LEVEL).to(soft_HW)
        if values.shape != size:
            values = functional.interpolate(values[None, None], size=size, mode="bilinear")[0, 0]
        shows = values >= _LEVEL if smooth else values > _LEVEL
        found += rle.encode(shows[None].cpu().numpy())
    return found
