"""Clips in memory: truth alone in a tenth of a second, or frames and truth."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.data.synth.config import SynthConfig, check_seeds, use_of_seed
from vis_core.data.synth.difficulty import ClipMeasures, measure
from vis_core.data.synth.stage import make_scene
from vis_core.data.synth.truth import (
    ClipTruth,
    annotation_entries,
    draw,
    truth_document,
    truth_of,
    video_entry,
    video_id_of,
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One clip as it is before compression."""

    frames: npt.NDArray[np.uint8]  # (T, H, W, 3) RGB
    truth: ClipTruth

    def __repr__(self) -> str:
        return f"Clip({self.frames.shape}, {self.truth!r})"


def generate_clip(config: SynthConfig, seed: int) -> Clip:
    """Frames and truth of one clip."""
    from vis_core.data.synth.render import render_frames  # OpenCV, which truth does not need

    use_of_seed(seed)
    drawing = draw(make_scene(config, seed))
    return Clip(frames=np.stack(list(render_frames(drawing))), truth=truth_of(drawing))


def generate_truth(config: SynthConfig, seed: int) -> ClipTruth:
    """The truth of one clip, without drawing a pixel."""
    use_of_seed(seed)
    return truth_of(draw(make_scene(config, seed)))


def measured_truth(config: SynthConfig, seed: int) -> tuple[ClipTruth, ClipMeasures]:
    """The truth of one clip, and how hard it is."""
    use_of_seed(seed)
    drawing = draw(make_scene(config, seed))
    truth = truth_of(drawing)
    return truth, measure(drawing, truth)


def generate_truth_file(config: SynthConfig, seed: int, num_videos: int) -> dict[str, Any]:
    """The content of the `truth.json` that `write_data_set` writes, without the videos."""
    check_seeds(seed, num_videos)
    videos: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(num_videos):
        clip = generate_truth(config, seed + index)
        videos.append(video_entry(clip, video_id_of(index, num_videos), index + 1))
        annotations += annotation_entries(clip, index + 1, len(annotations) + 1)
    return truth_document(config, seed, videos, annotations)
