"""How much faster sequences are followed together than a key frame at a time.

    python -m tests.bench.seq_prop

From pictures to masks, T = 36 and K = 5, beside three plain loops over key frames that give the
same masks. The first is the description in plain PyTorch: features of a frame whenever it comes by,
memory read by the formula. The others have our layers to the last kernel, so that only the order
of the work differs; the last keeps features, as the release does. Processor time on one core;
weights are random.
"""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.support.plain_propagation import propagate_plainly
from vis_core.models.place import place
from vis_core.models.seq_mask_rcnn import RELEASED, SeqMaskRcnn, SeqMaskRcnnConfig
from vis_core.models.seq_mask_rcnn.inputs import normalised
from vis_core.models.seq_mask_rcnn.key_frames import key_frames
from vis_core.models.seq_mask_rcnn.propagate import Start, View, propagate
from vis_core.models.seq_mask_rcnn.window_frames import WindowFrames
from vis_core.shipped import file_of

_RELEASED_FRAMES = 10  # a large network on one core: what a frame costs is alike in all of them


def measure() -> dict[str, dict[str, float]]:
    from vis_core.models.about import read_about

    about = read_about(file_of("shipped:propose_reduce"))
    assert about is not None
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in about.settings.items()}
    shipped = SeqMaskRcnnConfig(**settings)
    size = shipped.short_side_px, shipped.long_side_px
    return {
        "shipped network, an object per key frame": _compared(shipped, size, 36, 1),
        "shipped network, five per key frame": _compared(shipped, size, 36, 5),
        "ResNet-50, an object per key frame": _compared(
            RELEASED["resnet50"], (360, 640), _RELEASED_FRAMES, 1
        ),
    }


def _compared(
    config: SeqMaskRcnnConfig, size: tuple[int, int], num_frames: int, num_objects: int
) -> dict[str, float]:
    torch.set_num_threads(1)
    network = _network(config)
    pictures = list(np.random.default_rng(0).integers(0, 256, (num_frames, *size, 3), np.uint8))
    starts = []
    for frame in key_frames(num_frames, 5, "release"):
        masks = torch.zeros(num_objects, *size)
        for index in range(num_objects):
            left = size[1] * index // num_objects
            masks[index, size[0] // 4 : size[0] // 2, left : left + size[1] // 8] = 1
        starts.append(Start(frame=frame, masks_OHW=masks))

    def look(frame: int) -> tuple[Tensor, Tensor, Tensor]:
        features = network.features(normalised(pictures[frame])[None])
        return features.levels[0], features.c2_BCHW, features.c3_BCHW

    def plainly(look: Callable[[int], tuple[Tensor, Tensor, Tensor]], *, by_formula: bool) -> Any:
        return propagate_plainly(
            network.prop_head, look, num_frames, starts, 1, by_formula=by_formula
        )

    def together() -> Any:
        seen = WindowFrames(network, pictures, 1, 1 << 33)

        def view(frame: int) -> View:
            features, query = seen[frame]
            return View(p2_1CHW=features.levels[0], query=query)

        steps = propagate(network.prop_head, view, num_frames, starts, 1)
        return {(found.start, found.frame): found.masks_OHW for found in steps}

    with torch.inference_mode():
        naive, naive_seconds = _timed(lambda: plainly(look, by_formula=True))
        place(network, torch.device("cpu"))  # as the predictor has it
        anew, anew_seconds = _timed(lambda: plainly(look, by_formula=False))
        kept, kept_seconds = _timed(lambda: plainly(functools.cache(look), by_formula=False))
        ours, seconds = _timed(together)
    assert naive.keys() == anew.keys() == kept.keys() == ours.keys()
    away = max((naive[key] - ours[key]).abs().max().item() for key in naive)
    assert away <= 1e-5, away
    return {
        "frames": num_frames,
        "naive_seconds": round(naive_seconds, 2),
        "features_anew_seconds": round(anew_seconds, 2),
        "features_kept_seconds": round(kept_seconds, 2),
        "seconds": round(seconds, 2),
        "ratio_to_naive": round(naive_seconds / seconds, 2),
        "ratio_to_features_anew": round(anew_seconds / seconds, 2),
        "ratio_to_features_kept": round(kept_seconds / seconds, 2),
        "largest_difference": away,
    }


def _network(config: SeqMaskRcnnConfig) -> SeqMaskRcnn:
    """Random weights under which masks depend on the memory, and do not explode."""
    random = torch.Generator().manual_seed(0)
    network = SeqMaskRcnn(config, 2).eval()
    for parameter in network.prop_head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=random)
        parameter.data *= (1 / parameter[0].numel()) ** 0.5
    # Where masks are nearly 1, aggregation magnifies rounding.
    network.prop_head.pred2.weight.data *= 0.3
    return network


def _timed(task: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    result = task()
    return result, time.process_time() - started


if __name__ == "__main__":
    json.dump(measure(), sys.stdout, indent=2)
