"""Weights that come with the package: a training's, halved, with a card of what was measured here.

    python -m tests.bench.ship SYSTEM [RUN …] [--clips 20] [--note TEXT]

RUN are the folders of the training's stages in their order; the weights are the last one's. Without
them, the weights that are there are measured again, and their rows of the card are printed. Figures
are of clips of 360 x 640 that neither training nor any choice has seen (seeds from 2,000,000).
"""

from __future__ import annotations

import argparse
import csv
import datetime
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import safetensors.torch
import yaml

from tests.bench.run import machine
from tests.support.identity import true_tracks
from vis_core.data.synth import SynthConfig, write_data_set
from vis_core.eval.evaluate import evaluate
from vis_core.eval.ytvis import TrackAP
from vis_core.formats.ytvis import TruthFile
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.models.about import metadata_of
from vis_core.models.weights import read_weights
from vis_core.schema import table_to_predictions
from vis_core.shipped import FOLDER
from vis_core.systems import get_system
from vis_core.types import FramePrediction

MOST_BYTES = 4_000_000
SEED = 2_000_000
PRESETS = ("plain", "occluded")
_FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR10")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("system")
    parser.add_argument("runs", nargs="*", type=Path)
    parser.add_argument("--clips", type=int, default=20, help="of each preset")
    parser.add_argument("--note", help="what else is to be said of the stages")
    arguments = parser.parse_args()
    path = FOLDER / f"{arguments.system}.safetensors"
    if not arguments.runs:
        for preset in PRESETS:
            print("\n".join(_scores(arguments.system, preset, arguments.clips)))
        return
    _halve(arguments.runs[-1] / "weights" / "last.safetensors", path)
    rows = [row for preset in PRESETS for row in _scores(arguments.system, preset, arguments.clips)]
    card = _card(arguments.system, path, arguments.runs, rows, arguments.clips)
    if arguments.note:
        card += f"\n{arguments.note}\n"
    path.with_suffix(".md").write_text(card)
    print(card)


def _halve(source: Path, target: Path) -> None:
    weights = read_weights(str(source))
    assert weights.about is not None, f"{source} is not of `reelmask train`"
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in weights.tensors.items()
    }
    content = safetensors.torch.save(halves, metadata_of(weights.about))
    if len(content) > MOST_BYTES:
        raise SystemExit(f"{len(content):,} bytes; expected at most {MOST_BYTES:,}")
    target.write_bytes(content)


def _scores(system: str, preset: str, num_videos: int) -> list[str]:
    """A row by the system itself, and one with every mask given to its true object."""
    with tempfile.TemporaryDirectory() as scratch:
        clips, out = Path(scratch) / "clips", Path(scratch) / "out"
        write_data_set(SynthConfig(preset=preset), clips, seed=SEED, num_videos=num_videos)
        report = run_inline(
            make_job([str(clips)], str(out), [MemberSpec(system=get_system(system))])
        )
        assert report.exit_code == 0
        found = evaluate(str(out), str(clips / "truth.json"), "ytvis").figures
        truth = TruthFile(str(clips / "truth.json"))
        perfect = TrackAP([category.label for category in truth.categories])
        rows = _predictions(out)
        for rank, name in enumerate(truth.videos):
            video = truth.video(name)
            perfect.add(rank, video, true_tracks(video, rows.get(name, ())))
    return [_row(preset, "own", found), _row(preset, "from truth", perfect.result())]


def _predictions(out: Path) -> Mapping[str, list[FramePrediction]]:
    found: dict[str, list[FramePrediction]] = {}
    for path in sorted((out / "frames").glob("*.parquet")):
        for row in table_to_predictions(pq.read_table(path)):
            found.setdefault(row.video_id, []).append(row)
    return found


def _row(preset: str, identities: str, figures: Mapping[str, Any]) -> str:
    shown = [figures.get(name) for name in _FIGURES]
    cells = ["-" if value is None else f"{value:.1f}" for value in shown]
    return f"| {' | '.join([preset, identities, *cells])} |"


def _card(system: str, path: Path, runs: Iterable[Path], rows: list[str], number: int) -> str:
    stages = []
    for place, run in enumerate(runs, 1):
        job = yaml.safe_load((run / "train.yaml").read_text())
        steps, hours = _spent(run)
        data = ", ".join(dict.fromkeys(Path(entry["path"]).name for entry in job["data"]))
        stages.append(
            f"| {place} | `docs/jobs/{system}_tiny_{place}.yaml` | {data} | {steps:,}"
            f" | {job['loop']['batch_size']} | {job['loop']['seed']} | {hours:.1f} h |"
        )
    header = ["clips", "identities", *_FIGURES]
    return "\n".join(
        [
            f"# {system}: the small network that comes with reelmask",
            "",
            f"{path.stat().st_size / 1e6:.2f} MB, half precision. It knows the eight shapes of the"
            " synthetic clips and nothing else: it is for trying the system out, for its tests, and"
            " as a start of trainings of your own. Its weights are under the project's licence.",
            "",
            "| stage | job | clips | steps | batch | seed | time on one core |",
            "|---|---|---|---|---|---|---|",
            *stages,
            "",
            f"Measured {datetime.date.today():%Y-%m-%d} on {machine()}, by"
            f" `python -m tests.bench.ship {system} RUN … --clips {number}`: {number} clips of"
            " each preset, 36 frames of 360 x 640, seeds from 2,000,000. `from truth`: every object"
            " has the predicted masks that fit it best, which is what perfect linking would make of"
            " them."
            " APs, APm and APl are of objects below 128², below 256² and larger.",
            "",
            f"| {' | '.join(header)} |",
            f"|{'---|' * len(header)}",
            *rows,
            "",
        ]
    )


def _spent(run: Path) -> tuple[int, float]:
    """Steps, and hours by the figures of each step."""
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    batch = yaml.safe_load((run / "train.yaml").read_text())["loop"]["batch_size"]
    return len(rows), sum(batch / float(row["images_per_second"]) for row in rows) / 3600


if __name__ == "__main__":
    main()
