"""A clip's transform: what happens is drawn first, then done to each frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from vis_core.data.sample import BoolArray, Sample
from vis_core.data.transforms.color import ColorChange, change_colors, draw_change
from vis_core.data.transforms.config import TransformConfig
from vis_core.data.transforms.geometry import View, crop, fitted, flip, pad, resize, rotate
from vis_core.errors import UsageError

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """What is decided for a frame, or for all frames of a clip. Places are shares of the room."""

    cropped: bool
    crop_short_side: int | None
    crop_size: tuple[float, float]  # 0 to 1 between the shortest and the longest
    crop_place: tuple[float, float]
    short_side: int
    scale: float | None
    flipped: bool
    window_place: tuple[float, float]
    colors: ColorChange


def transform(sample: Sample, config: TransformConfig, random: np.random.Generator) -> Sample:
    """The clip as the network sees it; instances that no frame shows any more are left out."""
    plans, angles = _plans(len(sample), config, random), _angles(sample, config)
    views = [
        _apply(view, plan, config, angle)
        for view, plan, angle in zip(_views(sample), plans, angles, strict=True)
    ]
    return _sample_of(sample, views)


def _plans(num_frames: int, config: TransformConfig, random: np.random.Generator) -> list[_Plan]:
    if config.consistency == "independent":
        return [_draw(config, random) for _ in range(num_frames)]
    shared = _draw(config, random)
    if not config.crop_moves:
        return [shared] * num_frames
    return [
        dataclasses.replace(shared, crop_size=_pair(random), crop_place=_pair(random))
        for _ in range(num_frames)
    ]


def _angles(sample: Sample, config: TransformConfig) -> Sequence[float]:
    if not (config.rotate_degrees and sample.repeats):
        return [0.0] * len(sample)
    if len(config.rotate_degrees) != len(sample):
        raise UsageError(
            f"rotate_degrees: expected an angle for each of a clip's {len(sample)} frames, got"
            f" {len(config.rotate_degrees)}"
        )
    return config.rotate_degrees


def _views(sample: Sample) -> list[View]:
    valid: Sequence[BoolArray | None] = sample.valid or [None] * len(sample)
    return [View(*parts) for parts in zip(sample.frames, sample.masks, valid, strict=True)]


def _draw(config: TransformConfig, random: np.random.Generator) -> _Plan:
    before = config.crop_short_side_px
    return _Plan(
        cropped=bool(random.random() < config.crop),
        crop_short_side=int(random.choice(before)) if before else None,
        crop_size=_pair(random),
        crop_place=_pair(random),
        short_side=int(random.choice(config.short_side_px)),
        scale=float(random.choice(config.scales)) if config.scales else None,
        flipped=bool(random.random() < config.flip),
        window_place=_pair(random),
        colors=draw_change(random, config.colors, config.gamma),
    )


def _pair(random: np.random.Generator) -> tuple[float, float]:
    first, second = random.random(2).tolist()
    return first, second


def _apply(view: View, plan: _Plan, config: TransformConfig, degrees: float) -> View:
    view = rotate(view, degrees)
    if plan.cropped:
        view = _cut_out(view, plan, config)
    if plan.scale is None:
        size = fitted(view.size, plan.short_side, config.long_side_px)
    else:
        height, width = (max(1, round(side * plan.scale)) for side in view.size)
        size = height, width
    view = resize(view, size)
    if plan.flipped:
        view = flip(view)
    if config.window_px:
        window = config.window_px[0], config.window_px[1]
        view = pad(view, window)
        view = crop(view, *_place(view.size, window, plan.window_place), window)
    return View(change_colors(view.picture, plan.colors), view.masks, view.valid)


def _cut_out(view: View, plan: _Plan, config: TransformConfig) -> View:
    """A part whose sides are drawn apart, each no longer than the frame's."""
    if plan.crop_short_side is not None:
        view = resize(view, fitted(view.size, plan.crop_short_side, config.long_side_px))
    height, width = (
        _between(min(side, config.crop_px[0]), min(side, config.crop_px[1]), share)
        for side, share in zip(view.size, plan.crop_size, strict=True)
    )
    return crop(view, *_place(view.size, (height, width), plan.crop_place), (height, width))


def _between(low: int, high: int, share: float) -> int:
    """A whole number from low to high, both equally likely with the others."""
    return low + int(share * (high - low + 1))


def _place(size: Size, part: Size, share: tuple[float, float]) -> tuple[int, int]:
    y0, x0 = (
        _between(0, whole - own, where) for whole, own, where in zip(size, part, share, strict=True)
    )
    return y0, x0


def _sample_of(sample: Sample, views: list[View]) -> Sample:
    masks = [np.ascontiguousarray(view.masks) for view in views]
    kept = np.stack([some.any(axis=(1, 2)) for some in masks]).any(axis=0)
    whole = all(view.valid is None for view in views)
    return dataclasses.replace(
        sample,
        frames=[np.ascontiguousarray(view.picture) for view in views],
        masks=[some[kept] for some in masks],
        labels=sample.labels[kept],
        ids=sample.ids[kept],
        crowd=sample.crowd[kept],
        valid=(
            None
            if whole
            else [np.ones(v.size, bool) if v.valid is None else v.valid.copy() for v in views]
        ),
    )
