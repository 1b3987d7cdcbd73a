"""Seconds to reduce proposed sequences, link by instance flow, and fuse members, on one core.

    python -m tests.bench.link_sequences

All at 720p; the rows are made beforehand and masks stay run lengths. Sequence NMS stands beside
plain loops over pairs, frames and run lengths, which must keep the same sequences with the same
scores. Seconds are processor time, so that other work on the machine does not count. Five runs
each: median and range.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.support import reference_sequences
from tests.support.fakes import fake_video
from tests.support.reference_instance_flow import link_instance_flow
from tests.support.rows import row
from vis_core.association.fusion import FusionConfig, MemberTrack, fuse_tracks
from vis_core.columns import offsets_of
from vis_core.masks import rle
from vis_core.system import Linker
from vis_core.systems.instance_flow import InstanceFlowLinkConfig, InstanceFlowLinker
from vis_core.systems.oracle.formula import FormulaTruth
from vis_core.systems.propose_reduce import ProposeReduceLinkConfig, ProposeReduceLinker
from vis_core.types import FramePrediction, RefFlow, TrackPlan

SIZE = (720, 1280)
NUM_CATEGORIES = 40
RUNS = 5


def measure() -> dict[str, dict[str, object]]:
    """One entry per task."""
    return {
        "sequence_nms": _sequence_nms(100, num_frames=100, sides_px=(60, 241)),
        "sequence_nms_large": _sequence_nms(100, num_frames=100, sides_px=(120, 481)),
        "instance_flow": _instance_flow(num_objects=20, num_frames=500),
        "fusion": _fusion(num_members=3, num_tracks=20, num_frames=100),
    }


def _timed(task: Callable[[], Any]) -> tuple[Any, dict[str, object]]:
    """The last result, and the seconds of all runs."""
    seconds = []
    for _ in range(RUNS):
        started = time.process_time()
        result = task()
        seconds.append(time.process_time() - started)
    spread = [round(min(seconds), 3), round(max(seconds), 3)]
    return result, {"seconds": round(statistics.median(seconds), 3), "seconds_range": spread}


def _linked(linker: Linker, rows: Sequence[FramePrediction]) -> list[TrackPlan]:
    linker.start(fake_video("bench", len(rows), height=SIZE[0], width=SIZE[1]))
    for item in rows:
        linker.step(item)
    return linker.finish()


# --- sequence NMS ---------------------------------------------------------------------------------


def _sequence_nms(
    num_sequences: int, num_frames: int, sides_px: tuple[int, int]
) -> dict[str, object]:
    """Five sequences per object, as from five key frames."""
    sequences = proposed(num_sequences, num_frames, sides_px)
    rows = [
        row(
            t,
            [one.masks[t] for one in sequences],
            SIZE,
            class_scores=[one.scores[t] for one in sequences],
            proposals=np.arange(num_sequences, dtype=np.int32),
        )
        for t in range(num_frames)
    ]
    started = time.process_time()
    scores = np.array([one.mean(NUM_CATEGORIES) for one in sequences], np.float32)
    kept = reference_sequences.hard(
        scores, reference_sequences.all_ious(sequences, SIZE), 0.5, 0.05
    )
    reference_seconds = time.process_time() - started

    linker = ProposeReduceLinker(ProposeReduceLinkConfig())
    plans, found = _timed(lambda: _linked(linker, rows))
    assert [int(plan.instance[0]) for plan in plans] == kept
    assert np.allclose([plan.class_scores for plan in plans], scores[kept], atol=1e-6)
    return {
        "sequences": num_sequences,
        "frames": num_frames,
        "sides_px": list(sides_px),
        "kept": len(kept),
        **found,
        "reference_seconds": round(reference_seconds, 2),
        "ratio": round(reference_seconds / float(str(found["seconds"])), 1),
    }


def proposed(
    num_sequences: int, num_frames: int, sides_px: tuple[int, int]
) -> list[reference_sequences.Proposed]:
    """Sequences that follow moving ellipses, five each, a few pixels and scores apart."""
    rng = np.random.default_rng(1)
    num_objects = num_sequences // 5
    shapes = [_ellipse(*rng.integers(*sides_px, 2).tolist()) for _ in range(num_objects)]
    start, speed = rng.random((num_objects, 2)), rng.normal(0, 0.005, (num_objects, 2))
    shift = rng.integers(-6, 7, (num_sequences, 2))
    labels = rng.integers(0, NUM_CATEGORIES, num_objects)
    sequences = [reference_sequences.Proposed(masks={}, scores={}) for _ in range(num_sequences)]
    for t in range(num_frames):
        there = 1 - np.abs(1 - (start + speed * t) % 2)  # shares of the frame, back and forth
        crops = [
            _placed(shapes[k % num_objects], there[k % num_objects], shift[k])
            for k in range(num_sequences)
        ]
        scores = rng.random((num_sequences, NUM_CATEGORIES)) * 0.1
        scores[np.arange(num_sequences), labels[np.arange(num_sequences) % num_objects]] += 0.6
        rows = zip(sequences, rle.encode_crops(crops, SIZE), scores.tolist(), strict=True)
        for one, mask, values in rows:
            one.masks[t], one.scores[t] = mask, values
    return sequences


def _ellipse(height: int, width: int) -> np.ndarray:
    y, x = np.ogrid[:height, :width]
    return ((2 * y + 1) / height - 1) ** 2 + ((2 * x + 1) / width - 1) ** 2 <= 1


def _placed(shape: np.ndarray, share: np.ndarray, shift: np.ndarray) -> rle.Crop:
    room = np.array(SIZE) - shape.shape
    y0, x0 = np.clip(np.rint(share * room).astype(int) + shift, 0, room).tolist()
    return rle.Crop(mask=shape, x0=x0, y0=y0)


# --- instance flow --------------------------------------------------------------------------------


def _instance_flow(num_objects: int, num_frames: int) -> dict[str, object]:
    rows = flow_rows(num_objects, num_frames)
    first = rows[:100]
    started = time.process_time()
    expected = link_instance_flow(first)
    reference_fps = len(first) / (time.process_time() - started)
    linker = InstanceFlowLinker(InstanceFlowLinkConfig())
    assert _tracks_of(_linked(linker, first), first) == expected
    plans, found = _timed(lambda: _linked(linker, rows))
    fps = num_frames / float(str(found["seconds"]))
    return {
        "instances": num_objects,
        "frames": num_frames,
        "tracks": len(plans),
        **found,
        "fps": round(fps),
        "reference_fps": round(reference_fps, 1),
        "ratio": round(fps / reference_fps, 1),
    }


def flow_rows(num_objects: int, num_frames: int) -> list[FramePrediction]:
    """Objects of the formula truth; flow to the first and three rows before, some pixels off."""
    rng = np.random.default_rng(2)
    video = FormulaTruth(num_objects).video("bench", SIZE)
    truths = [video.frame(t) for t in range(num_frames)]
    rows = []
    for t, truth in enumerate(truths):
        references = sorted({0, *range(max(0, t - 3), t)} - {t})
        centers = truth.centers.astype(np.float32)
        before = np.stack([truths[r].centers for r in references], axis=1) if references else None
        dydx = np.zeros((0, 2)) if before is None else (before - centers[:, None]).reshape(-1, 2)
        rows.append(
            row(
                t,
                truth.masks,
                SIZE,
                class_scores=rng.random((num_objects, NUM_CATEGORIES)).tolist(),
                centers=centers,
                ref_flow=RefFlow(
                    offsets=offsets_of([len(references)] * num_objects),
                    frame_index=np.tile(np.array(references, np.int32), num_objects),
                    dydx=(dydx + rng.normal(0, 4, dydx.shape)).astype(np.float32),
                ),
            )
        )
    return rows


def _tracks_of(plans: Sequence[TrackPlan], rows: Sequence[FramePrediction]) -> list[list[int]]:
    found = [[-1] * len(item) for item in rows]
    for track, plan in enumerate(plans):
        for t, instance in zip(plan.frame_index.tolist(), plan.instance.tolist(), strict=True):
            found[t][instance] = track
    return found


# --- fusion ---------------------------------------------------------------------------------------


def _fusion(num_members: int, num_tracks: int, num_frames: int) -> dict[str, object]:
    """Members that see the same objects a few pixels apart: every fused mask is a mean."""
    sequences = proposed(5 * num_tracks, num_frames, (60, 241))
    weights: Mapping[str, float] = {f"m{run}": 1.0 + run / 10 for run in range(num_members)}
    tracks = [
        MemberTrack(
            member=member,
            track_id=k,
            label=1,
            score=0.9,
            class_scores=np.array(sequences[run * num_tracks + k].scores[0], np.float32),
            frame_index=np.arange(num_frames, dtype=np.int32),
            masks=[sequences[run * num_tracks + k].masks[t] for t in range(num_frames)],
        )
        for run, member in enumerate(weights)
        for k in range(num_tracks)
    ]
    config = FusionConfig(max_lines=10_000)
    fused, found = _timed(lambda: list(fuse_tracks(tracks, weights, SIZE, config)))
    num_masks = sum(len(one.masks) for one in fused)
    return {
        "members": num_members,
        "tracks_per_member": num_tracks,
        "frames": num_frames,
        "fused_tracks": len(fused),
        **found,
        "ms_per_fused_mask": round(1000 * float(str(found["seconds"])) / num_masks, 2),
    }


def main() -> int:
    print(json.dumps(measure()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
