"""The truth about a clip: visible masks of every object, and their YouTube-VIS form.

A mask is what is really to be seen: hidden parts and parts outside the picture do not belong to
it, and less than a sliver counts as nothing. T frames, H x W pixels.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.data.synth.config import PRESETS, SynthConfig, use_of_seed
from vis_core.data.synth.raster import Patches
from vis_core.data.synth.scene import (
    SLIVER,
    Body,
    Footprint,
    Scene,
    footprint,
    paint,
    patches_of,
    runs,
)
from vis_core.masks import rle

# Counts up whenever the same seed gives other truth than before.
GENERATOR_VERSION = 1

_ROWS = 4  # sampled heights per pixel


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A scene at its real size: what each body covers, and which one is seen where."""

    scene: Scene
    patches: Sequence[Patches]  # one per body, from the lowest to the highest
    prints: Sequence[Footprint]
    canvas: npt.NDArray[np.int16]  # (T, W, H) index of the body that is seen

    def __repr__(self) -> str:
        return f"Drawing({self.scene!r})"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ObjectTruth:
    """One object; lists have one entry per frame, None where it is not to be seen."""

    number: int
    label: int  # category id, from 1
    family: str
    group: int  # look-alikes share it
    masks: Sequence[bytes | None]
    areas: npt.NDArray[np.int64]  # (T,) visible pixels, 0 where it is not to be seen
    whole_areas: npt.NDArray[np.float64]  # (T,) pixels if nothing hid or cut it, 0 before and after
    centers: npt.NDArray[np.float64]  # (T, 2) x, y of its middle in pixels, seen or not


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipTruth:
    """The truth of one clip."""

    config: SynthConfig
    seed: int
    objects: Sequence[ObjectTruth]

    def __repr__(self) -> str:
        return f"ClipTruth({self.config.preset}, seed {self.seed}, {len(self.objects)} objects)"


def draw(scene: Scene) -> Drawing:
    """Finds out what covers what at the real size of the picture."""
    size, num_frames = scene.config.size, scene.config.num_frames
    patches = [patches_of(body, scene.camera, rows=_ROWS) for body in scene.bodies]
    prints = [
        footprint(patch, body.start, num_frames, size)
        for patch, body in zip(patches, scene.bodies, strict=True)
    ]
    canvas = paint(prints, num_frames, size)
    return Drawing(scene=scene, patches=patches, prints=prints, canvas=canvas)


def truth_of(drawing: Drawing) -> ClipTruth:
    """Visible masks of the objects of a drawing that are to be seen at all."""
    scene = drawing.scene
    index_of = {id(body): index for index, body in enumerate(scene.bodies)}
    objects = [_object(drawing, body, index_of[id(body)]) for body in scene.objects]
    return ClipTruth(
        config=scene.config,
        seed=scene.seed,
        objects=[item for item in objects if item.areas.any()],
    )


def _object(drawing: Drawing, body: Body, index: int) -> ObjectTruth:
    config, camera = drawing.scene.config, drawing.scene.camera
    print_ = drawing.prints[index]
    seen = drawing.canvas.reshape(-1)[print_.pixels] == index
    areas = np.bincount(print_.frames[seen], minlength=config.num_frames)
    enough = areas >= SLIVER * config.px_per_unit * config.px_per_unit
    seen &= enough[print_.frames]
    frames = np.arange(config.num_frames)
    zero = np.zeros(1)
    x, y = camera.to_picture(*body.pose.to_scene(zero, zero, frames), frames, 1.0)
    sides = body.pose.size * camera.zoom * config.px_per_unit
    alive = (frames >= body.start) & (frames < body.stop)
    return ObjectTruth(
        number=body.number,
        label=body.label,
        family=body.family,
        group=body.group,
        masks=_masks(print_.pixels[seen], enough, config.size),
        areas=np.where(enough, areas, 0),
        whole_areas=np.where(alive, sides * sides, 0.0),
        centers=np.stack([x, y], axis=1),
    )


def _masks(
    pixels: npt.NDArray[np.int64], seen: npt.NDArray[np.bool_], size: rle.Size
) -> list[bytes | None]:
    """Masks from ascending canvas positions, one per frame that has any."""
    area = size[0] * size[1]
    edges = np.flatnonzero(
        np.concatenate([[True], (np.diff(pixels) > 1) | (np.diff(pixels // area) > 0), [True]])
    )
    first, last = pixels[edges[:-1]], pixels[edges[1:] - 1]
    frames = np.flatnonzero(seen)
    start = first % area
    counts = rle.encode_intervals(
        np.searchsorted(frames, first // area), start, start + last - first + 1, len(frames), size
    )
    masks: list[bytes | None] = [None] * len(seen)
    for frame, mask in zip(frames.tolist(), counts, strict=True):
        masks[frame] = mask
    return masks


# --- YouTube-VIS ----------------------------------------------------------------------------------


def video_entry(clip: ClipTruth, video_id: str, number: int) -> dict[str, Any]:
    """One row of `videos`; `video_id` is what `reelmask label` calls the file."""
    config = clip.config
    return {
        "id": number,
        "video_id": video_id,
        "seed": clip.seed,
        "height": config.height,
        "width": config.width,
        "length": config.num_frames,
        "file_names": [f"{video_id}/{frame:05d}.jpg" for frame in range(config.num_frames)],
    }


def annotation_entries(clip: ClipTruth, number: int, first_id: int) -> list[dict[str, Any]]:
    """Rows of `annotations`; beyond the format, `look_alikes` and `visibility` of each frame."""
    return [_annotation(clip, item, number, first_id + i) for i, item in enumerate(clip.objects)]


def _annotation(clip: ClipTruth, item: ObjectTruth, number: int, row_id: int) -> dict[str, Any]:
    size = clip.config.size
    masks = [mask for mask in item.masks if mask is not None]
    boxes = iter(rle.boxes(masks, size).astype(int).tolist())
    seen = [mask is not None for mask in item.masks]
    return {
        "id": row_id,
        "video_id": number,
        "category_id": item.label,
        "iscrowd": 0,
        "height": size[0],
        "width": size[1],
        "length": len(seen),
        "look_alikes": item.group,
        "areas": [int(area) if ok else None for area, ok in zip(item.areas, seen, strict=True)],
        "bboxes": [_xywh(next(boxes)) if ok else None for ok in seen],
        "visibility": visibility(item),
        "segmentations": [
            None if mask is None else {"size": list(size), "counts": mask.decode()}
            for mask in item.masks
        ],
    }


def _xywh(box: list[int]) -> list[int]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def visibility(item: ObjectTruth) -> list[float | None]:
    """Share of the whole object that is seen, in hundredths; None where it does not exist."""
    return [
        min(math.floor(100 * area / whole + 0.5), 100) / 100 if whole else None
        for area, whole in zip(item.areas.tolist(), item.whole_areas.tolist(), strict=True)
    ]


def absences(item: ObjectTruth) -> list[tuple[int, int]]:
    """Stretches [start, stop) without a mask, between the first and the last one."""
    seen = item.areas > 0
    stretches = runs(seen)
    return [(a[1], b[0]) for a, b in itertools.pairwise(stretches)]


def truth_document(
    config: SynthConfig,
    seed: int,
    videos: Sequence[dict[str, Any]],
    annotations: Sequence[dict[str, Any]],
) -> dict[str, Any]:
    """A whole truth file, of clips whose first one has this seed."""
    return {
        "info": {
            "description": f"reelmask synth, preset {config.preset}",
            "generator_version": GENERATOR_VERSION,
            "preset": config.preset,
            "use": use_of_seed(seed),
            "first_seed": seed,
            "num_videos": len(videos),
            "fps": config.fps,
        },
        "videos": list(videos),
        "annotations": list(annotations),
        "categories": [
            {"id": label, "name": name}
            for label, name in enumerate(PRESETS[config.preset].categories, 1)
        ],
    }


def video_id_of(index: int, num_videos: int) -> str:
    """`clip_0000`, …: names in the order of their numbers."""
    return f"clip_{index:0{max(4, len(str(num_videos - 1)))}d}"


def as_json(document: dict[str, Any]) -> bytes:
    """Compact, and the same bytes for the same content."""
    return json.dumps(document, separators=(",", ":")).encode()
