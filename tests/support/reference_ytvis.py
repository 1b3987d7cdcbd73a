"""YouTube-VIS average precision by plain loops over dictionaries: slow, and easy to believe.

Written from the definition: lines in descending order of score each take the free truth they
overlap most; precision is read at 101 recalls. Ties as the released evaluator has them.
"""

from __future__ import annotations

import itertools

import numpy as np
from pycocotools import mask as coco

THRESHOLDS = [0.5 + 0.05 * k for k in range(10)]
AREAS = {"": (0, 1e10), "s": (0, 128**2), "m": (128**2, 256**2), "l": (256**2, 1e10)}


def reference(truth: dict, results: list[dict]) -> dict:
    """The figures of `eval --metric ytvis`."""
    videos = sorted(video["id"] for video in truth["videos"])
    labels = sorted(category["id"] for category in truth["categories"])
    truths = [{**row, "mean_area": mean_area(row)} for row in truth["annotations"]]
    results = [{**row, "mean_area": mean_area(row)} for row in results]
    pairs = {}
    for video, label in itertools.product(videos, labels):

        def mine(rows, video=video, label=label):
            return [r for r in rows if (r["video_id"], r["category_id"]) == (video, label)]

        lines = sorted(mine(results), key=lambda line: -line["score"])[:100]
        pairs[video, label] = (lines, mine(truths))
    overlaps = {
        key: [[overlap(line, other) for other in others] for line in lines]
        for key, (lines, others) in pairs.items()
    }
    precision: dict = {name: [] for name in AREAS}
    recall: dict = {limit: [] for limit in (1, 10, 100)}
    for label, (name, bounds) in itertools.product(labels, AREAS.items()):
        for number, threshold in enumerate(THRESHOLDS):
            scored, total = [], 0
            for video in videos:
                lines, others = pairs[video, label]
                scored += fates(lines, others, overlaps[video, label], threshold, bounds)
                total += sum(not skipped(other, bounds) for other in others)
            if total:
                for limit in recall if not name else ():
                    recall[limit].append(curve(scored, total, limit)[0])
                precision[name].append((number, curve(scored, total, 100)[1]))

    def mean(values):
        return float(np.mean(values)) * 100 if values else None

    return {
        "AP": mean([value for _, value in precision[""]]),
        "AP50": mean([value for number, value in precision[""] if number == 0]),
        "AP75": mean([value for number, value in precision[""] if number == 5]),
        **{f"AP{name}": mean([value for _, value in precision[name]]) for name in "sml"},
        **{f"AR{limit}": mean(values) for limit, values in recall.items()},
    }


def overlap(line: dict, other: dict) -> float:
    """Intersections over unions, both summed over frames."""
    common = total = 0
    for a, b in zip(line["segmentations"], other["segmentations"], strict=True):
        if a and b:
            common += int(coco.area(coco.merge([a, b], True)))
            total += int(coco.area(coco.merge([a, b], False)))
        elif a or b:
            total += int(coco.area(a or b))
    return common / total if total else 0.0


def mean_area(row: dict) -> float:
    areas = row.get("areas") or [int(coco.area(s)) if s else 0 for s in row["segmentations"]]
    seen = [area for area in areas if area]
    return sum(seen) / len(seen) if seen else 0.0


def skipped(row: dict, bounds: tuple) -> bool:
    return bool(row.get("iscrowd")) or not bounds[0] <= row["mean_area"] <= bounds[1]


def fates(lines, others, overlaps, threshold, bounds) -> list[tuple]:
    """(score, rank, right, wrong) of each line of one video and category."""
    taken: set[int] = set()
    found = []
    for rank, line in enumerate(lines):
        best, best_overlap = None, min(threshold, 1 - 1e-10)
        for wanted in (False, True):  # those that are skipped only if no other is left
            for position, other in enumerate(others):
                if skipped(other, bounds) != wanted:
                    continue
                if position in taken and not other.get("iscrowd"):
                    continue
                if overlaps[rank][position] >= best_overlap:
                    best, best_overlap = position, overlaps[rank][position]
            if best is not None:
                break
        if best is None:
            outside = not bounds[0] <= line["mean_area"] <= bounds[1]
            found.append((line["score"], rank, False, not outside))
        else:
            taken.add(best)
            found.append((line["score"], rank, not skipped(others[best], bounds), False))
    return found


def curve(scored: list[tuple], total: int, limit: int) -> tuple[float, float]:
    """Recall, and precision averaged over 101 recalls."""
    right = wrong = 0
    points = []
    for _, rank, is_right, is_wrong in sorted(scored, key=lambda row: -row[0]):
        if rank < limit:
            right, wrong = right + is_right, wrong + is_wrong
            points.append((right / total, right / max(right + wrong, 1)))
    levels = [
        max((p for r, p in points if r >= level), default=0.0) for level in np.linspace(0, 1, 101)
    ]
    return right / total, sum(levels) / 101
