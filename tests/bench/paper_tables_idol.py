"""IDOL's directions on held-out clips, with the weights that come with reelmask.

    python -m tests.bench.paper_tables_idol [--clips 20] [--second WEIGHTS]

Each function makes its clips, runs the product on them and returns a title and the lines of a
table; what goes against the report stays in.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vis_core.association.fusion import FusionConfig
from vis_core.data.synth import SynthConfig, write_data_set
from vis_core.eval.evaluate import Evaluation, evaluate
from vis_core.formats.results import Results
from vis_core.job import JobSettings, MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.stages.fuse import Fusion, fuse_results
from vis_core.systems import get_system

Table = tuple[str, list[str]]

SEED = 2_000_000  # the first of those for tests
PRESETS = ("plain", "occluded")
SIDES = (240, 288, 336)
LEAST_SCORE = 0.3  # of the lines that count as tracks where identities are compared
_AP = ("AP", "AP50", "AP75", "AR10")


def multi_scale(num_videos: int = 20) -> Table:
    """Three sizes of one network, each tracked to its end, fused by overlap in space and time."""
    lines = _head(("clips", "input", *_AP))
    with tempfile.TemporaryDirectory() as folder:
        for preset in PRESETS:
            clips = _clips(Path(folder), preset, num_videos)
            views = {f"{side} px": {"short_side_px": side} for side in SIDES}
            lines += _fused_rows(clips, Path(folder) / "of" / preset, preset, views)
    return "idol: three sizes fused ÷ each alone", lines


def two_models(second: str | None, num_videos: int = 20) -> Table:
    """The shipped network and another one, fused as sizes are."""
    title = "idol: two networks fused ÷ each alone"
    if second is None:
        return title, ["Not measured: no second network was given."]
    lines = _head(("clips", "network", *_AP))
    with tempfile.TemporaryDirectory() as folder:
        for preset in PRESETS:
            clips = _clips(Path(folder), preset, num_videos)
            networks: dict[str, dict[str, Any]] = {"shipped": {}, "second": {"weights": second}}
            lines += _fused_rows(clips, Path(folder) / "of" / preset, preset, networks)
    return title, lines


def thresholds(num_videos: int = 20) -> Table:
    """The linker's two released settings on the same predictions."""
    lines = _head(("clips", "preset", "lines", "AP", "HOTA", "AssA", "ID switches"))
    with tempfile.TemporaryDirectory() as folder:
        for preset in PRESETS:
            clips = _clips(Path(folder), preset, num_videos)
            out = Path(folder) / "of" / preset
            for link in ("ytvis", "ovis"):
                _label(clips, out, {"preset": link})
                scored = _scored(out, clips)
                followed = evaluate(str(out), str(clips / "truth.json"), "hota")
                figures = followed.figures
                lines.append(
                    _row(
                        preset,
                        link,
                        scored.num_tracks,
                        *(scored.figures["AP"], figures["HOTA"], figures["AssA"]),
                        figures["IDSW"],
                    )
                )
    return "idol: the linker's settings for OVIS ÷ those for YouTube-VIS", lines


def _clips(folder: Path, preset: str, num_videos: int) -> Path:
    out = folder / preset
    write_data_set(SynthConfig(preset=preset), out, seed=SEED, num_videos=num_videos)
    return out


def _fused_rows(
    clips: Path, out: Path, preset: str, members: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    """A line for each member as it would be alone, and one for all of them."""
    lines, runs = [], {}
    for name, settings in members.items():
        folder = out / name.replace(" ", "")
        _label(clips, folder, settings)
        lines.append(_row(preset, name, *_figures(_scored(folder, clips))))
        _label(clips, folder, {**settings, "for_fusion": True})
        runs[name.replace(" ", "")] = Results(str(folder))
    fusion = Fusion.of(runs, dict.fromkeys(runs, 1.0), FusionConfig())
    fuse_results(fusion, str(out / "fused"), row_group_bytes=JobSettings().row_group_bytes)
    lines.append(_row(preset, "fused", *_figures(_scored(out / "fused", clips))))
    return lines


def _label(clips: Path, out: Path, settings: Mapping[str, Any]) -> None:
    """Predictions that are there already are linked again."""
    member = MemberSpec(system=get_system("idol"), settings=settings)
    report = run_inline(make_job([str(clips)], str(out), [member]))
    assert report.exit_code == 0, out


def _scored(out: Path, clips: Path) -> Evaluation:
    return evaluate(str(out), str(clips / "truth.json"), "ytvis")


def _figures(scored: Evaluation) -> list[float | None]:
    return [scored.figures[name] for name in _AP]


def _head(names: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]


def _row(*cells: object) -> str:
    shown = [f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in cells]
    return f"| {' | '.join(shown)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=20, help="of each preset")
    parser.add_argument("--second", help="weights of another network of IDOL")
    given = parser.parse_args()
    tables: list[Callable[[], Table]] = [
        lambda: multi_scale(given.clips),
        lambda: two_models(given.second, given.clips),
        lambda: thresholds(given.clips),
    ]
    for table in tables:
        title, lines = table()
        print("\n".join([f"## {title}", "", *lines, ""]), flush=True)


if __name__ == "__main__":
    main()
