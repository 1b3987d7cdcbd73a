"""Identity figures: TrackEval is fed right, and its absence is said."""

import importlib

import numpy as np
import pytest

from tests.support.random_tracks import random_tracks, truth_json, write_json, write_results
from tests.unit.test_eval_ytvis import A, B, C, truth_of, video_of
from vis_core.errors import UsageError
from vis_core.eval.evaluate import evaluate
from vis_core.eval.hota import Identity, sequence
from vis_core.masks import rle

trackeval = pytest.importorskip("trackeval", reason="needs TrackEval: reelmask[hota]")


def result_of(truth, found):
    metric = Identity()
    metric.add(0, truth, found)
    return metric.result()


def test_the_truth_itself_is_perfect():
    truth = truth_of([(1, A, A, A), (2, B, None, B), (1, None, C, None)], num_frames=3)
    figures = result_of(truth, truth.tracks)
    assert figures.pop("IDSW") == 0
    assert figures == pytest.approx(dict.fromkeys(figures, 100))


def test_a_track_that_changes_its_object_is_one_switch_each():
    truth = truth_of([(1, A, A, A, A), (1, B, B, B, B)], num_frames=4)
    crossed = video_of([(1, 0.9, A, A, B, B), (1, 0.9, B, B, A, A)], num_frames=4)
    figures = result_of(truth, crossed)
    assert figures["IDSW"] == 2
    assert figures["DetA"] == pytest.approx(100)
    # Each detection shares 2 of the 6 frames that its object or its track is in.
    assert figures["AssA"] == pytest.approx(100 / 3)
    assert figures["HOTA"] == pytest.approx(100 * np.sqrt(1 / 3))
    assert figures["IDF1"] == pytest.approx(50)


def test_labels_do_not_matter_and_crowds_are_nobody():
    truth = truth_of([(1, A, A), (1, B, B)], crowd=[1])
    assert result_of(truth, video_of([(77, 0.1, A, A)]))["HOTA"] == pytest.approx(100)


def test_nothing_to_find_gives_no_figure():
    assert set(result_of(truth_of([]), video_of([(1, 0.9, A, A)])).values()) == {None}


def test_frames_and_overlaps_are_those_of_dense_masks():
    truth, found = random_tracks(3, num_tracks=4), random_tracks(4, num_tracks=5)
    data = sequence(truth, found)
    assert data["num_gt_dets"] == len(truth.masks) == sum(map(len, data["gt_ids"]))
    for frame, overlaps in enumerate(data["similarity_scores"]):
        sides = []
        for tracks in (truth, found):
            here = np.flatnonzero(tracks.frame_index == frame).tolist()
            sides.append(rle.decode([tracks.masks[i] for i in here], tracks.video.size))
        assert np.allclose(overlaps, rle.dense_iou(*sides))


def test_the_metric_reads_a_folder_of_tracks(tmp_path):
    videos = [video_of([(1, 0.9, A, A), (1, 0.8, B, B)], name=f"v{k}") for k in range(3)]
    truth = write_json(tmp_path / "t.json", truth_json(videos))
    found = evaluate(str(write_results(tmp_path / "out", videos)), truth, "hota").figures
    assert (found["HOTA"], found["IDSW"]) == (pytest.approx(100), 0)


def test_without_trackeval_the_error_says_what_to_install(monkeypatch):
    def missing(name, *args):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UsageError, match=r"reelmask\[hota\]"):
        Identity()
