"""Small videos of moving shapes, with their truth; the same bytes for the same seed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import av
import numpy as np

from vis_core.masks import rle

CATEGORIES = ({"id": 1, "name": "box"}, {"id": 2, "name": "disc"})
FPS = 10


def write_clips(
    folder: str | Path,
    num_videos: int,
    *,
    num_frames: int = 20,
    size: tuple[int, int] = (48, 64),
    seed: int = 0,
    codec: str = "libx264",
    gop: int = 8,
) -> list[Path]:
    """Writes `clip_0000.mp4`, … and `truth.json`; returns the videos' paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    truth: dict[str, Any] = {"videos": [], "annotations": [], "categories": list(CATEGORIES)}
    paths = []
    for index in range(num_videos):
        frames, shapes, visible = _render(np.random.default_rng([seed, index]), num_frames, size)
        path = folder / f"clip_{index:04d}.mp4"
        write_video(path, frames, codec=codec, gop=gop)
        _annotate(truth, path.stem, shapes, visible)
        paths.append(path)
    (folder / "truth.json").write_text(json.dumps(truth))
    return paths


def write_video(path: Path, frames: np.ndarray, *, codec: str, gop: int) -> None:
    """Encodes (T, H, W, 3) RGB frames at `FPS`, one thread, so that bytes do not vary."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = gop
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "16"}
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


@dataclasses.dataclass(frozen=True)
class Shape:
    """One object: what it looks like, how it moves, and from when to when it is there."""

    disc: bool
    color: np.ndarray  # (3,)
    extent: np.ndarray  # (2,) height, width
    start: np.ndarray  # (2,) y, x
    speed: np.ndarray  # (2,) pixels per frame
    born: int
    dies: int

    def mask(self, frame: int, size: tuple[int, int]) -> np.ndarray:
        """(H, W) its pixels if nothing hid them."""
        if not self.born <= frame < self.dies:
            return np.zeros(size, bool)
        room = np.maximum(np.array(size) - self.extent, 1)
        along = (self.start + frame * self.speed) % (2 * room)
        middle = np.minimum(along, 2 * room - along) + self.extent / 2
        y, x = (np.arange(side) + 0.5 for side in size)
        dy = (np.abs(y - middle[0]) / (self.extent[0] / 2))[:, None]
        dx = (np.abs(x - middle[1]) / (self.extent[1] / 2))[None, :]
        return dy**2 + dx**2 <= 1 if self.disc else np.maximum(dy, dx) <= 1


def _render(
    rng: np.random.Generator, num_frames: int, size: tuple[int, int]
) -> tuple[np.ndarray, list[Shape], np.ndarray]:
    """Frames, shapes, and (N, T, H, W) the visible pixels of each: later shapes lie on top."""
    shapes = [_shape(rng, num_frames, size) for _ in range(int(rng.integers(2, 5)))]
    visible = np.zeros((len(shapes), num_frames, *size), bool)
    ramp = np.linspace(40, 90, size[1]).astype(np.uint8)
    frames = np.broadcast_to(ramp[None, None, :, None], (num_frames, *size, 3)).copy()
    for number, shape in enumerate(shapes):
        for frame in range(num_frames):
            mask = shape.mask(frame, size)
            visible[:number, frame, mask] = False
            visible[number, frame] = mask
            frames[frame, mask] = shape.color
    return frames, shapes, visible


def _shape(rng: np.random.Generator, num_frames: int, size: tuple[int, int]) -> Shape:
    late = rng.random() < 0.25
    early = rng.random() < 0.25
    return Shape(
        disc=bool(rng.random() < 0.5),
        color=rng.integers(100, 256, 3).astype(np.uint8),
        extent=np.array(size) * rng.uniform(0.2, 0.4, 2),
        start=np.array(size) * rng.uniform(0, 2, 2),
        speed=rng.uniform(-2, 2, 2),
        born=num_frames // 4 if late else 0,
        dies=num_frames - num_frames // 4 if early else num_frames,
    )


def _annotate(
    truth: dict[str, Any], video_id: str, shapes: list[Shape], visible: np.ndarray
) -> None:
    """Adds one video to a YouTube-VIS truth file: null where an object is not seen."""
    num_frames, height, width = visible.shape[1:]
    video = len(truth["videos"]) + 1
    truth["videos"].append(
        {
            "id": video,
            "video_id": video_id,
            "height": height,
            "width": width,
            "length": num_frames,
            "file_names": [f"{video_id}/{frame:05d}.jpg" for frame in range(num_frames)],
        }
    )
    for shape, masks in zip(shapes, visible, strict=True):
        texts = rle.encode(masks)
        seen = masks.any(axis=(1, 2)).tolist()
        truth["annotations"].append(
            {
                "id": len(truth["annotations"]) + 1,
                "video_id": video,
                "category_id": 2 if shape.disc else 1,
                "iscrowd": 0,
                "areas": [int(m.sum()) if ok else None for m, ok in zip(masks, seen, strict=True)],
                "segmentations": [
                    {"size": [height, width], "counts": text.decode()} if ok else None
                    for text, ok in zip(texts, seen, strict=True)
                ],
            }
        )
