"""What pseudo pairs are worth to IDOL: how well objects are followed with and without them.

    reelmask train docs/jobs/idol_pictures.yaml
    reelmask train docs/jobs/idol_pictures_then_video.yaml
    reelmask train docs/jobs/idol_pseudo_pairs.yaml
    reelmask train docs/jobs/idol_pseudo_pairs_then_video.yaml
    python -m tests.bench.pseudo_pairs [RUNS] [--clips 48]

Prints a table of clips that no training has seen (seeds from 2,000,000): most of their objects have
a look-alike of the same category and colours in the clip.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.bench.paper_tables_idol import PRESETS, SEED
from vis_core.data.synth import SynthConfig, write_data_set
from vis_core.eval.evaluate import evaluate
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.systems import get_system

TRAININGS = (
    ("pictures", "idol_pictures"),
    ("pseudo pairs", "idol_pseudo_pairs"),
    ("pictures, then video", "idol_pictures_then_video"),
    ("pseudo pairs, then video", "idol_pseudo_pairs_then_video"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="?", type=Path, default=Path("runs"))
    parser.add_argument("--clips", type=int, default=48, help="of each preset")
    arguments = parser.parse_args()
    print("| clips | trained on | IDSW | AssA | HOTA | AP |\n|---|---|---|---|---|---|")
    for preset in PRESETS:
        with tempfile.TemporaryDirectory() as scratch:
            clips = Path(scratch) / "clips"
            config = SynthConfig(preset=preset)
            write_data_set(config, clips, seed=SEED, num_videos=arguments.clips)
            for name, run in TRAININGS:
                weights = arguments.runs / run / "weights" / "last.safetensors"
                print(_row(preset, name, clips, weights, Path(scratch) / run), flush=True)


def _row(preset: str, name: str, clips: Path, weights: Path, out: Path) -> str:
    member = MemberSpec(system=get_system("idol"), settings={"weights": str(weights)})
    assert run_inline(make_job([str(clips)], str(out), [member])).exit_code == 0, out
    truth = str(clips / "truth.json")
    followed = evaluate(str(out), truth, "hota").figures
    found = evaluate(str(out), truth, "ytvis").figures
    figures = [followed["AssA"], followed["HOTA"], found["AP"]]
    return f"| {preset} | {name} | {followed['IDSW']} |" + "".join(f" {x:.1f} |" for x in figures)


if __name__ == "__main__":
    main()
