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
LARGE = (720, 1280)
_FIGURES = ("AP", "AP50", "AP75", "AR10", "AR100")
# Nothing is suppressed: a sequence overlaps itself alone by more than all.
_NO_REDUCTION = {"nms": 1.0, "min_score": 0.0}


def tables(num_videos: int = 4) -> list[Table]:
    key_frames = _head("clips", "key frames", *_FIGURES, "result lines")
    reductions = _head("clips", "reduction", *_FIGURES, "result lines")
    enlarged = _head("clips", "masks", *_FIGURES, "result lines")
    with tempfile.TemporaryDirectory() as scratch:
        for preset in PRESETS:
            clips, out = Path(scratch) / preset, Path(scratch) / f"of-{preset}"
            write_data_set(SynthConfig(preset=preset), clips, seed=SEED, num_videos=num_videos)
            for number in KEY_FRAMES:
                found = _scored(clips, out / str(number), {"num_key_frames": number})
                key_frames.append(_row(preset, str(number), found))
            for name, settings in (
                ("none", _NO_REDUCTION),
                ("hard, as released", {}),
                ("hard, mean over all frames (paper)", {"score_norm": "all"}),
                ("category-aware", {"reduce": "category_aware"}),
            ):
                reductions.append(_row(preset, name, _scored(clips, out / "5", settings)))
        clips = Path(scratch) / "large"
        height, width = LARGE
        config = SynthConfig(preset="plain", height=height, width=width)
        write_data_set(config, clips, seed=SEED, num_videos=num_videos)
        for name, smooth in (("cut, then enlarged", False), ("enlarged, then cut", True)):
            found = _scored(clips, Path(scratch) / f"of-large-{smooth}", {"smooth": smooth})
            enlarged.append(_row("plain", name, found))
    of = f"{num_videos} clips of each preset"
    return [
        (f"Key frames K ({of}); paper: K = 1 clearly worst, a sharp rise with a few", key_frames),
        (f"Sequence reduction ({of}); paper: 19.3 → 43.8 AP, AR 55.1 → 53.2", reductions),
        (
            f"Enlarging masks ({num_videos} clips of {height} x {width}, which the network sees at"
            " half of that); `smooth` is ours, off by default",
            enlarged,
        ),
    ]


def _scored(clips: Path, out: Path, settings: Mapping[str, Any]) -> Evaluation:
    """Predictions that are there already are linked again."""
    settings = {"num_key_frames": 5, **settings}
    member = MemberSpec(system=get_system("propose_reduce"), settings=settings)
    report = run_inline(make_job([str(clips)], str(out), [member]))
    assert report.exit_code == 0, out
    return evaluate(str(out), str(clips / "truth.json"), "ytvis")


def _head(*names: str) -> list[str]:
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]


def _row(preset: str, what: str, found: Evaluation) -> str:
    figures = [f"{found.figures.get(name) or 0.0:.1f}" for name in _FIGURES]
    return f"| {' | '.join([preset, what, *figures, str(found.num_tracks)])} |"
