"""Writes a data set: clips as MP4, `truth.json`, `difficulty.json`, and the flow on request.

Clip i of seed S is drawn from seed S + i, by whichever process is free. A folder is finished when
it has a `truth.json`; the same command writes the same files again.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from vis_core.data.synth.config import SynthConfig, check_seeds
from vis_core.data.synth.difficulty import ClipMeasures, measure, summarize
from vis_core.data.synth.stage import make_scene
from vis_core.data.synth.truth import (
    GENERATOR_VERSION,
    annotation_entries,
    as_json,
    draw,
    truth_document,
    truth_of,
    video_entry,
    video_id_of,
)
from vis_core.errors import ReelmaskError, UsageError
from vis_core.progress import Progress, Silence
from vis_core.video.encode import open_video

TRUTH, DIFFICULTY, SETTINGS, FLOW = "truth.json", "difficulty.json", "synth.json", "flow"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class DataSetReport:
    """What was written."""

    out: str
    num_videos: int
    num_frames: int
    num_objects: int
    num_masks: int
    difficulty: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Order:
    """One clip to write."""

    config: SynthConfig
    seed: int
    out: Path
    video_id: str
    number: int  # id of the video in the truth
    flow: bool


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Written:
    video: dict[str, Any]
    annotations: list[dict[str, Any]]  # numbered from 1 within the clip
    measures: ClipMeasures


def write_data_set(
    config: SynthConfig,
    out: str | os.PathLike[str],
    *,
    seed: int,
    num_videos: int,
    flow: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> DataSetReport:
    """Clips of seeds `seed`, `seed` + 1, … and their truth; the same for any number of workers."""
    check_seeds(seed, num_videos)
    if workers < 1:
        raise ValueError(f"workers: expected 1 or more, got {workers}")
    folder = Path(out)
    _prepare(folder, _settings(config, seed, num_videos, flow=flow))
    orders = [
        _Order(
            config=config,
            seed=seed + index,
            out=folder,
            video_id=video_id_of(index, num_videos),
            number=index + 1,
            flow=flow,
        )
        for index in range(num_videos)
    ]
    progress = progress or Silence()
    progress.begin("synth", num_videos, "videos")
    videos, annotations, measures = [], list[dict[str, Any]](), []
    for clip in _write_all(orders, min(workers, num_videos)):
        videos.append(clip.video)
        annotations += [{**row, "id": len(annotations) + row["id"]} for row in clip.annotations]
        measures.append(clip.measures)
        progress.advance(1)
    progress.end()
    difficulty = summarize(config.preset, measures)
    _replace(folder / DIFFICULTY, json.dumps(difficulty, indent=1).encode() + b"\n")
    _replace(folder / TRUTH, as_json(truth_document(config, seed, videos, annotations)))
    return DataSetReport(
        out=str(folder),
        num_videos=num_videos,
        num_frames=num_videos * config.num_frames,
        num_objects=difficulty["num_objects"],
        num_masks=difficulty["num_masks"],
        difficulty=difficulty,
    )


def _settings(config: SynthConfig, seed: int, num_videos: int, *, flow: bool) -> bytes:
    values = {
        "generator_version": GENERATOR_VERSION,
        **dataclasses.asdict(config),
        "seed": seed,
        "num_videos": num_videos,
        "flow": flow,
    }
    return json.dumps(values, indent=1).encode() + b"\n"


def _prepare(folder: Path, settings: bytes) -> None:
    """An empty folder, or one that the same command began; anything else is left alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        begun = {path.name for path in folder.iterdir()}
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"--out {folder}: expected a folder, there is a file") from error
    mark = folder / SETTINGS
    if begun and not (mark.is_file() and mark.read_bytes() == settings):
        what = "clips of other settings" if SETTINGS in begun else f"{min(begun)!r}"
        raise UsageError(f"--out {folder}: holds {what}; choose a new folder, or delete it")
    (folder / TRUTH).unlink(missing_ok=True)  # it says that the clips are complete
    for partial in [*folder.glob(".*.part"), *(folder / FLOW).glob(".*.part")]:
        partial.unlink(missing_ok=True)  # of a process that was killed
    _replace(mark, settings)


def _write_all(orders: Sequence[_Order], workers: int) -> Iterator[_Written]:
    """Writes the clips, here or in other processes; results in order."""
    if workers == 1:
        yield from map(_write_clip, orders)
        return
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_begin_worker
    )
    try:
        yield from pool.map(_write_clip, orders)
    except BrokenProcessPool as error:
        raise ReelmaskError(
            "a process that draws clips died, perhaps for lack of memory: try fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Leaves Ctrl-C to the parent, ends with it, and keeps to one core."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _write_clip(order: _Order) -> _Written:
    from vis_core.data.synth.render import quality_of, render_frames  # OpenCV: only when drawing

    config = order.config
    scene = make_scene(config, order.seed)
    drawing = draw(scene)
    with open_video(
        order.out / f"{order.video_id}.mp4",
        height=config.height,
        width=config.width,
        fps=config.fps,
        crf=quality_of(scene),
    ) as video:
        for frame in render_frames(drawing):
            video.write(frame)
    if order.flow:
        from vis_core.data.synth.flow import flow_of, write_flow

        folder = order.out / FLOW
        folder.mkdir(exist_ok=True)
        with _whole(folder / f"{order.video_id}.npz") as partial:
            write_flow(partial, flow_of(drawing))
    truth = truth_of(drawing)
    return _Written(
        video=video_entry(truth, order.video_id, order.number),
        annotations=annotation_entries(truth, order.number, 1),
        measures=measure(drawing, truth),
    )


def _replace(path: Path, data: bytes) -> None:
    with _whole(path) as partial:
        partial.write_bytes(data)


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """A name to write to; what was written appears under `path` when all went well."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
