"""AP and AR of tracks: the fast way equals plain loops, and each rule has a case of its own."""

import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.random_tracks import (
    random_tracks,
    results_json,
    truth_json,
    without_empty,
    write_json,
    write_results,
)
from tests.support.reference_ytvis import reference
from vis_core.eval.evaluate import EvalConfig, evaluate
from vis_core.eval.overlap import track_iou
from vis_core.eval.ytvis import TrackAP, match_lines
from vis_core.formats import json_index
from vis_core.formats.model import Entries, TruthTracks, VideoHeader, make_tracks
from vis_core.masks import rle

SIZE = (20, 30)


def boxes_to_masks(boxes, size=SIZE):
    dense = np.zeros((len(boxes), *size), bool)
    for mask, (y0, x0, y1, x1) in zip(dense, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return rle.encode(dense)


def video_of(rows, *, num_frames=2, size=SIZE, name="clip"):
    """Tracks from (label, score, box or None per frame)."""
    owner, frames, boxes = [], [], []
    for position, (_, _, *per_frame) in enumerate(rows):
        for frame, box in enumerate(per_frame):
            if box is not None:
                owner.append(position)
                frames.append(frame)
                boxes.append(box)
    return make_tracks(
        VideoHeader(video_id=name, height=size[0], width=size[1], num_frames=num_frames),
        track_ids=np.arange(len(rows)),
        labels=[row[0] for row in rows],
        scores=[row[1] for row in rows],
        owner=owner,
        frame_index=frames,
        masks=boxes_to_masks(boxes, size),
    )


def truth_of(rows, *, crowd=(), **options):
    tracks = video_of([(label, 1.0, *boxes) for label, *boxes in rows], **options)
    sums = np.bincount(tracks.owner, weights=tracks.areas, minlength=len(tracks))
    return TruthTracks(
        tracks=tracks,
        crowd=np.isin(np.arange(len(tracks)), crowd),
        mean_areas=sums / np.maximum(np.diff(tracks.offsets), 1),
    )


def score(truth, found, **options):
    metric = TrackAP([1, 2], **options)
    metric.add(0, truth, found)
    return metric.result()


A, B, C = (0, 0, 10, 10), (10, 10, 20, 20), (0, 20, 10, 30)
HALF = (0, 0, 10, 5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_figures_equal_plain_loops(seed, tmp_path_factory):
    """Random data sets with ties, crowds, duplicates, and areas around both borders."""
    rng = np.random.default_rng(seed)
    size = [(9, 13), (270, 260)][int(rng.random() < 0.2)]
    truth_videos, found_videos = [], []
    for number in range(3):
        num_frames = int(rng.integers(1, 4))
        options = {"video_id": f"v{number}", "num_frames": num_frames, "size": size}
        truth_video = random_tracks(seed + number, num_tracks=int(rng.integers(0, 5)), **options)
        truth_videos.append(truth_video)
        others = random_tracks(seed + 7 + number, num_tracks=int(rng.integers(0, 7)), **options)
        # Some lines are the truth itself, and scores are coarse, so that many are equal.
        both = [truth_video, others][: int(rng.integers(1, 3))]
        found_videos.append(
            make_tracks(
                truth_video.video,
                track_ids=np.arange(sum(map(len, both))),
                labels=np.concatenate([v.labels for v in both]),
                scores=rng.integers(1, 4, sum(map(len, both))) / 4,
                owner=np.concatenate([both[0].owner, *(v.owner + len(both[0]) for v in both[1:])]),
                frame_index=np.concatenate([v.frame_index for v in both]),
                masks=[mask for v in both for mask in v.masks],
            )
        )
    truth = truth_json(truth_videos, crowd=frozenset(rng.integers(0, 8, 2).tolist()))
    results = results_json(found_videos)
    rng.shuffle(results)
    folder = tmp_path_factory.mktemp("data")
    paths = write_json(folder / "r.json", results), write_json(folder / "t.json", truth)
    found, expected = evaluate(*paths, "ytvis").figures, reference(truth, results)
    assert {k: v is None for k, v in found.items()} == {k: v is None for k, v in expected.items()}
    worst = max((abs(found[k] - v) for k, v in expected.items() if v is not None), default=0)
    assert worst < 1e-9, (found, expected)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param([(1, 0.9, A, A)], {"AP": 100, "AR1": 100}, id="perfect"),
        pytest.param([], {"AP": 0, "AR100": 0}, id="nothing found"),
        pytest.param([(2, 0.9, A, A)], {"AP": 0, "AR100": 0}, id="another category"),
        pytest.param([(1, 0.9, A, None)], {"AP": 10, "AP50": 100, "AR1": 10}, id="half, exactly"),
        pytest.param(
            [(1, 0.9, HALF, A)], {"AP50": 100, "AP75": 100, "AP": 60}, id="three quarters"
        ),
        pytest.param([(1, 0.9, A, A), (1, 0.8, A, A)], {"AP": 100}, id="duplicate behind"),
        pytest.param([(1, 0.9, B, B), (1, 0.8, A, A)], {"AP": 50, "AR1": 0}, id="wrong before"),
        pytest.param([(1, 0.9, None, None), (1, 0.8, A, A)], {"AP": 50}, id="empty before"),
    ],
)
def test_one_object(found, expected):
    figures = score(truth_of([(1, A, A)]), video_of(found))
    assert {key: figures[key] for key in expected} == pytest.approx(expected)


def test_without_truth_there_is_no_figure():
    figures = score(truth_of([]), video_of([(1, 0.9, A, A)]))
    assert set(figures.values()) == {None}


def test_categories_without_truth_do_not_count():
    figures = score(truth_of([(1, A, A)]), video_of([(1, 0.5, A, A), (2, 0.9, B, B)]))
    assert figures["AP"] == pytest.approx(100)


def test_a_crowd_is_matched_again_and_again_and_counts_for_nothing():
    truth = truth_of([(1, A, A), (1, B, B)], crowd=[1])
    lines = [(1, 0.9, B, B), (1, 0.8, B, B), (1, 0.7, A, A)]
    assert score(truth, video_of(lines))["AP"] == pytest.approx(100)


def test_an_object_that_counts_is_preferred_to_a_crowd_that_fits_better():
    truth = truth_of([(1, A, A), (1, HALF, HALF)], crowd=[1])
    assert score(truth, video_of([(1, 0.9, HALF, HALF)]))["AP50"] == pytest.approx(100)


@pytest.mark.parametrize(("only", "matched"), [(0, [True, True]), (1, [True, False])])
def test_of_truths_with_the_same_overlap_the_last_is_taken(only, matched):
    """The second line fits one truth; it gets it only if the first line took the other."""
    overlaps = np.array([[0.8, 0.8], [0.0, 0.0]])
    overlaps[1, only] = 0.9
    areas = np.full(2, 100.0)
    found, _, num_truths = match_lines(overlaps, areas, areas, np.zeros(2, bool))
    assert found[0, 0].tolist() == matched
    assert num_truths.tolist() == [2, 2, 0, 0]


def test_equal_scores_keep_the_order_of_the_file_and_of_the_videos():
    wrong_first = video_of([(1, 0.5, B, B), (1, 0.5, A, A)])
    right_first = video_of([(1, 0.5, A, A), (1, 0.5, B, B)])
    truth = truth_of([(1, A, A)])
    assert score(truth, wrong_first)["AP"] == pytest.approx(50)
    assert score(truth, right_first)["AP"] == pytest.approx(100)
    both = TrackAP([1])
    both.add(1, truth, video_of([(1, 0.5, B, B)]))  # comes first, but has the later number
    both.add(0, truth, video_of([(1, 0.5, A, A)]))
    assert both.result()["AP"] == pytest.approx(100 * 51 / 101)


def test_only_the_best_hundred_lines_of_a_video_and_category_count():
    weak = [(1, 0.5, B, B)] * 99
    truth = truth_of([(1, A, A)])
    assert score(truth, video_of([*weak, (1, 0.4, A, A)]))["AR100"] == pytest.approx(100)
    assert score(truth, video_of([*weak, (1, 0.6, B, B), (1, 0.4, A, A)]))[
        "AR100"
    ] == pytest.approx(0)
    assert score(truth, video_of([*weak[:9], (1, 0.4, A, A)]))["AR10"] == pytest.approx(100)


def test_areas_belong_to_both_ranges_at_their_border():
    size = (128, 256)
    truth = truth_of([(1, (0, 0, 128, 128))], num_frames=1, size=size)
    figures = score(truth, video_of([(1, 0.9, (0, 0, 128, 128))], num_frames=1, size=size))
    assert (figures["APs"], figures["APm"]) == pytest.approx((100, 100))
    assert figures["APl"] is None


def test_one_pool_without_categories():
    """Labels are ignored, also one that the truth has never heard of."""
    truth = truth_of([(1, A, A), (2, B, B)])
    found = video_of([(2, 0.9, A, A), (77, 0.8, B, B)])
    assert score(truth, found, use_labels=False)["AP"] == pytest.approx(100)
    assert score(truth, found)["AP"] == pytest.approx(0)


def test_a_track_under_two_labels_is_two_lines(tmp_path):
    """Entries in a results folder and lines in a results file give the same figures."""
    videos = [without_empty(random_tracks(5, num_tracks=6)), random_tracks(6, video_id="b/é")]
    several = []
    for video in map(without_empty, videos):
        n = len(video)
        lines = Entries(
            track=np.repeat(np.arange(n), 2),
            labels=np.tile([1, 2], n),
            scores=np.round(np.linspace(1, 0.25, 2 * n) * 64) / 64,
        )
        several.append(dataclasses.replace(video, entries=lines))
    truth = write_json(tmp_path / "t.json", truth_json(videos))
    folder = write_results(tmp_path / "out", several)
    file = write_json(tmp_path / "r.json", results_json(several))
    for metric in ("ytvis", "uvo"):
        expected = evaluate(file, truth, metric).figures
        assert evaluate(str(folder), truth, metric).figures == expected
        assert expected["AP"] is not None and expected["AP"] > 0


def test_neither_the_order_of_rows_nor_of_files_matters(tmp_path):
    videos = [random_tracks(k, video_id=f"v{k}", num_tracks=4) for k in range(4)]
    truth = write_json(tmp_path / "t.json", truth_json(videos))
    found = [without_empty(random_tracks(k, video_id=f"v{k}", num_tracks=5)) for k in range(4)]
    seen = set()
    for number, options in enumerate(
        [{}, {"shuffle": 1}, {"shuffle": 2, "files": 3}, {"shuffle": 3, "row_group": 4}]
    ):
        folder = write_results(tmp_path / str(number), found, **options)
        for metric in ("ytvis", "davis"):
            seen.add((metric, json.dumps(evaluate(str(folder), truth, metric).figures)))
    assert len(seen) == 2


def test_lines_below_the_lowest_score_are_left_out(tmp_path):
    truth = truth_of([(1, A, A)])
    found = video_of([(1, 0.9, B, B), (1, 0.8, A, A)])
    paths = (
        write_json(tmp_path / "r.json", results_json([found])),
        write_json(tmp_path / "t.json", truth_json([truth.tracks])),
    )
    assert evaluate(*paths, "ytvis").figures["AP"] == pytest.approx(50)
    assert evaluate(*paths, "ytvis", EvalConfig(min_score=0.85)).figures["AP"] == 0


def test_figures_by_category(tmp_path):
    truth = truth_of([(1, A, A), (2, B, B)])
    found = video_of([(1, 0.9, A, A)])
    paths = (
        write_json(tmp_path / "r.json", results_json([found])),
        write_json(tmp_path / "t.json", truth_json([truth.tracks])),
    )
    rows = evaluate(*paths, "ytvis").per_category
    assert [(row["label"], row["name"], round(row["AP"], 9)) for row in rows] == [
        (1, "kind 1", 100),
        (2, "kind 2", 0),
    ]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_frames=st.integers(1, 8),
    least=st.sampled_from([0.0, 0.2, 0.5, 0.9]),
)
def test_overlaps_are_exact_where_they_can_matter(seed, num_frames, least):
    """Given up early or not: equal to dense volumes from `least` on, and below it stays below."""
    rng = np.random.default_rng(seed)
    options = {"num_frames": num_frames, "size": (7, 9)}
    a = random_tracks(seed, num_tracks=4, **options)
    b = [a, random_tracks(seed + 1, num_tracks=3, **options)][int(rng.integers(2))]
    volumes = []
    for tracks in (a, b):
        dense = np.zeros((len(tracks), num_frames, 7, 9), bool)
        dense[tracks.owner, tracks.frame_index] = rle.decode(tracks.masks, (7, 9))
        volumes.append(dense.reshape(len(tracks), -1))
    expected = rle.dense_iou(*volumes)
    wanted = rng.random(expected.shape) < 0.8
    assert np.array_equal(track_iou(a, b), expected)
    found = track_iou(a, b, wanted, least)
    high = wanted & (expected >= least)
    assert np.array_equal(found[high], expected[high])
    assert (found <= expected).all()


def test_memory_does_not_grow_with_the_number_of_videos(tmp_path, monkeypatch):
    """Masks of one video at a time; what is kept is small beside them."""
    monkeypatch.setattr(json_index, "_CHUNK", 1 << 12)
    peaks = []
    for num_videos in (2, 24):
        size = {"size": (120, 160), "num_frames": 10, "num_tracks": 6}
        videos = [random_tracks(k, video_id=f"v{k}", **size) for k in range(num_videos)]
        paths = (
            write_json(tmp_path / "r.json", results_json(videos)),
            write_json(tmp_path / "t.json", truth_json(videos)),
        )
        del videos
        tracemalloc.start()
        evaluate(*paths, "ytvis")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # Keeping the masks of all would cost more than the two files are large.
    assert peaks[1] - peaks[0] < sum(Path(path).stat().st_size for path in paths) / 5, peaks
