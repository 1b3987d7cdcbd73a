"""The Ray runner beside the inline runner, on the same clips, in interleaved runs.

    python -m tests.bench.ray_pairs [--pairs 5]

Frames a second count from the last worker's first receipt to the first idle worker, as the trace
of each run shows; start-up is told apart. Two models: one that only waits, as a process beside an
accelerator does, and a small real network, where what counts is the CPU time of all processes,
Ray's own and the decoders included. Every run must give the same rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.bench.processes import Observed, label, outcome, ratio
from tests.support.clips import write_clips

PAIRS = 5
NUM_CLIPS, NUM_FRAMES, SIZE = 48, 96, (360, 640)
UNIT = 192  # frames
NET_CLIPS = 12
NET_INPUT = (288, 512)  # a forward pass then costs many times what decoding does


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to label: its words for the test program, and the actors that share the work."""

    words: tuple[object, ...]
    actors: int = 1


def measure(pairs: int = PAIRS) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        write_clips(root / "clips", NUM_CLIPS, num_frames=NUM_FRAMES, size=SIZE, gop=24, seed=3)
        return {
            "pairs": pairs,
            "frames": NUM_CLIPS * NUM_FRAMES,
            "unit_frames": UNIT,
            "wait_4_ms": _waiting(root, 4, (1, 2), pairs),
            "wait_0_ms": _waiting(root, 0, (1,), pairs),
            "network": _network(root, pairs),
        }


def _waiting(root: Path, ms: int, actors: Sequence[int], pairs: int) -> dict[str, Any]:
    ways = _ways(actors, "wait", f"ms={ms}", f"shard_frames={UNIT}")
    runs = _interleaved(root, ways, pairs)
    inline = runs.pop("inline")
    return {
        "inline_fps": _median(inline, _fps),
        **{
            name: {
                "fps": _median(mine, _fps),
                # Per actor: two of them are held against twice the inline runner.
                **ratio([_fps(run) / ways[name].actors for run in mine], map(_fps, inline)),
                "steady_seconds": _median(mine, lambda run: run.steady.seconds),
                **_startup(mine),
            }
            for name, mine in runs.items()
        },
    }


def _network(root: Path, pairs: int) -> dict[str, Any]:
    height, width = NET_INPUT
    settings = (f"input_height={height}", f"input_width={width}", f"shard_frames={NUM_FRAMES}")
    ways = _ways((1,), "tiny_net", *settings, limit=NET_CLIPS)
    runs = _interleaved(root, ways, pairs)
    inline, ray = runs["inline"], runs["ray_1"]
    return {
        "inline_cpu_ms": _median(inline, _cpu_ms),
        "ray_cpu_ms": _median(ray, _cpu_ms),
        **ratio(map(_cpu_ms, ray), map(_cpu_ms, inline)),
        "steady_seconds": _median(ray, lambda run: run.steady.seconds),
    }


def _ways(
    actors: Sequence[int], system: str, *settings: str, limit: int = NUM_CLIPS
) -> dict[str, Way]:
    words: list[object] = ["--system", system, "--limit", limit]
    for setting in settings:
        words += ["--set", setting]
    return {
        "inline": Way((*words, "--runner", "inline")),
        **{f"ray_{n}": Way((*words, "--set", f"num_actors={n}"), actors=n) for n in actors},
    }


def _interleaved(root: Path, ways: dict[str, Way], pairs: int) -> dict[str, list[Observed]]:
    """Runs of each way, in turn; their rows must be the same."""
    runs: dict[str, list[Observed]] = {name: [] for name in ways}
    outcomes = set()
    for _ in range(pairs):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory(dir=root) as out:
                run = label(root / "clips", Path(out), *way.words)
                outcomes.add(outcome(Path(out)))
            print(f"  {name}: {_fps(run):.1f} frames/s", file=sys.stderr, flush=True)
            runs[name].append(run)
    assert len(outcomes) == 1, "the runs gave different rows"
    return runs


def _fps(run: Observed) -> float:
    return run.steady.fps


def _cpu_ms(run: Observed) -> float:
    """CPU time of all processes per frame."""
    return 1000 * run.cpu_seconds(run.steady) / run.steady.frames


def _startup(runs: Sequence[Observed]) -> dict[str, float]:
    """What comes before the steady window; none of it is in the figures above."""
    return {
        "session_seconds": _median(runs, lambda run: run.report["session_seconds"]),
        "first_unit_seconds": _median(runs, _first_unit_seconds),
        "ramp_seconds": _median(runs, lambda run: run.report["ramp_seconds"]),
    }


def _first_unit_seconds(run: Observed) -> float:
    """From the plan until the first worker begins with its first unit."""
    before = run.report["index_seconds"] + run.report["plan_seconds"]
    return min(span.start for span in run.spans) - run.begun - before


def _median(runs: Sequence[Observed], figure: Callable[[Observed], float]) -> float:
    return round(statistics.median(map(figure, runs)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    print(json.dumps(measure(parser.parse_args().pairs)))


if __name__ == "__main__":
    main()
