"""What a job would do, before it does it: `reelmask train --dry-run`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vis_core.data.sample import Sample
from vis_core.models.weights import load_into, read_weights
from vis_core.render.palette import track_color
from vis_core.training.data import open_data
from vis_core.training.groups import freeze, parameter_groups
from vis_core.training.job import TrainJob
from vis_core.training.schedule import lr_factor

_PICTURES = 12  # clips at most
_HEIGHT = 240  # of each frame in the picture


def preview(job: TrainJob) -> tuple[list[str], npt.NDArray[np.uint8]]:
    """Lines to print, and the first batch as the network will see it."""
    data = open_data(job)
    torch.manual_seed(job.loop.seed)
    module = job.recipe.module(job.network, job.learning, data.categories)
    network = module.get_submodule("network")
    lines = [f"recipe {job.recipe.name}, {len(data.categories)} categories"]
    for data_set, config in zip(data.data_sets, job.data, strict=True):
        frames = sum(len(video.annotated) for video in data_set.videos)
        lines.append(
            f"data: {data_set.name}, {len(data_set.videos)} videos, {frames} annotated frames,"
            f" weight {config.weight:g}"
        )
    if job.start is not None:
        kept = load_into(network, read_weights(job.start.weights).tensors, job.start.reset)
        lines += [f"start: {line}" for line in kept.lines()]
    frozen = freeze(network, job.loop.freeze)
    lines.append(f"{len(frozen)} parameters frozen" + (f": {', '.join(frozen)}" if frozen else ""))
    lines += _groups(job, parameter_groups(network, job.optimizer, job.groups))
    lines += _schedule(job)
    clips = [data.clips.sample(n) for n in range(min(job.loop.batch_size, _PICTURES))]
    return lines, _picture(clips)


def _groups(job: TrainJob, groups: Sequence[dict[str, Any]]) -> Iterator[str]:
    for group in groups:
        number = sum(parameter.numel() for parameter in group["params"])
        yield (
            f"group {group['match']!r}: {len(group['params'])} parameters, {number:,} values, lr"
            f" {job.optimizer.lr * group['factor']:g}, weight decay {group['weight_decay']:g}"
        )
        yield f"  {', '.join(group['names'])}"


def _schedule(job: TrainJob) -> Iterator[str]:
    steps, warm = job.schedule.steps, job.schedule.warmup_steps
    images = job.loop.batch_size * job.loop.accumulate
    yield f"{steps} steps of {images} clips, {job.schedule.kind}; learning rate:"
    marks = {0, warm, *job.schedule.milestones, *(steps * i // 4 for i in range(4)), steps - 1}
    for step in sorted(step for step in marks if 0 <= step < steps):
        yield f"  step {step}: {job.optimizer.lr * lr_factor(step, job.schedule):.3g}"


def _picture(clips: Sequence[Sample]) -> npt.NDArray[np.uint8]:
    """A line per clip, its frames beside each other, masks tinted by identity."""
    rows = [np.concatenate(list(_frames(clip)), axis=1) for clip in clips]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows]
    return np.concatenate(padded)


def _frames(clip: Sample) -> Iterator[npt.NDArray[np.uint8]]:
    import cv2  # when it runs

    for frame, masks in zip(clip.frames, clip.masks, strict=True):
        drawn = frame.astype(np.float32)
        for position, mask in enumerate(masks):
            color = track_color(clip.video_id, int(clip.ids[position]))
            drawn[mask] = 0.5 * drawn[mask] + 0.5 * np.array(color, np.float32)
            inside = cv2.erode(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
            drawn[mask & ~inside] = color
        width = max(1, round(frame.shape[1] * _HEIGHT / frame.shape[0]))
        small = cv2.resize(drawn.astype(np.uint8), (width, _HEIGHT), interpolation=cv2.INTER_AREA)
        yield np.asarray(small, np.uint8)
