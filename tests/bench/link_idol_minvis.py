"""Frames per second of the idol and minvis linkers on one core, beside plain loops.

    python -m tests.bench.link_idol_minvis [--long]

The rows are made beforehand; masks stay run lengths throughout. idol: 720p, ten instances a frame
that cross, fade and overlap, D = 256, 40 categories. minvis: 100 queries, D = 256, 40 categories.
The plain loops link the first frames only, and must give the same tracks there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from tests.support.fakes import fake_video
from tests.support.reference_idol import link_idol
from tests.support.reference_minvis import link_minvis
from vis_core.system import Linker
from vis_core.systems.idol import IdolLinkConfig, IdolLinker
from vis_core.systems.minvis import MinvisLinkConfig, MinvisLinker
from vis_core.systems.oracle.formula import FormulaTruth
from vis_core.types import FramePrediction, TrackPlan

SIZE = (720, 1280)
NUM_CLASSES = 40
DIM = 256
RUNS = 5


def measure() -> list[dict[str, object]]:
    """A row per linker, measured in a process whose numerical libraries use one thread."""
    one_thread = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")
    words = [sys.executable, "-m", "tests.bench.link_idol_minvis"]
    done = subprocess.run(
        words, env={**os.environ, **one_thread}, check=True, stdout=subprocess.PIPE
    )
    return json.loads(done.stdout)


def _measure_here() -> list[dict[str, object]]:
    return [
        _beside(
            "idol",
            IdolLinker(IdolLinkConfig()),
            list(idol_rows(2000, num_objects=10)),
            link_idol,
            reference_frames=200,
        ),
        _beside(
            "minvis",
            MinvisLinker(MinvisLinkConfig()),
            list(minvis_rows(1000, num_queries=100)),
            link_minvis,
            reference_frames=20,
        ),
    ]


def _beside(
    name: str,
    linker: Linker,
    rows: Sequence[FramePrediction],
    reference: Callable[[Sequence[FramePrediction]], list],
    reference_frames: int,
) -> dict[str, object]:
    first = rows[:reference_frames]
    started = time.perf_counter()
    expected = reference(first)
    reference_fps = len(first) / (time.perf_counter() - started)
    _assert_same(_linked(linker, first), expected)
    rates = []
    for _ in range(RUNS):
        started = time.perf_counter()
        plans = _linked(linker, rows)
        rates.append(len(rows) / (time.perf_counter() - started))
    return {
        "linker": name,
        "frames": len(rows),
        "instances": round(sum(map(len, rows)) / len(rows), 1),
        "tracks": len(plans),
        "fps": round(statistics.median(rates)),
        "fps_range": [round(min(rates)), round(max(rates))],
        "reference_fps": round(reference_fps, 1),
        "ratio": round(statistics.median(rates) / reference_fps, 1),
    }


def _linked(linker: Linker, rows: Sequence[FramePrediction]) -> list[TrackPlan]:
    linker.start(fake_video("bench", len(rows), height=SIZE[0], width=SIZE[1]))
    for row in rows:
        linker.step(row)
    return linker.finish()


def _assert_same(plans: Sequence[TrackPlan], expected: Sequence) -> None:
    assert len(plans) == len(expected) > 0
    for plan, result in zip(plans, expected, strict=True):
        references = zip(plan.frame_index.tolist(), plan.instance.tolist(), strict=True)
        assert list(references) == result.references
        assert np.allclose(plan.class_scores, result.class_scores, atol=1e-6)
        assert [label for label, _ in plan.entries] == [label for label, _ in result.entries]


def idol_rows(num_frames: int, num_objects: int) -> Iterator[FramePrediction]:
    """Objects of the formula truth with noisy embeddings; now and then one is not seen."""
    rng = np.random.default_rng(3)
    video = FormulaTruth(num_objects).video("bench", SIZE)
    identity = rng.normal(size=(num_objects, DIM))
    labels = rng.integers(0, NUM_CLASSES, num_objects)
    for frame in range(num_frames):
        truth = video.frame(frame)
        seen = np.flatnonzero(rng.random(num_objects) > 0.03)
        class_scores = rng.random((len(seen), NUM_CLASSES)) * 0.1
        class_scores[np.arange(len(seen)), labels[seen]] = 0.3 + 0.7 * rng.random(len(seen))
        noise = rng.normal(size=(len(seen), DIM))
        yield _row(
            frame,
            class_scores,
            masks=[truth.masks[i] for i in seen.tolist()],
            embeddings=(identity[seen] + 0.5 * noise) * 0.5,
        )


def minvis_rows(num_frames: int, num_queries: int) -> Iterator[FramePrediction]:
    """Queries that keep a direction each, drift, and come in another order every frame."""
    rng = np.random.default_rng(4)
    directions = rng.normal(size=(num_queries, DIM))
    background = rng.random((num_queries, 1)) < 0.8
    mask = FormulaTruth(1).video("bench", SIZE).frame(0).masks[0]
    for frame in range(num_frames):
        directions += 0.05 * rng.normal(size=directions.shape)
        order = rng.permutation(num_queries)
        logits = rng.normal(size=(num_queries, NUM_CLASSES + 1))
        logits[:, -1:] += np.where(background, 6, 1)
        shares = np.exp(logits[order])
        shares /= shares.sum(axis=1, keepdims=True)
        noise = rng.normal(size=directions.shape)
        yield _row(
            frame,
            shares[:, :-1],
            masks=[mask] * num_queries,
            embeddings=directions[order] + 0.5 * noise,
            no_object_logprob=np.log(shares[:, -1]).astype(np.float32),
        )


def _row(
    frame: int,
    class_scores: np.ndarray,
    masks: list[bytes],
    embeddings: np.ndarray,
    no_object_logprob: np.ndarray | None = None,
) -> FramePrediction:
    return FramePrediction(
        video_id="bench",
        frame_index=frame,
        pts_seconds=frame / 25,
        height=SIZE[0],
        width=SIZE[1],
        scores=class_scores.max(axis=1).astype(np.float32),
        labels=(class_scores.argmax(axis=1) + 1).astype(np.int32),
        boxes=np.zeros((len(masks), 4), np.float32),
        masks=masks,
        class_scores=class_scores.astype(np.float32),
        embeddings=embeddings.astype(np.float16).astype(np.float32),
        no_object_logprob=no_object_logprob,
    )


def measure_long(num_frames: int = 100_000, num_objects: int = 20) -> list[dict[str, object]]:
    """What a linker holds at most on a long video, per instance, rows themselves left out."""
    found = []
    rows: dict[str, Iterator[FramePrediction]] = {
        "idol": idol_rows(num_frames, num_objects),
        "minvis": minvis_rows(num_frames, num_objects),
    }
    linkers: dict[str, Linker] = {
        "idol": IdolLinker(IdolLinkConfig()),
        "minvis": MinvisLinker(MinvisLinkConfig()),
    }
    for name, linker in linkers.items():
        linker.start(fake_video("bench", num_frames, height=SIZE[0], width=SIZE[1]))
        instances = 0
        tracemalloc.start()
        for row in rows[name]:
            linker.step(row)
            instances += len(row)
        plans = linker.finish()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        found.append(
            {
                "linker": name,
                "frames": num_frames,
                "instances": instances,
                "tracks": len(plans),
                "peak_mb": round(peak / 1e6, 1),
                "bytes_per_instance": round(peak / instances, 1),
            }
        )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="100,000 frames: memory, not speed")
    print(json.dumps(measure_long() if parser.parse_args().long else _measure_here()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
