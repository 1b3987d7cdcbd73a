"""IDOL's directions: sizes fused, networks fused, and the linker's settings for crowded videos."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vis_core.association.fusion import FusionConfig
from vis_core.data.synth import SynthConfig, write_data_set
from vis_core.eval.evaluate import evaluate
from vis_core.formats.results import Results
from vis_core.job import MemberSpec, make_job
from vis_core.job_settings import JobSettings
from vis_core.local import run_inline
from vis_core.stages.fuse import Fusion, fuse_results
from vis_core.systems import get_system

Table = tuple[str, list[str]]
Settings = Mapping[str, Any]
Figure = float | int | None

SEED = 2_000_000  # the first of those for tests
PRESETS = ("plain", "occluded")
SIDES = (320, 360, 400)  # the second is the size the weights were trained for
_FIGURES = ("AP", "AP50", "AP75", "APs", "AR10")
_FOLLOWED = ("HOTA", "AssA", "IDSW")


def tables(num_videos: int = 24) -> list[Table]:
    scales = _head("clips", "short side", *_FIGURES, "result lines")
    networks = _head("clips", "network", *_FIGURES, "result lines")
    presets = _head("clips", "linker", "AP", *_FOLLOWED, "result lines")
    # Each as a whole: the cap that the weights were trained with would make the largest smaller.
    sizes = [(f"{side} px", {"short_side_px": side, "long_edge_cap": 2 * side}) for side in SIDES]
    with tempfile.TemporaryDirectory() as scratch:
        for preset in PRESETS:
            clips, out = Path(scratch) / preset, Path(scratch) / f"of-{preset}"
            write_data_set(SynthConfig(preset=preset), clips, seed=SEED, num_videos=num_videos)
            idol = [_run(clips, out / name, "idol", of, preset, name) for name, of in sizes]
            other = _run(clips, out / "other", "propose_reduce", {}, preset, "propose_reduce")
            # A network counts as much as another, however many sizes it saw.
            shares = [(run, 1 / len(idol)) for _, run in idol]
            one = _fused(clips, out / "one", shares)
            both = _fused(clips, out / "both", [*shares, (other[1], 1.0)])
            scales += [*(row for row, _ in idol), _row(preset, "fused", *one)]
            networks += [_row(preset, "idol, three sizes", *one), other[0]]
            networks += [_row(preset, "fused", *both)]
            presets += [_followed(clips, out / "presets", preset, of) for of in ("ytvis", "ovis")]
    of = f"{num_videos} clips of each preset"
    return [
        (f"Three sizes of one network ({of}); report: +1.4 AP over one", scales),
        (f"Two networks ({of}); report: +1.0 AP over one, mostly in long videos", networks),
        (f"The linker's released settings ({of}); expected: fewer tracks with `ovis`", presets),
    ]


def _run(
    clips: Path, out: Path, system: str, settings: Settings, preset: str, name: str
) -> tuple[str, Results]:
    """A row of how a system does alone, and its tracks for fusion."""
    _label(clips, out, system, settings)
    row = _row(preset, name, *_scored(clips, out))
    _label(clips, out, system, {**settings, "for_fusion": True})
    return row, Results(str(out))


def _fused(clips: Path, out: Path, runs: Sequence[tuple[Results, float]]) -> list[Figure]:
    """Runs with their weights, by overlap of their tracks."""
    names = [f"run{number}" for number in range(len(runs))]
    weights = {name: weight for name, (_, weight) in zip(names, runs, strict=True)}
    found = {name: run for name, (run, _) in zip(names, runs, strict=True)}
    fusion = Fusion.of(found, weights, FusionConfig())
    fuse_results(fusion, str(out), row_group_bytes=JobSettings().row_group_bytes)
    return _scored(clips, out)


def _followed(clips: Path, out: Path, preset: str, linker: str) -> str:
    """How well objects are followed by the same predictions, linked by these settings."""
    _label(clips, out, "idol", {"preset": linker})
    truth = str(clips / "truth.json")
    scored, followed = (evaluate(str(out), truth, metric) for metric in ("ytvis", "hota"))
    figures = [scored.figures["AP"], *(followed.figures[name] for name in _FOLLOWED)]
    return _row(preset, linker, *figures, scored.num_tracks)


def _label(clips: Path, out: Path, system: str, settings: Settings) -> None:
    """Predictions that are there already are linked again."""
    member = MemberSpec(system=get_system(system), settings=settings)
    report = run_inline(make_job([str(clips)], str(out), [member]))
    assert report.exit_code == 0, out


def _scored(clips: Path, out: Path) -> list[Figure]:
    found = evaluate(str(out), str(clips / "truth.json"), "ytvis")
    return [*(found.figures.get(figure) for figure in _FIGURES), found.num_tracks]


def _head(*names: str) -> list[str]:
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]


def _row(preset: str, what: str, *figures: Figure) -> str:
    cells = [
        "-" if figure is None else str(figure) if isinstance(figure, int) else f"{figure:.1f}"
        for figure in figures
    ]
    return f"| {' | '.join([preset, what, *cells])} |"
