"""How well the linkers follow objects when everything before them is known: writes docs/linkers.md.

    python -m tests.bench.linkers [--clips 30]

Rows come from the truth of synthetic clips, without a pixel drawn or a network run, and from the
masklets of a real video. The figures are the same on every machine.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import itertools
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.bench.decode import shared_media
from tests.support.followable import FOLLOWABLE, NUM_KEYS, frames_of
from tests.support.greedy_iou import GreedyIouLinker
from tests.support.masklets import as_truth, masklet_rows
from tests.support.on_truth import (
    Clips,
    Pairs,
    Rows,
    ap_of,
    drawn_rows,
    linked,
    make_clips,
    objects_followed,
    only_objects,
    oracle_rows,
    proposed_rows,
)
from vis_core.eval.hota import Identity
from vis_core.formats.sav import read_sav
from vis_core.system import Linker
from vis_core.systems import get_system
from vis_core.systems.flow_match.config import FlowMatchPredictConfig

PAGE = Path(__file__).parents[2] / "docs" / "linkers.md"
MASKLETS = "sav_000001_manual.json"
SEED = 1_000_000  # the first of those for validation
NUM_DRAWN = 16  # clips that the motion front end looks at

GREEDY = "greedy IoU"
FRONT_END = {"centers": True, "ref_flow": 3, "flow": True, "proposals": False}
LEVELS: dict[str, dict[str, float]] = {
    "no mistakes": {},
    "masks 1 px off": {"jitter_px": 1},
    "masks 2 px off": {"jitter_px": 2},
    "5 % missed": {"drop": 0.05},
    "15 % missed": {"drop": 0.15},
    "one false per frame": {"false_rate": 1},
    "embedding noise 0.3": {"embedding_noise": 0.3},
    "embedding noise 0.6": {"embedding_noise": 0.6},
    "all at once": {"jitter_px": 2, "drop": 0.15, "false_rate": 1, "embedding_noise": 0.6},
}
OF_EMBEDDINGS = ("idol", "minvis")


def released(name: str, **settings: Any) -> Linker:
    """A system's linker with its defaults; or the simplest one there is."""
    if name == GREEDY:
        return GreedyIouLinker(min_iou=0.01)
    system = get_system(name)
    return system.make_linker(system.link_config(**settings))


def _pairs(clips: Clips, rows: dict[str, Rows], name: str, **settings: Any) -> Pairs:
    return [
        (truth, linked(released(name, **settings), rows[video], truth.tracks.video))
        for video, truth in clips.truths.items()
    ]


def _switches(pairs: Pairs) -> int:
    metric = Identity()
    for rank, (truth, found) in enumerate(pairs):
        metric.add(rank, truth, found)
    return int(metric.result()["IDSW"] or 0)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


# --- who can be followed --------------------------------------------------------------------------


def _followed(clips: Clips) -> list[list[str]]:
    rows = oracle_rows(clips, embedding_dim=256, **FRONT_END)
    proposed = proposed_rows(clips, NUM_KEYS)
    return [
        _followed_by(name, clips, proposed if name == "propose_reduce" else rows)
        for name in FOLLOWABLE
    ]


def _followed_by(name: str, clips: Clips, rows: dict[str, Rows]) -> list[str]:
    """One line: how many can be followed, how many are, AP75 on them, and why not the others."""
    rules: collections.Counter[str] = collections.Counter()
    chosen, num_objects, num_right, num_lucky = [], 0, 0, 0
    for truth, found in _pairs(clips, rows, name):
        verdict = FOLLOWABLE[name](rows[truth.tracks.video.video_id], truth)
        followed = objects_followed(found, truth)
        num_objects += len(verdict)
        objects = []
        for k, frames in enumerate(frames_of(truth)):
            expected = verdict[k]
            if isinstance(expected, str):
                rules[expected] += 1
                num_lucky += [(k, frame) for frame in frames] in followed
            else:
                objects.append(k)
                num_right += [(k, frame) for frame in expected] in followed
        if objects:
            chosen.append(only_objects(truth, found, objects))
    why = "; ".join(f"{rule}: {count}" for rule, count in rules.most_common())
    ap75 = ap_of(chosen, clips.labels)["AP75"]
    followable = num_objects - rules.total()
    return [
        name,
        f"{followable} of {num_objects}",
        str(num_right),
        f"{ap75:.1f}",
        why + (f"; followed all the same: {num_lucky}" if num_lucky else ""),
    ]


# --- noise ----------------------------------------------------------------------------------------


def _noise(clips: Clips) -> list[list[str]]:
    table: list[list[str]] = []
    for level, noise in LEVELS.items():
        print(f"{clips.config.preset}: {level}", file=sys.stderr, flush=True)
        # Embeddings of 16 values: with as many as the networks have, this noise would be nothing.
        rows = oracle_rows(clips, embedding_dim=16, **FRONT_END, **noise)
        only_embeddings = set(noise) == {"embedding_noise"}
        line = [level]
        for name in (*FOLLOWABLE, GREEDY):
            if only_embeddings and name not in OF_EMBEDDINGS:
                line.append("")
                continue
            mine = proposed_rows(clips, **noise) if name == "propose_reduce" else rows
            pairs = _pairs(clips, mine, name)
            figures = ap_of(pairs, clips.labels)
            line.append(f"{figures['AP']:.1f} / {figures['AP75']:.1f} / {_switches(pairs)}")
        table.append(line)
    return table


# --- brackets -------------------------------------------------------------------------------------


def _brackets(plain: Clips, occluded: Clips, drawn: Clips) -> Iterator[list[str]]:
    rows = oracle_rows(occluded, embedding_dim=256, **FRONT_END)
    found = []
    for min_iou in (0.01, 0.1, 0.3, 0.5):
        for patience in (0, 3, 16):
            pairs = [
                (truth, linked(GreedyIouLinker(min_iou, patience), rows[video], truth.tracks.video))
                for video, truth in occluded.truths.items()
            ]
            found.append((ap_of(pairs, occluded.labels)["AP"] or 0, min_iou, patience))
    best, min_iou, patience = max(found)
    yield [
        f"`occluded`: true masks, greedy IoU; the best of 12 settings (IoU from {min_iou}, waits"
        f" {patience} frames)",
        f"{best:.1f}",
        "≤ 60",
    ]
    guarded = ap_of(_pairs(occluded, rows, "idol", forget=20, min_cosine=0.5), occluded.labels)
    plainly = ap_of(_pairs(occluded, rows, "idol"), occluded.labels)
    yield [
        "`occluded`: true masks and embeddings, `idol` with `forget=20`, longer than any absence,"
        f" and `min_cosine=0.5` (with its defaults: {plainly['AP']:.1f})",
        f"{guarded['AP']:.1f}",
        "≥ 85",
    ]
    motion = drawn_rows(drawn, get_system("flow_match").make_predictor(FlowMatchPredictConfig()))
    figures = ap_of(_pairs(drawn, motion, "flow_match"), None)
    yield [
        f"`plain`: the motion front end and `flow_match`, on {NUM_DRAWN} clips, categories ignored"
        f" (AP50 {figures['AP50']:.1f})",
        f"{figures['AP']:.1f}",
        "≤ 35",
    ]


# --- a real video ---------------------------------------------------------------------------------


def _masklets(path: Path) -> list[list[str]]:
    masklets = read_sav(str(path))
    truth, rows = as_truth(masklets), masklet_rows(masklets)
    lines = []
    for name in ("flow_match", "instance_flow", "idol", "minvis"):
        found = linked(released(name), rows, masklets.video)
        followed = objects_followed(found, truth)
        links = [a == b for taken in followed for (a, _), (b, _) in itertools.pairwise(taken)]
        figures, switches = ap_of([(truth, found)], None), _switches([(truth, found)])
        lines.append(
            [
                name,
                str(len(found)),
                f"{sum(map(len, followed))} of {len(masklets.masks)}",
                f"{100 * sum(links) / len(links):.1f} % of {len(links)}",
                f"{figures['AP']:.1f} / {figures['AP50']:.1f}",
                str(switches),
            ]
        )
    return lines


# --- the page -------------------------------------------------------------------------------------


def page(num_clips: int, folder: Path) -> str:
    clips = {p: make_clips(folder, p, SEED, num_clips) for p in ("plain", "occluded")}
    drawn = make_clips(folder, "plain", SEED, min(NUM_DRAWN, num_clips))
    lines = [
        "# Linkers on the truth",
        "",
        "What the linkers do when the front end is known: rows come from the truth, with mistakes"
        " on demand (`oracle`), and instances shuffled. Each linker has its release's settings."
        f" {num_clips} clips each of `plain` and `occluded`, 36 frames at 360 x 640, validation"
        f" seeds from {SEED:,}. `python -m tests.bench.linkers` wrote this page on"
        f" {datetime.date.today():%Y-%m-%d}; its figures are the same on every machine.",
        "",
        "## Without mistakes",
        "",
        "For each linker `tests/support/followable.py` says, from the truth alone, which objects"
        " its rules can follow, and which rule keeps it from following the others."
        " `tests/e2e/test_linkers_on_truth.py` holds that the former get the truth's ids in every"
        f" frame. Embeddings have 256 values; propose_reduce has {NUM_KEYS} key frames.",
        "",
    ]
    for preset, mine in clips.items():
        head = [f"`{preset}`", "can follow", "follows", "AP75 on them", "why not the others"]
        lines += _table(head, _followed(mine))
    lines += [
        "## With mistakes",
        "",
        "AP / AP75 / identity switches (CLEAR, IoU 0.5) over all objects. Embeddings have 16 values"
        " here: among 256, this noise would drown. propose_reduce has 5 key frames, and mistakes"
        f" of their own for each. {GREEDY}: the best overlap with the frame before, for"
        " comparison. MinVIS itself has the same number of queries in every frame; where rows"
        " have more or fewer, its linker must match them all the same, hence its figures with"
        " missed and false instances.",
        "",
    ]
    for preset, mine in clips.items():
        lines += _table([f"`{preset}`", *FOLLOWABLE, GREEDY], _noise(mine))
    lines += [
        "## Brackets",
        "",
        "What the clips must be, neither solved by overlap nor unsolvable.",
    ]
    brackets = _brackets(clips["plain"], clips["occluded"], drawn)
    lines += ["", *_table(["clips and linker", "AP", "must be"], list(brackets))]
    media = shared_media()
    if media is not None:
        lines += [
            "## A real video",
            "",
            f"The 5 masklets of SA-V's `{MASKLETS}` (juggled balls; 121 annotated frames, 6 a"
            " second), taken as predictions without ids, linked again, and scored against"
            " themselves. The flow is zero, and so is the instance flow to the first and the last"
            " three rows. Embeddings are made from the masks: random Fourier features, 256 values"
            " of length 8, of centroid and size, so that the cosine of two masks falls to 0.6 at"
            " a distance of 0.15 sqrt(height x width) or a factor of 1.65 in length. propose_reduce"
            " needs sequences and has nothing to link. The balls move by more than their size"
            " from one row to the next: what links by overlap loses them, and is right where it"
            " does link.",
            "",
            *_table(
                [
                    "linker",
                    "tracks",
                    "masks in them",
                    "links that are right",
                    "AP / AP50",
                    "switches",
                ],
                _masklets(media / MASKLETS),
            ),
        ]
    return "\n".join(lines).rstrip() + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=30, help="of each preset")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        text = page(given.clips, Path(folder))
    PAGE.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
