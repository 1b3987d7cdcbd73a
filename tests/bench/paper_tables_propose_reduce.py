"""Propose-Reduce's directions: key frames, reduction, categories, and how masks are enlarged."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vis_core.data.synth import SynthConfig, write_data_set
from vis_core.eval.evaluate import Evaluation, evaluate
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.systems import get_system

Table = tuple[str, list[str]]

SEED = 2_000_000  # the first of those for tests
PRESETS = ("plain", "occluded")
KEY_FRAMES = (1, 2, 3, 5, 8)
RELEASED_KEY_FRAMES = 5
LARGE = (720, 1280)
_FIGURES = ("AP", "AP50", "AP75", "AR10", "AR100")
_REDUCTIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("none", {"nms": 1.0}),  # removes exact copies alone
    ("hard, as released", {}),
    ("hard, mean over all frames (paper)", {"score_norm": "all"}),
    ("category-aware", {"reduce": "category_aware"}),
)


def tables(num_videos: int = 12) -> list[Table]:
    of = f"{num_videos} clips of each preset"
    key_frames = _head("clips", "key frames", *_FIGURES, "result lines")
    reductions = _head("clips", "reduction", *_FIGURES, "result lines")
    with tempfile.TemporaryDirectory() as scratch:
        for preset in PRESETS:
            clips = _clips(Path(scratch) / preset, SynthConfig(preset=preset), num_videos)
            for number in KEY_FRAMES:
                found = _scored(clips, Path(scratch) / f"{preset}-{number}", number)
                key_frames.append(_row(preset, str(number), found))
            for name, settings in _REDUCTIONS:
                out = Path(scratch) / f"{preset}-{RELEASED_KEY_FRAMES}"
                found = _scored(clips, out, RELEASED_KEY_FRAMES, settings)
                reductions.append(_row(preset, name, found))
        enlarged = _enlarged(Path(scratch) / "enlarged", 4)
    return [
        (f"Key frames K ({of}); paper: K = 1 clearly worst, a sharp rise with a few", key_frames),
        (f"Sequence reduction ({of}); paper: 19.3 → 43.8 AP, AR 55.1 → 53.2", reductions),
        enlarged,
    ]


def _enlarged(scratch: Path, num_videos: int) -> Table:
    rows = _head("clips", "masks", *_FIGURES, "result lines")
    height, width = LARGE
    config = SynthConfig(preset="plain", height=height, width=width)
    clips = _clips(scratch / "clips", config, num_videos)
    for name, smooth in (("cut, then enlarged", False), ("enlarged, then cut", True)):
        out = scratch / ("smooth" if smooth else "plain")
        found = _scored(clips, out, RELEASED_KEY_FRAMES, {"smooth": smooth})
        rows.append(_row("plain", name, found))
    return (
        f"Enlarging masks ({num_videos} clips of {height} x {width}, which the network sees at"
        " half of that); `smooth` is ours, off by default",
        rows,
    )


def _clips(folder: Path, config: SynthConfig, num_videos: int) -> Path:
    write_data_set(config, folder, seed=SEED, num_videos=num_videos)
    return folder


def _scored(
    clips: Path, out: Path, key_frames: int, settings: Mapping[str, Any] | None = None
) -> Evaluation:
    """Predictions that are there already are linked again."""
    settings = {"num_key_frames": key_frames, **(settings or {})}
    member = MemberSpec(system=get_system("propose_reduce"), settings=settings)
    report = run_inline(make_job([str(clips)], str(out), [member]))
    assert report.exit_code == 0, out
    return evaluate(str(out), str(clips / "truth.json"), "ytvis")


def _head(*names: str) -> list[str]:
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]


def _row(preset: str, what: str, found: Evaluation) -> str:
    figures = [f"{found.figures.get(name) or 0.0:.1f}" for name in _FIGURES]
    return f"| {' | '.join([preset, what, *figures, str(found.num_tracks)])} |"
