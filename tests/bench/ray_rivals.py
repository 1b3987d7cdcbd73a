"""The Ray runner beside the pipeline one would write with Ray Data alone, plain and tuned.

    python -m tests.bench.ray_rivals [--rounds 3] [--copies 12]

One Ray session, the same clips, the same waiting model on as many pretended accelerators, turn by
turn. The plain rival is what tutorials show: a decoded frame per row, batches of rows to an actor,
rows to Parquet. The tuned one moves frames as tensors in small blocks, bounds decoding and keeps
the actors' queues full. Both write one row of masks per frame and stop there; ours also probes,
commits part by part, finds tracks and can resume. Every frame must have the same masks.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
import ray
from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

from pipelines.label import run_ray
from tests.bench.processes import Span, ratio, read_trace
from tests.support.clips import write_clips
from tests.support.results import table
from tests.support.wait_model import WAIT
from vis_core.job import MemberSpec, make_job
from vis_core.systems.oracle.predictor import open_truth

ROUNDS = 3
NUM_CLIPS, NUM_FRAMES, SIZE = 12, 96, (720, 1280)
COPIES = 12  # of each clip
MS = 4.0  # per frame
OBJECTS = 3
ACCELERATORS = 4
BATCH = 8

Row = dict[str, Any]
Batch = dict[str, Any]


class Model:
    """The waiting model as an actor of Ray Data: frames in, masks out."""

    def __init__(self) -> None:
        self._truth = open_truth(f"formula:{OBJECTS}")
        self._videos: dict[str, Any] = {}

    def __call__(self, batch: Batch) -> Batch:
        time.sleep(len(batch["frame"]) * MS / 1000)
        names = batch["video"].tolist()
        frames = zip(names, batch["frame_index"].tolist(), strict=True)
        return {
            "video": names,
            "frame_index": batch["frame_index"],
            "masks": [self._masks(name, index, batch["frame"][0]) for name, index in frames],
            "worker": [os.getpid()] * len(names),
            "at": [time.time()] * len(names),
        }

    def _masks(self, name: str, index: int, pixels: np.ndarray) -> list[bytes]:
        if name not in self._videos:
            self._videos[name] = self._truth.video(name, pixels.shape[:2])
        return list(self._videos[name].frame(index).masks)


class TunedModel:
    """The same over larger blocks of half the bytes; one thread makes colours, one predicts."""

    def __init__(self) -> None:
        self._model = Model()
        self._accelerator = threading.Lock()

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        buffer = np.empty((BATCH, *SIZE, 3), np.uint8)
        for start in range(0, len(batch["yuv"]), BATCH):
            part = {name: values[start : start + BATCH] for name, values in batch.items()}
            frames = buffer[: len(part["yuv"])]
            for yuv, pixels in zip(part["yuv"], frames, strict=True):
                cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB_I420, dst=pixels)
            with self._accelerator:
                done = self._model({**part, "frame": frames})
            yield done


def plain(paths: Sequence[str], out: Path) -> None:
    """As one would write it first."""
    (
        ray.data.from_items(paths)
        .flat_map(_decode_rows)
        # Without num_cpus=0 the actors would hold the CPUs that decoding waits for.
        .map_batches(Model, batch_size=BATCH, concurrency=ACCELERATORS, num_gpus=1, num_cpus=0)
        .write_parquet(str(out))
    )


def _decode_rows(row: Row) -> Iterator[Row]:
    name = Path(row["item"]).stem
    with av.open(row["item"]) as container:
        for index, frame in enumerate(container.decode(video=0)):
            pixels = frame.to_ndarray(format="rgb24")
            yield {"video": name, "frame_index": index, "frame": pixels}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tuning:
    """The best of what was tried for the tuned rival."""

    block_frames: int = 32  # 24 to 96 differ by little; 8 costs tasks
    decoders: int = 3
    in_flight: int = 4
    calls: int = 2  # at once in an actor


def tuned(paths: Sequence[str], out: Path, tuning: Tuning) -> None:
    """The same stages, with as little copied as can be, and no stage waiting for another."""
    block_bytes = tuning.block_frames * SIZE[0] * SIZE[1] * 3 // 2
    DataContext.get_current().target_max_block_size = block_bytes
    (
        ray.data.from_items(paths, override_num_blocks=len(paths))
        .map_batches(
            _decode_blocks,
            fn_kwargs={"at_once": tuning.block_frames},
            batch_size=1,
            num_cpus=1 / tuning.decoders,
            compute=TaskPoolStrategy(size=tuning.decoders),
        )
        .map_batches(
            TunedModel,
            batch_size=tuning.block_frames,
            num_gpus=1,
            num_cpus=0,
            compute=ActorPoolStrategy(
                size=ACCELERATORS,
                max_tasks_in_flight_per_actor=tuning.in_flight,
                max_concurrent_calls_per_actor=tuning.calls,
                enable_true_multi_threading=True,
            ),
        )
        .write_parquet(str(out), min_rows_per_file=2048)
    )


def _decode_blocks(batch: Batch, at_once: int) -> Iterator[Batch]:
    """Frames as they come from the decoder, in arrays that Arrow takes over without a copy."""
    (path,) = batch["item"].tolist()
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_count = 1  # several files are decoded at once
        frames, first = container.decode(stream), 0
        while chunk := list(itertools.islice(frames, at_once)):
            yuv = np.empty((len(chunk), SIZE[0] * 3 // 2, SIZE[1]), np.uint8)
            for frame, pixels in zip(chunk, yuv, strict=True):
                pixels[:] = frame.to_ndarray(format="yuv420p")
            indices = np.arange(first, first + len(chunk), dtype=np.int32)
            yield {"video": [Path(path).stem] * len(chunk), "frame_index": indices, "yuv": yuv}
            first += len(chunk)


def ours(paths: Sequence[str], out: Path) -> None:
    """Small units and small batches to link, because the corpus is small."""
    settings = {"ms": MS, "objects": OBJECTS, "batch_size": BATCH, "trace": str(_trace(out))}
    settings |= {"shard_frames": 192, "link_rows": 20_000}
    job = make_job(paths, str(out), [MemberSpec(system=WAIT)], settings=settings)
    assert run_ray(job).exit_code == 0


def _trace(out: Path) -> Path:
    return out.with_suffix(".trace")


WAYS: dict[str, Callable[[Sequence[str], Path], None]] = {
    "plain": plain,
    "tuned": functools.partial(tuned, tuning=Tuning()),
    "ours": ours,
}


def measure(rounds: int = ROUNDS, copies: int = COPIES) -> dict[str, Any]:
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as scratch, _session():
        root = Path(scratch)
        paths = _clips(root, copies)
        masks = set()
        for number in range(rounds):
            for name, way in WAYS.items():
                out = root / f"{name}-{number}"
                runs[name].append(_timed(way, paths, out))
                masks.add(_masks(out, name))
                print(f"  {name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    assert len(masks) == 1, "the ways gave different masks"
    return {
        "rounds": rounds,
        "videos": len(paths),
        "frames": len(paths) * NUM_FRAMES,
        "accelerators": ACCELERATORS,
        **{
            name: {key: round(statistics.median(run[key] for run in mine), 1) for key in mine[0]}
            for name, mine in runs.items()
        },
        "over_plain": _ratios(runs["ours"], runs["plain"]),
        "over_tuned": _ratios(runs["ours"], runs["tuned"]),
    }


def _clips(root: Path, copies: int) -> list[str]:
    """A dozen clips under many names, which is what masks by formula go by."""
    made = write_clips(root / "made", NUM_CLIPS, num_frames=NUM_FRAMES, size=SIZE, gop=24)
    (root / "clips").mkdir()
    paths = [root / "clips" / f"{path.stem}_{n}.mp4" for path in made for n in range(copies)]
    for path, source in zip(paths, (path for path in made for _ in range(copies)), strict=True):
        path.hardlink_to(source)
    return [str(path) for path in paths]


def _ratios(
    mine: Sequence[dict[str, float]], others: Sequence[dict[str, float]]
) -> dict[str, dict[str, Any]]:
    return {key: ratio([run[key] for run in mine], [run[key] for run in others]) for key in mine[0]}


@contextlib.contextmanager
def _session() -> Iterator[None]:
    """Ray with as many CPUs as there are, and accelerators that only exist on paper."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(
        address="local",
        num_gpus=ACCELERATORS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _timed(
    way: Callable[[Sequence[str], Path], None], paths: Sequence[str], out: Path
) -> dict[str, float]:
    """Frames a second over all of it, and in its middle."""
    context = DataContext()  # Ray's defaults, whatever another way has set
    context.enable_progress_bars = False
    with DataContext.current(context):
        started = time.perf_counter()
        way(paths, out)
        seconds = time.perf_counter() - started
    spans = read_trace(_trace(out))[1] if _trace(out).exists() else _batches(out)
    frames = len(paths) * NUM_FRAMES
    return {"fps": frames / seconds, "middle_fps": _middle_fps(spans)}


def _middle_fps(spans: Sequence[Span]) -> float:
    """Without the first and the last fifth of the frames; there is start-up in them, and waiting.

    An actor that decoding starves may be idle early, so that no window has all of them busy.
    """
    start, stop, frames = np.array([(s.start, s.stop, s.frames) for s in spans]).T
    times = np.unique(np.concatenate([start, stop]))
    share = (times[:, None] - start) / np.maximum(stop - start, 1e-9)
    done = np.clip(share, 0, 1) @ frames
    first, last = np.interp([0.2 * done[-1], 0.8 * done[-1]], done, times)
    return float(0.6 * done[-1] / (last - first))


def _batches(out: Path) -> list[Span]:
    """What a rival's actors did, from what they wrote down in their rows."""
    rows = pq.read_table(out, columns=["worker", "at"])
    done = rows.group_by(["worker", "at"]).aggregate([([], "count_all")]).sort_by("at").to_pylist()
    last = dict.fromkeys((row["worker"] for row in done), done[0]["at"])
    spans = []
    for row in done:
        before, last[row["worker"]] = last[row["worker"]], row["at"]
        frames = row["count_all"]
        spans.append(Span(lane=str(row["worker"]), start=before, stop=row["at"], frames=frames))
    return spans


def _masks(out: Path, way: str) -> str:
    """Hash of the masks of every frame."""
    if way == "ours":
        frames = table(out, "frames")
        rows = [
            (row["video_id"], row["frame_index"], [found["mask"] for found in row["instances"]])
            for row in frames.select(["video_id", "frame_index", "instances"]).to_pylist()
        ]
    else:
        written = pq.read_table(out, columns=["video", "frame_index", "masks"]).to_pylist()
        rows = [(row["video"], row["frame_index"], row["masks"]) for row in written]
    return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--copies", type=int, default=COPIES)
    given = parser.parse_args()
    print(json.dumps(measure(given.rounds, given.copies)))


if __name__ == "__main__":
    # Workers import this module by its name; here it would be `__main__`.
    from tests.bench.ray_rivals import main as main_by_name

    main_by_name()
