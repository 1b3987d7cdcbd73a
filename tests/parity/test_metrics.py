"""Figures equal those of the released evaluators on the golden fixtures, within 1e-6."""

import json

import numpy as np
import pytest

from jobs import cli
from vis_core.eval.davis import MOST_OBJECTS, score_objects, scored_objects
from vis_core.eval.evaluate import evaluate
from vis_core.formats.label_maps import LabelMaps
from vis_core.formats.ytvis import ResultsFile, TruthFile

YTVIS = ["basic", "crowd", "many", "missing", "sizes", "ties"]
DAVIS = ["basic", "late", "missing", "overlap"]
TOLERANCE = 1e-6


def case(shared, name):
    folder = shared / "golden" / "metrics" / name
    expected = json.loads((folder / "expected.json").read_text())
    return str(folder / "pred.json"), str(folder / "truth.json"), expected


def assert_close(found, expected):
    assert {k: v is None for k, v in found.items()} == {k: v is None for k, v in expected.items()}
    off = {k: abs(found[k] - v) for k, v in expected.items() if v is not None}
    assert max(off.values(), default=0) <= TOLERANCE, (found, expected)


@pytest.mark.parametrize("name", YTVIS)
def test_ytvis(shared, name):
    """All figures, and the AP of each category."""
    pred, truth, expected = case(shared, f"ytvis_{name}")
    found = evaluate(pred, truth, "ytvis")
    assert_close(found.figures, {key: expected[key] for key in found.figures})
    by_label = {str(row["label"]): row["AP"] for row in found.per_category}
    assert_close(by_label, expected["AP_per_category"])


@pytest.mark.parametrize("name", YTVIS)
def test_class_agnostic(shared, name):
    """The release without categories: every truth and prediction in one pool."""
    pred, truth, expected = case(shared, f"ytvis_{name}")
    assert_close(evaluate(pred, truth, "uvo").figures, expected["class_agnostic"])


@pytest.mark.parametrize("name", DAVIS)
def test_davis(shared, name):
    pred, truth, expected = case(shared, f"davis_{name}")
    figures = evaluate(pred, truth, "davis").figures
    assert_close(figures, {key: expected[key] for key in figures})


@pytest.mark.parametrize("name", DAVIS)
def test_davis_objects(shared, name):
    """J and F of every object, and the label maps that the release was given.

    The release numbers a video's rows in the order of the predictions they were assigned, so the
    rows of a video are compared as a set.
    """
    pred, truth_path, expected = case(shared, f"davis_{name}")
    maps = np.load(shared / "golden" / "metrics" / f"davis_{name}" / "labels.npz")
    truth = TruthFile(truth_path)
    for found in ResultsFile(pred, truth).tracks(set(truth.videos)):
        video_id = found.video.video_id
        ours = LabelMaps(found, MOST_OBJECTS)
        for frame, label_map in enumerate(maps[f"pred_{truth.videos[video_id].number}"]):
            assert (ours.frame(frame) == label_map).all()
        about = truth.video(video_id)
        scores = score_objects(about.tracks, scored_objects(about), found) * 100
        rows = [row for key, row in expected["per_object"].items() if key.startswith(video_id)]
        assert sorted(scores.tolist()) == [
            pytest.approx(row, abs=TOLERANCE) for row in sorted(rows)
        ]


@pytest.mark.parametrize("name", [f"ytvis_{n}" for n in YTVIS] + [f"davis_{n}" for n in DAVIS])
def test_the_command_line_prints_exactly_the_contracts_keys(shared, name, capsys):
    pred, truth, expected = case(shared, name)
    metric = name.partition("_")[0]
    assert cli.main(["eval", pred, "--truth", truth, "--metric", metric, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    keys = "AP AP50 AP75 APs APm APl AR1 AR10 AR100" if metric == "ytvis" else "J&F J F"
    assert list(found) == keys.split()
    assert_close(found, {key: expected[key] for key in found})
