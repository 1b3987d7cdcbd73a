"""The released tracker of flow_match as plain loops: dense masks, and whole frames warped."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from tests.support.golden import GoldenTrack
from vis_core.masks import rle
from vis_core.types import FlowField, FramePrediction


@dataclasses.dataclass(kw_only=True, eq=False)
class Track:
    """A track; it has a mask, detected or warped, for each row from `start` on."""

    start: int
    stop: int
    masks: list[np.ndarray]
    frames: list[int]
    score: float
    misses: int = 0


def link_flow_match(
    predictions: Sequence[FramePrediction],
    *,
    max_masks: int = 100,
    nms: float = 0.7,
    match: float = 0.5,
    patience: int = 5,
    min_len: int = 5,
) -> list[GoldenTrack]:
    """Tracks of the rows given, in frame order."""
    live: list[Track] = []
    dead: list[Track] = []
    previous: FramePrediction | None = None
    for row, prediction in enumerate(predictions):
        size = (prediction.height, prediction.width)
        found = _detections(prediction, max_masks, nms)
        taken = set()
        dx, dy = flow_at_pixels(previous.flow if previous else None, size)
        for track in list(live):
            warped = warp(track.masks[-1], dx, dy)
            values = [_iou(warped, mask) for _, mask in found]
            best = int(np.argmax(values)) if values else -1
            if best >= 0 and values[best] > match:
                instance, mask = found[best]
                taken.add(best)
                track.masks.append(mask)
                track.frames.append(prediction.frame_index)
                track.score += float(prediction.scores[instance])
                track.stop, track.misses = row + 1, 0
            elif track.misses + 1 > patience:
                live.remove(track)
                dead.append(track)
            else:
                track.misses += 1
                track.masks.append(warped)
                track.frames.append(prediction.frame_index)
        live.sort(key=lambda track: (-(track.stop - track.start), -track.score))
        kept: list[Track] = []
        for track in [track for track in live if track.misses == 0]:
            if any(_iou(other.masks[-1], track.masks[-1]) > nms for other in kept):
                track.stop = row - 1
                live.remove(track)
                dead.append(track)
            else:
                kept.append(track)
        for position, (instance, mask) in enumerate(found):
            if position not in taken and mask.any():
                live.append(
                    Track(
                        start=row,
                        stop=row + 1,
                        masks=[mask],
                        frames=[prediction.frame_index],
                        score=float(prediction.scores[instance]),
                    )
                )
        previous = prediction
    return [_result(track) for track in [*live, *dead] if track.stop - track.start >= min_len]


def _result(track: Track) -> GoldenTrack:
    length = track.stop - track.start
    parts = zip(track.frames[:length], track.masks[:length], strict=True)
    return GoldenTrack(
        masks={frame: mask for frame, mask in parts if mask.any()},
        label=1,
        score=length * track.score,
        class_scores=None,
    )


def _detections(
    prediction: FramePrediction, max_masks: int, nms: float
) -> list[tuple[int, np.ndarray]]:
    masks = rle.decode(prediction.masks, (prediction.height, prediction.width))
    kept: list[tuple[int, np.ndarray]] = []
    for instance in np.argsort(-prediction.scores, kind="stable").tolist():
        if len(kept) < max_masks and all(_iou(masks[instance], m) <= nms for _, m in kept):
            kept.append((instance, masks[instance]))
    return kept


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / ((a | b).sum() + 1e-6)


def flow_at_pixels(flow: FlowField | None, size: rle.Size) -> tuple[np.ndarray, np.ndarray]:
    """dx and dy at every pixel: bilinear between the middles of the stored cells."""
    if flow is None:
        return np.zeros(size, np.float32), np.zeros(size, np.float32)
    num_rows, num_columns = flow.dxdy.shape[1:]
    y = np.clip((np.arange(size[0]) + 0.5) * (num_rows / size[0]) - 0.5, 0, num_rows - 1)
    x = np.clip((np.arange(size[1]) + 0.5) * (num_columns / size[1]) - 0.5, 0, num_columns - 1)
    top, left = y.astype(int), x.astype(int)
    bottom = np.minimum(top + 1, num_rows - 1)
    right = np.minimum(left + 1, num_columns - 1)
    down = (y - top).astype(np.float32)[:, None]
    along = (x - left).astype(np.float32)
    fields = []
    for values in flow.dxdy.astype(np.float32):
        rows = values[top] + down * (values[bottom] - values[top])
        fields.append(rows[:, left] + along * (rows[:, right] - rows[:, left]))
    return fields[0], fields[1]


def warp(mask: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """The whole frame, sampled bilinearly at (x - dx, y - dy) on a grid of 1/32 pixel."""
    height, width = mask.shape
    rows, columns = np.indices(mask.shape, np.float32)
    x = np.rint((columns - dx) * np.float32(32)).astype(np.int64)
    y = np.rint((rows - dy) * np.float32(32)).astype(np.int64)
    weight = np.zeros(mask.shape, np.int64)
    for down in (0, 1):
        for right in (0, 1):
            there_y, there_x = (y >> 5) + down, (x >> 5) + right
            inside = (there_y >= 0) & (there_y < height) & (there_x >= 0) & (there_x < width)
            value = mask[np.clip(there_y, 0, height - 1), np.clip(there_x, 0, width - 1)] & inside
            share_y = y & 31 if down else 32 - (y & 31)
            share_x = x & 31 if right else 32 - (x & 31)
            weight += value * share_y * share_x
    return weight >= 512
