"""Tiny data sets, each with exactly the tree and the files of its layout in `docs/datasets.md`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.support.clips import write_video
from vis_core.formats.davis import write_label_map
from vis_core.masks import rle

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
_SIZE = (24, 32)


@dataclasses.dataclass(frozen=True)
class Clip:
    """Frames of one colour each, so that JPEG keeps them; rectangles that move and never meet."""

    name: str
    frames: np.ndarray  # (T, H, W, 3)
    masks: np.ndarray  # (N, T, H, W)
    labels: tuple[int, ...]

    def texts(self, item: int) -> list[dict[str, Any] | None]:
        """Run lengths of one object, null where it is not seen."""
        size = list(self.masks.shape[2:])
        return [
            {"size": size, "counts": rle.encode(mask[None])[0].decode()} if mask.any() else None
            for mask in self.masks[item]
        ]


def make_clips(count: int = 2, num_frames: int = 5) -> list[Clip]:
    height, width = _SIZE
    clips = []
    for number in range(count):
        colors = np.random.default_rng([9, number]).integers(20, 236, (num_frames, 1, 1, 3))
        frames = np.broadcast_to(colors, (num_frames, height, width, 3)).astype(np.uint8)
        masks = np.zeros((2, num_frames, height, width), bool)
        for frame in range(num_frames):
            masks[0, frame, 2 + number : 9, frame : frame + 6] = True
            if frame != 1:  # the second object is away for a frame
                masks[1, frame, 12:20, 20 - frame : 28 - frame] = True
        clips.append(Clip(f"clip{number}", frames, masks, (3, 7)))
    return clips


def save_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=98, subsampling=0)


def save_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def ytvis_document(clips: list[Clip], name: str = "{:05d}.jpg", step: int = 1) -> dict[str, Any]:
    """YouTube-VIS JSON; `name` is that of a frame, `step` what numbers count in."""
    videos, annotations = [], []
    for number, clip in enumerate(clips, 1):
        num_frames, height, width = clip.masks.shape[1:]
        files = [f"{clip.name}/{name.format(step * frame)}" for frame in range(num_frames)]
        videos.append(
            {
                "id": number,
                "width": width,
                "height": height,
                "length": num_frames,
                "file_names": files,
            }
        )
        for item, label in enumerate(clip.labels):
            seen = clip.masks[item].any(axis=(1, 2))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": number,
                    "category_id": label,
                    "iscrowd": 0,
                    "segmentations": clip.texts(item),
                    "bboxes": [[0, 0, 1, 1] if there else None for there in seen],
                    "areas": [
                        int(m.sum()) if there else None
                        for m, there in zip(clip.masks[item], seen, strict=True)
                    ],
                }
            )
    return {
        "info": {},
        "videos": videos,
        "annotations": annotations,
        "categories": CATEGORIES,
    }


def save_frames(folder: Path, clips: list[Clip], name: str = "{:05d}.jpg") -> None:
    for clip in clips:
        for frame, pixels in enumerate(clip.frames):
            save_image(folder / clip.name / name.format(frame), pixels)


def write_ytvis(root: Path, clips: list[Clip]) -> None:
    save_frames(root / "JPEGImages", clips)
    save_json(root / "instances.json", ytvis_document(clips))


def write_ovis(root: Path, clips: list[Clip]) -> None:
    save_frames(root / "train", clips, "img_{:07d}.jpg")
    save_json(root / "annotations_train.json", ytvis_document(clips, "img_{:07d}.jpg"))


def write_uvo(root: Path, clips: list[Clip]) -> None:
    """Dense videos as images."""
    save_frames(root / "uvo_videos_dense_frames", clips, "{}.png")
    document = ytvis_document(clips, "{}.png")
    save_json(root / "VideoDenseSet" / "UVO_video_train_dense.json", document)


def write_uvo_movies(root: Path, clips: list[Clip], step: int) -> None:
    """Sparse videos as MP4: the file has `step` times as many frames as are annotated."""
    folder = root / "uvo_videos_sparse"
    folder.mkdir(parents=True)
    for clip in clips:
        frames = np.repeat(clip.frames, step, axis=0)
        frames[np.arange(len(frames)) % step > 0] = 0  # what is between is black
        write_video(folder / f"{clip.name}.mp4", frames, codec="libx264", gop=4)
    document = ytvis_document(clips, "{}.png", step)
    save_json(root / "VideoSparseSet" / "UVO_video_train_sparse.json", document)


def write_uvo_images(root: Path, clips: list[Clip]) -> None:
    """The set of single frames, which is written as COCO is."""
    for clip in clips:
        save_image(root / "uvo_videos_frames" / f"{clip.name}_0.png", clip.frames[0])
    document = coco_document(clips, "{}_0.png")
    save_json(root / "FrameSet" / "UVO_frame_train.json", document)


def coco_document(clips: list[Clip], name: str = "{}.jpg") -> dict[str, Any]:
    """First frames: the first object as a polygon, the second as run lengths and a crowd."""
    images, annotations = [], []
    for number, clip in enumerate(clips, 1):
        height, width = clip.masks.shape[2:]
        file = name.format(clip.name)
        images.append({"id": 100 + number, "file_name": file, "width": width, "height": height})
        crowd = clip.masks[1, 0].astype(np.uint8).ravel(order="F")
        edges = np.flatnonzero(np.diff(crowd, prepend=0, append=0)).tolist()
        counts = np.diff([0, *edges, crowd.size]).tolist()
        for segmentation, flag in (
            ([rectangle(clip.masks[0, 0])], 0),
            ({"size": [height, width], "counts": counts}, 1),
        ):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 100 + number,
                    "category_id": clip.labels[flag],
                    "iscrowd": flag,
                    "bbox": [0, 0, 5, 5],
                    "area": 25,
                    "segmentation": segmentation,
                }
            )
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def rectangle(mask: np.ndarray) -> list[float]:
    """The outline of a mask that is a rectangle."""
    y, x = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    x0, y0, x1, y1 = int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1
    return [x0, y0, x1, y0, x1, y1, x0, y1]


def write_coco(root: Path, clips: list[Clip]) -> None:
    for clip in clips:
        save_image(root / "images" / "train2017" / f"{clip.name}.jpg", clip.frames[0])
    save_json(root / "annotations" / "instances_train2017.json", coco_document(clips))


def label_map(clip: Clip, frame: int) -> np.ndarray:
    """(H, W) 0 for background, objects from 1, a row of void at the bottom."""
    numbers = np.arange(1, len(clip.masks) + 1)[:, None, None]
    found = (clip.masks[:, frame] * numbers).max(axis=0)
    found[-1] = 255
    return found


def write_davis(root: Path, clips: list[Clip]) -> None:
    for clip in clips:
        for frame, pixels in enumerate(clip.frames):
            save_image(root / "JPEGImages" / "480p" / clip.name / f"{frame:05d}.jpg", pixels)
            path = root / "Annotations_unsupervised" / "480p" / clip.name / f"{frame:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_label_map(path, label_map(clip, frame))
    lists = root / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"{clip.name}\n" for clip in clips))
    (lists / "val.txt").write_text(f"{clips[-1].name}\n")


def write_voc(root: Path, clips: list[Clip]) -> None:
    (root / "SegmentationObject").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    for clip in clips:
        save_image(root / "JPEGImages" / f"{clip.name}.jpg", clip.frames[0])
        write_label_map(root / "SegmentationObject" / f"{clip.name}.png", label_map(clip, 0))
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text(f"{clips[0].name}\n")


def write_open_images(root: Path, clips: list[Clip]) -> None:
    """The second mask has twice the resolution of its image."""
    (root / "masks").mkdir(parents=True)
    for clip in clips:
        save_image(root / "images" / f"{clip.name}.jpg", clip.frames[0])
        for item, label in enumerate(("m0k4j", "m01yrx")):
            mask = clip.masks[item, 0].repeat(item + 1, axis=0).repeat(item + 1, axis=1)
            image = Image.fromarray(mask.astype(np.uint8) * 255).convert("1")
            image.save(root / "masks" / f"{clip.name}_{label}_ab12cd3{item}.png")


def sav_document(clip: Clip) -> dict[str, Any]:
    """Every fourth frame; an object that is not seen has an empty mask."""
    num_frames, height, width = clip.masks.shape[1:]
    return {
        "video_id": clip.name,
        "video_duration": num_frames / 24,
        "video_frame_count": float(num_frames),
        "video_height": float(height),
        "video_width": float(width),
        "video_split": "train",
        "masklet": [
            [
                {"size": [height, width], "counts": text.decode()}
                for text in rle.encode(clip.masks[:, frame])
            ]
            for frame in range(0, num_frames, 4)
        ],
        "masklet_id": list(range(len(clip.masks))),
        "masklet_num": len(clip.masks),
    }


def write_sav(root: Path, clips: list[Clip]) -> None:
    folder = root / "sav_train" / "sav_000"
    folder.mkdir(parents=True)
    for clip in clips:
        write_video(folder / f"{clip.name}.mp4", clip.frames, codec="libx264", gop=4)
        save_json(folder / f"{clip.name}_manual.json", sav_document(clip))
