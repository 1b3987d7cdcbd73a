"""Every predictor on the same frames, cut into shards in several ways, on whatever processor.

    python -m tests.support.exactness [--quick]     # prints what was compared, and what differed

Kernels are chosen by the processor; ATEN_CPU_CAPABILITY, ONEDNN_MAX_CPU_ISA and
MKL_ENABLE_INSTRUCTIONS choose those of a lesser one, at the start of a process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from tests.support import idol, propose_reduce
from tests.support.fakes import fake_video
from tests.support.tiny_net import TINY_NET
from vis_core.config import as_values
from vis_core.models import mask_rcnn, slots
from vis_core.models.about import About
from vis_core.models.weights import to_bytes
from vis_core.system import System
from vis_core.systems import get_system
from vis_core.types import Category, FrameBatch, FramePrediction
from vis_core.windows import ShardWindow, window_ranges

SIZE = (90, 160)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Extent:
    """How much is compared; the last shard is the whole video."""

    shards: tuple[int, ...] = (1, 7, 32, 36)
    batch_sizes: tuple[int, ...] = (1, 4, 5)

    @property
    def num_frames(self) -> int:
        return self.shards[-1]


QUICK = Extent(shards=(1, 7, 16), batch_sizes=(5,))


def members(folder: Path) -> dict[str, tuple[System, dict[str, object]]]:
    """Every system that predicts from pixels, with small random weights."""
    detector = mask_rcnn.MaskRcnnConfig(width=8, pyramid=16, hidden=32, smallest_anchor_px=8)
    torch.manual_seed(0)
    (folder / "detector.safetensors").write_bytes(
        to_bytes(
            mask_rcnn.small(detector, 2),
            About(
                recipe="flow_match_detector",
                settings=as_values(detector),
                categories=[Category(label=1, name="instance")],
            ),
        )
    )
    idol.write_weights(folder / "idol.safetensors")
    propose_reduce.written(folder / "propose_reduce.safetensors")
    flow_match = get_system("flow_match")
    return {
        "tiny_net": (TINY_NET, {}),
        "motion": (flow_match, {"reach": 5}),
        "detector": (
            flow_match,
            {
                "detector": "torchvision:maskrcnn_small",
                "weights": str(folder / "detector.safetensors"),
                "min_score": 0.0,
            },
        ),
        "idol": (get_system("idol"), {"weights": str(folder / "idol.safetensors")}),
        "propose_reduce": (
            get_system("propose_reduce"),
            {
                "weights": str(folder / "propose_reduce.safetensors"),
                "min_score": 0.01,
                "window_frames": 14,
                "window_overlap": 3,
            },
        ),
    }


def pictures(num_frames: int) -> np.ndarray:
    """Blocks that move over a still ground, each frame unlike the others."""
    random = np.random.default_rng(0)
    ground = random.integers(60, 120, (SIZE[0] // 6, SIZE[1] // 10, 3), np.uint8)
    frames = np.repeat(ground.repeat(6, 0).repeat(10, 1)[None], num_frames, 0)
    for number in range(6):
        block = random.integers(0, 255, (4, 4, 3), np.uint8).repeat(6, 0).repeat(6, 1)
        top, left, step = (int(random.integers(high)) for high in (60, 40, 4))
        for t in range(num_frames):
            at = (left + 20 * number + (1 + step) * t) % (SIZE[1] - 24)
            frames[t, top : top + 24, at : at + 24] = block
    return frames


def predicted(
    system: System, config: object, frames: np.ndarray, shard: int
) -> list[FramePrediction]:
    """All rows of the video, in shards of this length, or in windows if the system wants those."""
    video = fake_video("v", len(frames), height=SIZE[0], width=SIZE[1])
    predictor, spec = system.make_predictor(config), system.window(config)
    rows: list[FramePrediction] = []
    if spec.whole_windows:
        for number, (start, stop) in enumerate(window_ranges(len(frames), spec)):
            window = ShardWindow(video=video, start=start, stop=stop, window=number)
            rows += predictor.predict(_batches(frames, start, stop, shard), window)
        return rows
    for start in range(0, len(frames), shard):
        window = ShardWindow(video=video, start=start, stop=min(start + shard, len(frames)))
        first = max(0, start - spec.halo_before)
        last = min(len(frames), window.stop + spec.halo_after)
        rows += predictor.predict(_batches(frames, first, last, 4), window)
    return rows


def _batches(frames: np.ndarray, start: int, stop: int, size: int) -> Iterator[FrameBatch]:
    for first in range(start, stop, size):
        index = np.arange(first, min(first + size, stop))
        yield FrameBatch(
            video_id="v",
            frame_index=index,
            pts_seconds=index / 25,
            frames=frames[index],
            rank=index,
        )


def digest(rows: list[FramePrediction]) -> str:
    """Of every number in the rows."""
    found = hashlib.sha256()
    for row in rows:
        for field in dataclasses.fields(row):
            value = getattr(row, field.name)
            if isinstance(value, np.ndarray):
                found.update(value.tobytes())
            elif dataclasses.is_dataclass(value):
                found.update(value.dxdy.tobytes())
            else:
                found.update(repr(value).encode())
    return found.hexdigest()


def noise(picture: torch.Tensor) -> torch.Tensor:
    """As large as the picture and of its kind, with nothing of it in it."""
    top = 255 if picture.dtype == torch.uint8 else float(picture.max())
    return (torch.rand(picture.shape) * top).to(picture.dtype)


def compare(extent: Extent, only: list[str] | None = None) -> dict[str, object]:
    """What differs from the rows of the whole video: nothing may."""
    frames, differing, checked, counts = pictures(extent.num_frames), [], 0, {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, (system, settings) in members(Path(scratch)).items():
            if only and name not in only:
                continue
            for batch_size in extent.batch_sizes:
                config = system.predict_config(**settings, batch_size=batch_size)
                rows = predicted(system, config, frames, extent.num_frames)
                counts[name] = sum(map(len, rows))
                for what, found in _variants(system, config, frames, extent):
                    checked += 1
                    if digest(found) != digest(rows):
                        differing.append(f"{name}, batch size {batch_size}, {what}")
    return {
        "capability": torch.backends.cpu.get_cpu_capability(),
        "checked": checked,
        "instances": counts,
        "differing": differing,
    }


def _variants(
    system: System, config: object, frames: np.ndarray, extent: Extent
) -> Iterator[tuple[str, list[FramePrediction]]]:
    for shard in extent.shards[:-1]:
        yield f"shards of {shard}", predicted(system, config, frames, shard)
    torch.manual_seed(1)
    with mock.patch.object(slots, "filler", noise):
        yield "other slots noise", predicted(system, config, frames, 7)
    with _threads(2):
        yield "two threads around", predicted(system, config, frames, extent.num_frames)


@contextlib.contextmanager
def _threads(number: int) -> Iterator[None]:
    """What the program around has set is no business of a row."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    chosen = QUICK if "--quick" in sys.argv else Extent()
    print(json.dumps(compare(chosen, [a for a in sys.argv[1:] if a != "--quick"]), indent=1))
