"""Results and truth that do not belong together: the message says which, how many, what to do."""

import copy

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.fakes import fake_video
from tests.support.random_tracks import (
    random_tracks,
    results_json,
    truth_json,
    without_empty,
    write_json,
    write_results,
)
from vis_core import schema
from vis_core.errors import UsageError
from vis_core.eval.evaluate import EvalConfig, evaluate

NAMES = {1: "kind 1", 2: "kind 2"}


@pytest.fixture(scope="module")
def videos():
    return [without_empty(random_tracks(k, video_id=f"a/v{k}", num_tracks=4)) for k in range(4)]


def score(tmp_path, truth, results, metric="ytvis", **config):
    """Results may be a folder, or the content of a file."""
    path = write_json(tmp_path / "truth.json", truth)
    if not isinstance(results, str):
        results = write_json(tmp_path / "results.json", results)
    return evaluate(results, path, metric, EvalConfig(**config))


def write_videos(folder, videos, **fields):
    """Adds a `videos` table, as a run writes it."""
    infos = [
        fake_video(v.video.video_id, v.video.num_frames, height=9, width=13, **fields)
        for v in videos
    ]
    (folder / "videos").mkdir()
    pq.write_table(schema.videos_to_table(infos), folder / "videos" / "videos.parquet")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.pop("videos"), "no videos; expected a truth file in YouTube-VIS format"),
        (lambda t: t["videos"].append(t["videos"][0]), "two videos are called 'a/v0'"),
        (lambda t: t["videos"][0].update(length=3), "its length is 3, but it names 4"),
        (lambda t: t["videos"][0].update(height=0), "whole number of 1 or more under 'height'"),
        (lambda t: t["annotations"][0].update(video_id=9), "there is no video 9"),
        (lambda t: t["annotations"][0].update(category_id=9), r"categories \[9\] that are not"),
        (lambda t: t["annotations"][0]["segmentations"].pop(), "in 1 videos a list of segment"),
        (lambda t: t["annotations"][0].update(id="x"), "whole number of 0 or more under 'id'"),
        (lambda t: t["categories"].append({"id": 1}), "two categories have the same id"),
        (lambda t: t["annotations"].append(3), "expected an object, got 3"),
    ],
)
def test_a_broken_truth(tmp_path, videos, change, says):
    truth = truth_json(videos)
    change(truth)
    with pytest.raises(UsageError, match=says):
        score(tmp_path, truth, results_json(videos))


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        ({"size": [9, 14], "counts": "n3"}, "video 'a/v0'.*its size is .9, 14., expected .9, 13."),
        ({"size": [9, 13], "counts": "n"}, "video 'a/v0', track 1, frame 2: the text breaks off"),
        ({"size": [9, 13], "counts": "\ud800"}, "surrogates"),
        ({"size": [9, 13], "counts": [1, 2]}, "its runs cover 3 pixels"),
        ({"size": [9, 13], "counts": 5}, "counts: expected text or a list, got 5"),
        ("mask", "expected run lengths or polygons, got 'mask'"),
        ([[1, 2, 3]], "polygon"),
    ],
)
def test_broken_masks(tmp_path, videos, mask, says):
    truth = truth_json(videos)
    truth["annotations"][0]["segmentations"][2] = mask
    with pytest.raises(UsageError, match=says):
        score(tmp_path, truth, results_json(videos))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r[0].update(video_id=77), "1 of its videos are not in .*: ids 77"),
        (lambda r: r[0].update(score="high"), "result 0: expected a number under 'score'"),
        (lambda r: r[0].update(score=float("nan")), "expected a number under 'score', got nan"),
        (lambda r: r[0].pop("category_id"), "under 'category_id', got None"),
        (lambda r: r[0]["segmentations"].append(None), r"1 of 4 videos have other lengths.*'a/v0'"),
        (
            lambda r: r[0].update(category_id=5),
            r"does not know 1 of .* categories: '5' \(1 lines\)",
        ),
    ],
)
def test_a_results_file_of_something_else(tmp_path, videos, change, says):
    results = results_json(videos)
    change(results)
    with pytest.raises(UsageError, match=says):
        score(tmp_path, truth_json(videos), results)


def test_results_of_other_videos_can_be_passed_over(tmp_path, videos):
    results = results_json(videos)
    results.append({**results[0], "video_id": 77, "category_id": 5})
    found = score(tmp_path, truth_json(videos), results, videos="common")
    assert found.num_videos == 4 and found.figures["AP"] == pytest.approx(100)


def test_a_truth_file_is_no_results_file(tmp_path, videos):
    with pytest.raises(UsageError, match="a truth file belongs after --truth"):
        score(tmp_path, truth_json(videos), truth_json(videos))


def test_sizes_that_differ_are_named(tmp_path, videos):
    truth = truth_json(videos)
    truth["videos"][1]["width"] = 14
    truth["annotations"] = []
    folder = str(write_results(tmp_path / "out", videos))
    with pytest.raises(UsageError, match=r"1 of 4 videos have other sizes .*'a/v1' \(9 x 13, tr"):
        score(tmp_path, truth, folder)


def test_no_video_in_common(tmp_path, videos):
    truth = truth_json(videos)
    for video in truth["videos"]:
        video["video_id"] = f"x{video['id']}"
    folder = str(write_results(tmp_path / "out", videos))
    with pytest.raises(UsageError, match=r"no video of .*: there 'a/v0', .*, here 'x1'"):
        score(tmp_path, truth, folder)


def test_videos_the_other_does_not_have(tmp_path, videos):
    """An error that names them; `videos=common` scores the rest."""
    folder = write_results(tmp_path / "out", videos[:3])
    write_videos(folder, videos[:3])
    truth = truth_json(videos[1:])
    with pytest.raises(UsageError) as caught:
        score(tmp_path, truth, str(folder))
    message = str(caught.value)
    assert "1 videos of" in message and "'a/v0'" in message and "'a/v3'" in message
    assert "--set videos=common" in message
    assert score(tmp_path, truth, str(folder), videos="common").num_videos == 2


def test_a_file_does_not_tell_which_videos_were_looked_at(tmp_path, videos, caplog):
    """Truth videos without lines count, with a warning; none may be left out quietly."""
    results = [row for row in results_json(videos) if row["video_id"] != 2]
    found = score(tmp_path, truth_json(videos), results)
    assert found.num_videos == 4 and found.figures["AP"] < 100
    assert "1 of 4 videos of the truth have no results" in caplog.text


def test_failed_videos_count_as_without_results(tmp_path, videos, caplog):
    folder = write_results(tmp_path / "out", videos[:3])
    write_videos(folder, videos[:3])
    rows = pq.read_table(folder / "videos" / "videos.parquet")
    failed = schema.videos_to_table([fake_video("a/v3", 0, height=0, width=0, status="failed")])
    pq.write_table(pa.concat_tables([rows, failed]), folder / "videos" / "videos.parquet")
    assert score(tmp_path, truth_json(videos), str(folder)).num_videos == 4
    assert "1 videos could not be labelled" in caplog.text and "'a/v3'" in caplog.text


def test_categories_are_matched_by_name_where_there_is_one(tmp_path, videos):
    """The truth numbers the same names otherwise."""
    truth = truth_json(videos)
    swapped = copy.deepcopy(truth)
    for row in (*swapped["annotations"],):
        row["category_id"] = 40 - row["category_id"]
    swapped["categories"] = [{"id": 39, "name": "kind 1"}, {"id": 38, "name": "kind 2"}]
    by_id = str(write_results(tmp_path / "ids", videos))
    named = str(write_results(tmp_path / "names", videos, categories=NAMES))
    expected = score(tmp_path, truth, by_id).figures
    assert score(tmp_path, swapped, named).figures == pytest.approx(expected)
    with pytest.raises(UsageError, match=r"'1' \(\d+ lines\), '2' \(\d+ lines\); it knows 'kind"):
        score(tmp_path, swapped, by_id)
    assert (
        score(tmp_path, swapped, by_id, "uvo").figures
        == score(tmp_path, truth, by_id, "uvo").figures
    )


def test_unknown_categories_can_be_left_out(tmp_path, videos):
    folder = str(write_results(tmp_path / "out", videos, categories={1: "kind 1", 2: "skateboard"}))
    with pytest.raises(UsageError, match="'skateboard'"):
        score(tmp_path, truth_json(videos), folder)
    rows = score(tmp_path, truth_json(videos), folder, categories="common").per_category
    assert rows[0]["AP"] == pytest.approx(100) and rows[1]["AP"] == 0


def test_two_categories_of_one_name_are_refused(tmp_path, videos):
    truth = truth_json(videos)
    truth["categories"][1]["name"] = "kind 1"
    folder = str(write_results(tmp_path / "out", videos, categories=NAMES))
    with pytest.raises(UsageError, match="2 categories are called 'kind 1'"):
        score(tmp_path, truth, folder)


def test_frames_predicted_needs_a_job(tmp_path, videos):
    folder = str(write_results(tmp_path / "out", videos))
    with pytest.raises(UsageError, match=r"only a results folder with its job\.yaml does"):
        score(tmp_path, truth_json(videos), folder, frames="predicted")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, m: (t.slice(1), m), "tracks and masks do not belong together"),
        (lambda t, m: (t, m.slice(1)), "tracks and masks do not belong together"),
        (lambda t, m: (pa.concat_tables([t, t.slice(0, 1)]), m), "do not belong together"),
        (lambda t, m: (t.drop_columns("height"), m), "has no column 'height'"),
        (lambda t, m: (t.drop_columns("video_id"), m), "has no column 'video_id'"),
        (lambda t, m: (t.slice(0, 0), m), "have masks but no tracks"),
        (lambda t, m: (t, m.set_column(2, "frame_index", pa.array([0] * len(m)))), "two masks"),
        (lambda t, m: (t, m.set_column(2, "frame_index", pa.array([9] * len(m)))), "in frame 9"),
        (lambda t, m: (t, m.set_column(4, "mask", pa.array([b"1"] * len(m)))), "track 0, frame"),
        (
            lambda t, m: (t.set_column(3, "score", pa.array([float("nan")] * len(t))), m),
            "no number",
        ),
        (lambda t, m: (t.set_column(2, "label", pa.nulls(len(t), pa.int32())), m), "nulls"),
    ],
)
def test_damaged_tables(tmp_path, videos, change, says):
    folder = write_results(tmp_path / "out", videos[:1])
    paths = [folder / under / "part-00000.parquet" for under in ("tracks", "masks")]
    tables = change(*map(pq.read_table, paths))
    for path, rows in zip(paths, tables, strict=True):
        pq.write_table(rows, path)
    with pytest.raises(UsageError, match=says):
        score(tmp_path, truth_json(videos[:1]), str(folder), "uvo")


@pytest.mark.parametrize(
    ("path", "says"),
    [("nowhere", "nowhere"), ("empty", "holds no tracks"), ("broken.json", "not JSON as expected")],
)
def test_results_that_are_none(tmp_path, videos, path, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.json").write_text('[{"video_id": 1, ')
    with pytest.raises(UsageError, match=says):
        score(tmp_path, truth_json(videos), str(tmp_path / path))


def test_settings_are_checked():
    with pytest.raises(ValueError, match="min_score"):
        EvalConfig(min_score=float("inf"))


def test_a_video_in_several_result_files_of_ours(tmp_path, videos):
    """As in a folder whose run has not ended: never counted twice."""
    folder = write_results(tmp_path / "out", videos[:1])
    for under in ("tracks", "masks"):
        path = folder / under / "part-00000.parquet"
        for digit in "ab":
            (folder / under / f"part-{digit * 32}.parquet").write_bytes(path.read_bytes())
        path.unlink()
    with pytest.raises(UsageError, match="'a/v0' is in several result files"):
        score(tmp_path, truth_json(videos[:1]), str(folder))
