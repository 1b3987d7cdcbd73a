"""`eval --metric ytvis` of 300 videos, beside the plain-loop reference, with the same figures.

    python -m tests.bench.evaluate [--videos 300]

Two invented data sets of 30 frames at 360p: `open_world` as UVO has it (one category, 13 objects
and 100 result lines per video), and `many_labels` (40 categories, 5 objects and 20 lines, so that
few lines meet a truth of their category, and reading is most of the work). Both sides start from
the JSON files and run in this process; seconds are of its CPU, the better of two for the product.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.support.reference_ytvis import reference
from vis_core.eval.evaluate import evaluate
from vis_core.masks import rle

SIZE = (360, 640)
NUM_FRAMES = 30
SHAPES = {
    "open_world": {"objects": 13, "lines": 100, "labels": 1},
    "many_labels": {"objects": 5, "lines": 20, "labels": 40},
}


def invent(folder: Path, num_videos: int, shape: dict[str, int]) -> tuple[str, str]:
    """Writes a truth file and a results file; returns their paths."""
    rng = np.random.default_rng(0)
    labels = range(1, shape["labels"] + 1)
    truth: dict[str, list] = {"videos": [], "annotations": []}
    truth["categories"] = [{"id": label, "name": f"kind {label}"} for label in labels]
    lines = []
    for number in range(1, num_videos + 1):
        names = [f"v{number}/{frame:05d}.jpg" for frame in range(NUM_FRAMES)]
        video = {"id": number, "height": SIZE[0], "width": SIZE[1], "length": NUM_FRAMES}
        truth["videos"].append({**video, "file_names": names})
        objects = [_track(rng, labels) for _ in range(shape["objects"])]
        for label, motion in objects:
            row = {"video_id": number, "category_id": label, "segmentations": _masks(rng, motion)}
            truth["annotations"].append({"id": len(truth["annotations"]) + 1, "iscrowd": 0, **row})
        for _ in range(shape["lines"]):
            label, motion = objects[int(rng.integers(len(objects)))]
            if rng.random() < 0.3:
                label, motion = _track(rng, labels)
            near = motion + rng.normal(0, 4, motion.shape)
            line = {"video_id": number, "category_id": label, "score": round(rng.random(), 3)}
            lines.append({**line, "segmentations": _masks(rng, near)})
    paths = folder / "truth.json", folder / "results.json"
    for path, content in zip(paths, (truth, lines), strict=True):
        path.write_text(json.dumps(content))
    return str(paths[0]), str(paths[1])


def _track(rng: np.random.Generator, labels: range) -> tuple[int, np.ndarray]:
    """Label; centre y, x, speed y, x, and radius."""
    place = [*rng.uniform((60, 60), (300, 580)), *rng.normal(0, 2, 2), rng.uniform(15, 60)]
    return int(rng.choice(labels)), np.array(place)


def _masks(rng: np.random.Generator, motion: np.ndarray) -> list:
    """A ragged disc that moves; null where it is not seen."""
    radius = max(float(motion[4]), 4)
    side = np.arange(-int(1.2 * radius), int(1.2 * radius) + 1)
    y, x = side[:, None], side[None, :]
    disc = np.hypot(y, x) < radius * (1 + 0.15 * np.sin(np.arctan2(y, x) * 17))
    seen, crops = [], []
    for frame in np.flatnonzero(rng.random(NUM_FRAMES) > 0.1).tolist():
        top, left = np.rint(motion[:2] + frame * motion[2:4] - len(side) // 2).astype(int).tolist()
        y0, x0 = max(top, 0), max(left, 0)
        y1, x1 = max(SIZE[0] - top, 0), max(SIZE[1] - left, 0)
        inside = disc[y0 - top : y1, x0 - left : x1]
        if inside.any():
            seen.append(frame)
            crops.append(rle.Crop(mask=inside, x0=x0, y0=y0))
    found: list = [None] * NUM_FRAMES
    for frame, text in zip(seen, rle.encode_crops(crops, SIZE), strict=True):
        found[frame] = {"size": list(SIZE), "counts": text.decode()}
    return found


def measure(num_videos: int) -> list[dict[str, object]]:
    """A row per data set: seconds of both, their ratio, and the largest difference of a figure."""
    rows = []
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory() as scratch:
            truth, results = invent(Path(scratch), num_videos, shape)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            seconds = []
            for _ in range(2):
                started = time.process_time()
                found = evaluate(results, truth, "ytvis").figures
                seconds.append(time.process_time() - started)
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            started = time.process_time()
            expected = reference(*(json.loads(Path(p).read_text()) for p in (truth, results)))
            slow = time.process_time() - started
            size_mb = sum(Path(path).stat().st_size for path in (truth, results)) / 1e6
        pairs = [(found[key], expected[key]) for key in expected]
        assert all((a is None) == (b is None) for a, b in pairs), (found, expected)
        difference = max(abs(a - b) for a, b in pairs if a is not None and b is not None)
        assert difference < 1e-9, (found, expected)
        rows.append(
            {
                "data": name,
                "videos": num_videos,
                **shape,
                "json_mb": round(size_mb, 1),
                "seconds": round(min(seconds), 2),
                "reference_seconds": round(slow, 2),
                "ratio": round(slow / min(seconds), 1),
                "added_mb": round((after - before) / 1e3, 1),
                "AP": round(found["AP"] or 0, 3),
                "largest_difference": difference,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=300)
    print(json.dumps(measure(parser.parse_args().videos)))


if __name__ == "__main__":
    main()
