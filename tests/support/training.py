"""Training jobs small enough for a test: clips of 96 x 160, a network of 60,000 parameters."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from tests.support.results import reelmask
from vis_core.data.synth import SynthConfig, write_data_set

TINY = {"width": 8, "pyramid": 16, "hidden": 32, "smallest_anchor_px": 8, "short_side_px": 96}
_TIMES = ("images_per_second", "data_wait")


def write_clips(
    folder: Path, seed: int, num_videos: int, size: tuple[int, int] = (96, 160)
) -> Path:
    """Synthetic clips with their truth."""
    config = SynthConfig(preset="plain", num_frames=36, height=size[0], width=size[1])
    write_data_set(config, folder, seed=seed, num_videos=num_videos)
    return folder


def job_values(clips: Path, out: Path, **sections: dict[str, Any]) -> dict[str, Any]:
    """A job file's content; `sections` are merged into it."""
    values: dict[str, Any] = {
        "recipe": "flow_match_detector",
        "out": str(out),
        "network": dict(TINY),
        "data": [{"layout": "synth", "path": str(clips)}],
        "transforms": {"short_side_px": [80, 96]},
        "schedule": {"steps": 8, "warmup_steps": 2},
        "loop": {"batch_size": 2, "checkpoint_every": 3},
    }
    for name, section in sections.items():
        values[name] = {**copy.deepcopy(values.get(name, {})), **section}
    return values


def write_job(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values))
    return path


def train(values: dict[str, Any], *words: object, **how: Any):
    """Runs `reelmask train` on a job to its end."""
    file = Path(values["out"]).with_suffix(".yaml")
    return reelmask("train", write_job(file, values), *words, **how)


def losses(out: Path) -> list[dict[str, float]]:
    """What each step said, without what depends on the clock."""
    lines = (out / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, map(float, line.split(",")), strict=True)) for line in lines[1:]]
    return [{key: value for key, value in row.items() if key not in _TIMES} for row in rows]
