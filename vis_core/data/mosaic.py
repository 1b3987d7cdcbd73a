"""Windows of many clips side by side in one: many instances, and little of what is between them.

L frames of a clip, N instances, S pixels of a window's side, T windows in a row, and rows.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from vis_core.config import check, setting
from vis_core.data.sample import BoolArray, Sample
from vis_core.errors import UsageError

_FILLS = 0.9  # of a window's side is the most that an instance may take to have one
_MOVES = 0.25  # of its side a window is moved at most from where it would be centred
_SEEN = 0.3  # of an instance's pixels in a frame must be within a window to count as seen there


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MosaicConfig:
    """Each frame of a clip has the windows in another order: nothing stays where it was."""

    window_px: int = setting(
        low=16,
        high=4096,
        says="Side of a window. Too small shows small instances alone, too large much background.",
    )
    tiles: int = setting(low=1, high=64, says="Windows in a row, and rows.")

    def __post_init__(self) -> None:
        check(self)

    @property
    def windows(self) -> int:
        return self.tiles**2


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Window:
    frames: list[npt.NDArray[np.uint8]]  # L of (S, S, 3)
    masks: list[BoolArray]  # L of (n, S, S), of those that are seen
    chosen: npt.NDArray[np.int64]  # (n,) which of the clip's instances these are
    of: Sample


def mosaic(clips: Iterable[Sample], config: MosaicConfig, random: np.random.Generator) -> Sample:
    """One clip of windows of these; clips are asked for until there are enough windows."""
    windows = list(
        itertools.islice(
            (window for clip in clips for window in _windows(clip, config.window_px, random)),
            config.windows,
        )
    )
    if len(windows) < config.windows:
        raise ValueError(f"clips: expected {config.windows} windows, got {len(windows)}")
    length = len(windows[0].frames)
    side, tiles = config.window_px, config.tiles
    number = sum(len(window.chosen) for window in windows)
    frames = [np.zeros((tiles * side, tiles * side, 3), np.uint8) for _ in range(length)]
    masks = [np.zeros((number, tiles * side, tiles * side), bool) for _ in range(length)]
    for position in range(length):
        first = 0
        for window, cell in zip(windows, random.permutation(config.windows).tolist(), strict=True):
            row, column = divmod(cell, tiles)
            rows, columns = (slice(at * side, (at + 1) * side) for at in (row, column))
            frames[position][rows, columns] = window.frames[position]
            here = slice(first, first + len(window.chosen))
            masks[position][here, rows, columns] = window.masks[position]
            first = here.stop
    return Sample(
        video_id=windows[0].of.video_id,
        frame_index=windows[0].of.frame_index,
        frames=frames,
        masks=masks,
        labels=np.concatenate([window.of.labels[window.chosen] for window in windows]),
        ids=np.arange(number),
        crowd=np.concatenate([window.of.crowd[window.chosen] for window in windows]),
    )


def _windows(clip: Sample, side: int, random: np.random.Generator) -> Iterator[_Window]:
    """Around instances that every frame shows, in no order, and no instance in two of them.

    A clip without such an instance gives a window of whatever there is.
    """
    if min(min(frame.shape[:2]) for frame in clip.frames) < side:
        raise UsageError(
            f"mosaic: window_px: expected at most the shorter side of every frame, got {side} with"
            f" frames of {clip!r}"
        )
    boxes_LN4 = np.stack(clip.boxes())
    sides_LN = (boxes_LN4[..., 2:] - boxes_LN4[..., :2]).max(-1)
    fit_N = ((sides_LN > 0) & (sides_LN <= _FILLS * side)).all(0) & ~clip.crowd
    areas_LN = np.stack([masks.sum(axis=(1, 2)) for masks in clip.masks])
    taken_N = np.zeros(len(clip.labels), bool)
    for instance in random.permutation(np.flatnonzero(fit_N)).tolist():
        middles_L2 = (boxes_LN4[:, instance, :2] + boxes_LN4[:, instance, 2:]) / 2
        window, near_N = _cut(clip, middles_L2, side, areas_LN, random)
        if not (near_N & taken_N).any():
            taken_N |= near_N
            yield window
    if not fit_N.any():
        sizes_L2 = np.array([[frame.shape[1], frame.shape[0]] for frame in clip.frames])
        window, _ = _cut(clip, random.random(2) * sizes_L2, side, areas_LN, random)
        yield window


def _cut(
    clip: Sample,
    middles_L2: npt.NDArray[np.floating],
    side: int,
    areas_LN: npt.NDArray[np.int64],
    random: np.random.Generator,
) -> tuple[_Window, BoolArray]:
    """A window around these points, and which instances have a pixel in it."""
    frames, masks, pixels = [], [], []
    for position, frame in enumerate(clip.frames):
        moved = middles_L2[position] + (random.random(2) * 2 - 1) * _MOVES * side
        starts = np.round(moved - side / 2).astype(np.int64)
        left, top = np.clip(starts, 0, [frame.shape[1] - side, frame.shape[0] - side]).tolist()
        rows, columns = slice(top, top + side), slice(left, left + side)
        frames.append(frame[rows, columns])
        masks.append(clip.masks[position][:, rows, columns])
        pixels.append(masks[-1].sum(axis=(1, 2)))
    pixels_LN = np.stack(pixels)
    seen_LN = pixels_LN > _SEEN * areas_LN
    chosen = np.flatnonzero(seen_LN.any(0))
    masks = [
        some[chosen] & seen[chosen, None, None] for some, seen in zip(masks, seen_LN, strict=True)
    ]
    near_N = np.asarray(pixels_LN.any(0))
    return _Window(frames=frames, masks=masks, chosen=chosen, of=clip), near_N
