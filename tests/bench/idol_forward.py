"""IDOL's predictor beside its network alone: ResNet-50 at 480p, random weights, ten masks a frame.

    python -m tests.bench.idol_forward [--pairs 3]

The predictor gets frames of 720p as bytes and gives rows: resized, normalised, padded, selected,
masks at full size as run lengths. The network alone gets a tensor ready and gives scores, boxes,
embeddings and the mask logits of the same queries. Both in full precision, frame by frame, in
interleaved pairs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vis_core.config import as_values
from vis_core.masks import rle
from vis_core.models.idol import Idol
from vis_core.models.idol.network import batch_of
from vis_core.models.idol.pictures import full_masks, input_size, resized
from vis_core.models.idol.selection import select_queries
from vis_core.models.idol.settings import IdolSettings
from vis_core.models.weights import About, to_bytes
from vis_core.systems.idol import IDOL, IdolPredictConfig
from vis_core.types import Category, FrameBatch, VideoInfo
from vis_core.windows import ShardWindow

SIZE = (720, 1280)
MASKS = 10
CLASSES = 40


def measure(pairs: int = 3) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        torch.manual_seed(0)
        settings = IdolSettings()
        network = Idol(settings.config(CLASSES)).eval()
        frame = _frame()
        small = input_size(SIZE, settings.short_side_px, settings.long_edge_cap)
        picture = resized(frame, small)
        floor = _floor(network, picture)
        file = _written(Path(folder) / "r50.safetensors", network, settings)
        predictor = IDOL.make_predictor(
            IdolPredictConfig(weights=file, batch_size=1, emit_floor=floor)
        )

        def whole() -> int:
            batch = FrameBatch(
                video_id="v",
                frame_index=np.arange(1),
                pts_seconds=np.zeros(1),
                frames=frame[None],
                rank=np.arange(1),
            )
            (row,) = predictor.predict(iter([batch]), ShardWindow(video=_video(), start=0, stop=1))
            return len(row)

        ready, padding = batch_of([picture])

        def alone() -> int:
            decoded = network.detr.detr(ready, padding)
            scores, boxes = network.class_logits(decoded).sigmoid(), network.boxes(decoded)
            network.embeddings(decoded.hidden[-1])
            chosen = select_queries(scores[0], boxes[0], floor)
            network.masks(decoded, network.mask_features(decoded), [small], [chosen])
            return len(chosen)

        count = whole()
        assert alone() == count, "both make the same masks"
        ratios, seconds = _pairs(whole, alone, pairs)
        return {
            "input": list(small),
            "masks": count,
            "threads": torch.get_num_threads(),
            "seconds_whole": round(seconds[0], 3),
            "seconds_alone": round(seconds[1], 3),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
            "stages_ms": _stages(network, frame, small, floor),
        }


def _pairs(
    whole: Callable[[], int], alone: Callable[[], int], pairs: int
) -> tuple[list[float], tuple[float, float]]:
    """How much of the predictor's time the network alone takes, and the medians of both."""
    times = [(_timed(whole), _timed(alone)) for _ in range(pairs)]
    medians = statistics.median(a for a, _ in times), statistics.median(b for _, b in times)
    return [b / a for a, b in times], medians


def _stages(network: Idol, frame: np.ndarray, small: tuple[int, int], floor: float) -> dict:
    """Milliseconds of each, in order."""
    found: dict[str, float] = {}

    def stage(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        found[name] = round(1000 * (time.perf_counter() - began), 1)
        return result

    picture = stage("resize", lambda: resized(frame, small))
    ready, padding = stage("normalise and pad", lambda: batch_of([picture]))
    parts = network.detr.detr
    stage("backbone", lambda: parts.backbone[0].get_submodule("backbone")(ready))
    decoded = stage("backbone, neck and transformer", lambda: parts(ready, padding))
    scores, boxes, _ = stage(
        "heads",
        lambda: (
            network.class_logits(decoded).sigmoid(),
            network.boxes(decoded),
            network.embeddings(decoded.hidden[-1]),
        ),
    )
    chosen = stage("selection", lambda: select_queries(scores[0], boxes[0], floor))
    features = stage("mask features", lambda: network.mask_features(decoded))
    (logits,) = stage("mask logits", lambda: network.masks(decoded, features, [small], [chosen]))
    masks = stage("masks at full size", lambda: full_masks(logits, small, SIZE))
    stage("run lengths", lambda: rle.encode(masks))
    return found


def _frame() -> np.ndarray:
    """Large patches with some noise."""
    random = np.random.default_rng(0)
    patches = random.integers(0, 220, (SIZE[0] // 80, SIZE[1] // 80, 3), np.uint8)
    noise = random.integers(0, 36, (*SIZE, 3), np.uint8)
    return patches.repeat(80, 0).repeat(80, 1) + noise


def _floor(network: Idol, picture: torch.Tensor) -> float:
    """The score above which so many queries are."""
    best = network.class_logits(network([picture])).sigmoid()[0].amax(1)
    return float(best.topk(MASKS + 1).values[-1])


def _written(file: Path, network: Idol, settings: IdolSettings) -> str:
    categories = [Category(label=i, name=f"{i}", source="idol") for i in range(1, CLASSES + 1)]
    about = About(recipe="idol", settings=as_values(settings), categories=categories)
    file.write_bytes(to_bytes(network, about))
    return str(file)


def _video() -> VideoInfo:
    return VideoInfo(
        video_id="v",
        uri="v.mp4",
        version="1",
        bytes=1,
        height=SIZE[0],
        width=SIZE[1],
        num_frames=1,
        fps=25.0,
        duration_seconds=0.04,
        codec="h264",
    )


def _timed(call: Callable[[], int]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    print(json.dumps(measure(parser.parse_args().pairs), indent=2))


if __name__ == "__main__":
    main()
