"""What is exported reads back as the tracks it was made of, as far as the format can hold them."""

import dataclasses
import json

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from tests.support.random_tracks import (
    contents,
    random_tracks,
    truth_json,
    without_empty,
    write_json,
    write_results,
)
from vis_core.errors import UsageError
from vis_core.eval.evaluate import evaluate
from vis_core.formats.cocovid import CocoVideoFile
from vis_core.formats.cvat import read_cvat
from vis_core.formats.davis import read_davis
from vis_core.formats.export import ExportConfig, export
from vis_core.formats.label_maps import LabelMaps
from vis_core.formats.model import Entries, make_tracks, no_tracks
from vis_core.formats.mots import read_mots
from vis_core.formats.names import file_name
from vis_core.formats.results import Results
from vis_core.formats.ytvis import ResultsFile, TruthFile
from vis_core.masks import rle

NAMES = {1: "cat", 2: "dog & <cow>"}
HOSTILE = "../up/a b&<é>\u2028"


def some_videos():
    """Ids with slashes and worse, one frame, nothing found, a track in one frame."""
    shapes = [
        ("plain", {"num_tracks": 4}),
        ("a/b/c", {"num_tracks": 2, "num_frames": 1}),
        (HOSTILE, {"num_tracks": 3, "num_frames": 6, "size": (5, 3)}),
        ("one", {"num_tracks": 1, "num_frames": 3, "size": (1, 1)}),
    ]
    videos = [
        without_empty(random_tracks(k, video_id=name, **options))
        for k, (name, options) in enumerate(shapes)
    ]
    return [video for video in videos if len(video)]


def exported(tmp_path, videos, format_name, name="out", **config):
    folder = tmp_path / "results"
    if not folder.exists():
        write_results(folder, videos, categories=NAMES)
    out = tmp_path / name
    report = export(str(folder), format_name, str(out), ExportConfig(**config))
    assert report.num_masks == sum(len(video.masks) for video in videos)
    return out


def assert_same(found, expected, *, scores=True, labels=True):
    assert found.video == expected.video
    assert contents(found) == contents(expected)
    if labels:
        assert found.labels.tolist() == expected.labels.tolist()
    if scores:
        assert found.scores.tolist() == pytest.approx(expected.scores.tolist())


def flattened(video):
    """The masks that are left when every pixel has one owner."""
    maps = LabelMaps(video)
    found = {int(i): {} for i in video.track_ids}
    for frame in range(video.video.num_frames):
        label_map = maps.frame(frame)
        for track_id, label in zip(video.track_ids.tolist(), maps.labels, strict=True):
            if (label_map == label).any():
                found[track_id][frame] = rle.encode((label_map == label)[None])[0]
    return found


def by_content(tracks_as_dicts):
    """Tracks without their names, and without those that own no pixel."""
    return sorted(sorted(masks.items()) for masks in tracks_as_dicts.values() if masks)


# --- our own tables -------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shuffle=st.none() | st.integers(0, 99),
    files=st.integers(1, 3),
    row_group=st.sampled_from([2, 7, 1000]),
)
def test_tables_read_back_however_they_are_cut(tmp_path_factory, seed, shuffle, files, row_group):
    folder = tmp_path_factory.mktemp("tables")
    videos = [without_empty(random_tracks(seed + k, video_id=f"v/{k}")) for k in range(4)]
    videos = [video for video in videos if len(video)]
    write_results(folder, videos, shuffle=shuffle, files=files, row_group=row_group)
    found = {v.video.video_id: v for v in Results(str(folder)).tracks()}
    assert len(found) == len(videos)
    for video in videos:
        assert_same(found[video.video.video_id], video)
        mine = found[video.video.video_id]
        assert mine.mask_scores == pytest.approx(video.mask_scores)
        assert mine.entries.labels.tolist() == video.entries.labels.tolist()


def test_the_tracks_folder_alone_is_enough(tmp_path):
    videos = some_videos()
    folder = write_results(tmp_path / "results", videos)
    for root in (folder, folder / "tracks", f"{folder}/tracks/"):
        assert len(list(Results(str(root)).tracks())) == len(videos)


# --- YouTube-VIS ----------------------------------------------------------------------------------


def test_ytvis_truth(tmp_path):
    videos = some_videos()
    truth = TruthFile(str(exported(tmp_path, videos, "ytvis", flavour="truth")))
    assert set(truth.videos) == {video.video.video_id for video in videos}
    assert [category.name for category in truth.categories] == list(NAMES.values())
    for video in videos:
        found = truth.video(video.video.video_id)
        assert by_content(contents(found.tracks)) == by_content(contents(video))
        assert sorted(found.tracks.labels) == sorted(video.labels)
        assert found.tracks.video == video.video
        areas = [video.areas[video.of_track(i)].mean() for i in range(len(video))]
        assert sorted(found.mean_areas) == pytest.approx(sorted(areas))
    names = json.loads((tmp_path / "out").read_text())["videos"]
    assert not any(".." in n.split("/") for row in names for n in row["file_names"])


def test_ytvis_results_have_a_line_per_entry(tmp_path):
    videos = some_videos()
    first = videos[0]
    lines = Entries(
        track=np.repeat(np.arange(len(first)), 2),
        labels=np.tile([1, 2], len(first)),
        scores=np.arange(2 * len(first)) / 16,
    )
    videos[0] = dataclasses.replace(first, entries=lines)
    out = exported(tmp_path, videos, "ytvis", "r.json")
    numbered = exported(tmp_path, videos, "ytvis", "t.json", flavour="truth")
    truth = TruthFile(str(numbered))
    for found in ResultsFile(str(out), truth).tracks(set(truth.videos)):
        video = next(v for v in videos if v.video == found.video)
        expected = [contents(video)[video.track_ids[t]] for t in video.entries.track]
        assert list(contents(found).values()) == expected
        assert found.labels.tolist() == video.entries.labels.tolist()
        assert found.scores.tolist() == pytest.approx(video.entries.scores.tolist())
    rows = json.loads(out.read_text())
    assert all(
        coco.area({**mask, "counts": mask["counts"].encode()}) > 0
        for row in rows
        for mask in row["segmentations"]
        if mask
    )


def test_ytvis_results_take_numbers_and_categories_of_a_truth_file(tmp_path):
    """Numbers differ and names agree, as between editions of one data set."""
    videos = [without_empty(random_tracks(k, video_id=f"v{k}", num_tracks=4)) for k in range(3)]
    truth = truth_json(videos)
    for row in truth["videos"]:
        row["id"] = 100 - row["id"]
    for row in truth["annotations"]:
        row["video_id"] = 100 - row["video_id"]
        row["category_id"] += 30
    truth["categories"] = [{"id": 31, "name": "cat"}, {"id": 32, "name": NAMES[2]}]
    path = write_json(tmp_path / "truth.json", truth)
    out = exported(tmp_path, videos, "ytvis", "r.json", truth=path)
    folder = str(tmp_path / "results")
    assert evaluate(str(out), path, "ytvis").figures == evaluate(folder, path, "ytvis").figures
    assert {row["video_id"] for row in json.loads(out.read_text())} == {97, 98, 99}
    truth["videos"] = truth["videos"][1:]
    truth["annotations"] = []
    write_json(tmp_path / "truth.json", truth)
    with pytest.raises(UsageError, match=r"1 of 3 videos are not in .*'v0'"):
        export(folder, "ytvis", str(tmp_path / "x.json"), ExportConfig(truth=path))


# --- COCO-VID -------------------------------------------------------------------------------------


def test_coco_video(tmp_path):
    videos = some_videos()
    file = CocoVideoFile(str(exported(tmp_path, videos, "coco")))
    found = {video.video.video_id: video for video in file.tracks()}
    assert set(found) == {video.video.video_id for video in videos}
    assert {c.label: c.name for c in file.categories} == NAMES
    for video in videos:
        mine = found[video.video.video_id]
        assert mine.video == video.video
        assert list(contents(mine).values()) == list(contents(video).values())
        assert mine.labels.tolist() == video.labels.tolist()
        assert mine.scores.tolist() == pytest.approx(video.scores.tolist())
    content = json.loads((tmp_path / "out").read_text())
    for name in ("videos", "images", "tracks", "annotations"):
        assert [row["id"] for row in content[name]] == list(range(1, len(content[name]) + 1))
    images = {row["id"]: row for row in content["images"]}
    for row in content["annotations"]:
        assert images[row["image_id"]]["video_id"] == row["video_id"]
        mask = {**row["segmentation"], "counts": row["segmentation"]["counts"].encode()}
        assert (coco.area(mask), coco.toBbox(mask).tolist()) == (row["area"], row["bbox"])


# --- label maps -----------------------------------------------------------------------------------


def test_davis(tmp_path):
    videos = some_videos()
    out = exported(tmp_path, videos, "davis")
    assert sorted(path.name for path in out.iterdir()) == sorted(
        file_name(video.video.video_id) for video in videos
    )
    found = {video.video.video_id: video for video in read_davis(str(out))}
    for video in videos:
        mine = found[video.video.video_id]
        assert mine.video == video.video
        assert by_content(contents(mine)) == by_content(flattened(video))
    with Image.open(out / "plain" / "00000.png") as image:
        assert image.mode == "P"
        assert image.getpalette()[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def test_davis_takes_the_best_and_says_what_was_lost(tmp_path):
    video = without_empty(random_tracks(8, num_tracks=9))
    folder = write_results(tmp_path / "r", [video], categories=NAMES)
    report = export(str(folder), "davis", str(tmp_path / "o"), ExportConfig(max_objects=2))
    assert any("hidden under tracks of higher score" in note for note in report.notes)
    assert f"{len(video) - 2} tracks left out, beyond max_objects of their video" in report.notes
    (found,) = read_davis(str(tmp_path / "o"))
    assert found.track_ids.max() <= 2


def test_mots(tmp_path):
    videos = some_videos()
    out = exported(tmp_path, videos, "mots")
    found = {video.video.video_id: video for video in read_mots(str(out))}
    for video in videos:
        expected = by_content(flattened(video))
        mine = found[video.video.video_id]
        assert by_content(contents(mine)) == expected
        assert mine.video.size == video.video.size
        assert (mine.track_ids // 1000 == mine.labels).all() and (mine.track_ids % 1000 > 0).all()
    for line in (out / "plain.txt").read_text().splitlines():
        _, object_id, label, height, width, text = line.split(" ")
        assert int(object_id) // 1000 == int(label) and (height, width) == ("9", "13")
        assert coco.area({"size": [9, 13], "counts": text.encode()}) > 0


def test_mots_keeps_class_10_for_what_is_ignored(tmp_path):
    video = without_empty(random_tracks(1, num_tracks=3))
    video = dataclasses.replace(video, labels=np.full(len(video), 10))
    video = dataclasses.replace(
        video, entries=dataclasses.replace(video.entries, labels=video.labels)
    )
    folder = str(write_results(tmp_path / "r", [video]))
    with pytest.raises(UsageError, match="mots_class"):
        export(folder, "mots", str(tmp_path / "o"))
    assert not (tmp_path / "o").exists()
    export(folder, "mots", str(tmp_path / "o"), ExportConfig(mots_class=2))
    path = tmp_path / "o" / "clip.txt"
    path.write_text(path.read_text() + "0 10000 10 9 13 R1m1\n")
    (found,) = read_mots(str(tmp_path / "o"))
    assert set(found.labels.tolist()) == {2}


# --- CVAT -----------------------------------------------------------------------------------------


def test_cvat(tmp_path):
    videos = some_videos()
    out = exported(tmp_path, videos, "cvat")
    numbers = {name: label for label, name in NAMES.items()}
    for video in videos:
        found = read_cvat(str(out / f"{file_name(video.video.video_id)}.xml"), numbers)
        assert_same(found, video, scores=False)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_cvat_closes_a_track_where_it_is_not_seen(tmp_path_factory, seed):
    folder = tmp_path_factory.mktemp("cvat")
    video = without_empty(random_tracks(seed, num_frames=7, num_tracks=2))
    if not len(video):
        return
    out = exported(folder, [video], "cvat")
    text = (out / "clip.xml").read_text()
    for number, track in enumerate(text.split("<track ")[1:]):
        seen = set(video.frame_index[video.of_track(number)].tolist())
        opened = [int(line.split('"')[1]) for line in track.splitlines() if 'outside="0"' in line]
        closed = [int(line.split('"')[1]) for line in track.splitlines() if 'outside="1"' in line]
        assert set(opened) == seen
        assert set(closed) == {frame + 1 for frame in seen if frame < 6} - seen


def test_cvat_masks_are_read_row_by_row_within_their_box(tmp_path):
    """As CVAT writes them: background first, over the crop; and file labels number from 1."""
    path = tmp_path / "task.xml"
    path.write_text(
        "<annotations><meta><job><size>5</size><labels><label><name>x</name></label>"
        "<label><name>cat</name></label></labels><original_size><width>6</width>"
        '<height>4</height></original_size></job></meta><track id="3" label="cat" source="m">'
        '<mask frame="2" outside="0" keyframe="1" rle="1, 3, 1, 1" left="2" top="1" width="3"'
        ' height="2" z_order="0"><attribute name="a">v</attribute></mask>'
        '<mask frame="3" outside="1" keyframe="1" rle="6" left="0" top="0" width="3" height="2"/>'
        "</track></annotations>"
    )
    found = read_cvat(str(path))
    assert found.track_ids.tolist() == [3] and found.labels.tolist() == [2]
    assert found.frame_index.tolist() == [2] and found.video.num_frames == 5
    expected = np.zeros((4, 6), bool)
    expected[1, 3:5] = expected[2, 2] = expected[2, 4] = True
    assert (rle.decode(found.masks, (4, 6))[0] == expected).all()


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_rows_join_tracks_and_masks(tmp_path, suffix):
    videos = some_videos()
    out = exported(tmp_path, videos, "rows", f"rows.{suffix}")
    rows = (
        duckdb.sql(f"select * from '{out}' order by video_id, track_id, frame_index")
        .to_arrow_table()
        .to_pylist()
    )
    expected = sorted(
        (video.video.video_id, track_id, frame, mask)
        for video in videos
        for track_id, masks in contents(video).items()
        for frame, mask in masks.items()
    )
    as_bytes = [r["mask"] if isinstance(r["mask"], bytes) else r["mask"].encode() for r in rows]
    keys = ("video_id", "track_id", "frame_index")
    assert [
        (*(row[key] for key in keys), mask) for row, mask in zip(rows, as_bytes, strict=True)
    ] == [tuple(row) for row in expected]
    for row, mask in zip(rows, as_bytes, strict=True):
        assert row["category"] == NAMES[row["label"]]
        assert row["area"] == rle.areas([mask], (row["height"], row["width"]))[0]


def test_rows_keep_what_was_carried_as_null(tmp_path):
    video = without_empty(random_tracks(2))
    scores = video.mask_scores.copy()
    scores[0] = np.nan
    out = exported(tmp_path, [dataclasses.replace(video, mask_scores=scores)], "rows", "r.parquet")
    assert pq.read_table(out)["score"].null_count == 1


# --- any masks in any format ----------------------------------------------------------------------


def read_back(out, format_name):
    """What a reader makes of an export: tracks by video."""
    if format_name == "ytvis":
        truth = TruthFile(str(out))
        return {name: truth.video(name).tracks for name in truth.videos}
    readers = {
        "coco": lambda: CocoVideoFile(str(out)).tracks(),
        "davis": lambda: read_davis(str(out)),
        "mots": lambda: read_mots(str(out)),
        "cvat": lambda: map(read_cvat, map(str, out.iterdir())),
    }
    return {video.video.video_id: video for video in readers[format_name]()}


@pytest.mark.parametrize("format_name", ["ytvis", "coco", "davis", "mots", "cvat"])
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    num_tracks=st.integers(1, 6),
    num_frames=st.integers(1, 6),
)
def test_any_masks(tmp_path_factory, format_name, seed, size, num_tracks, num_frames):
    folder = tmp_path_factory.mktemp("any")
    options = {"size": size, "num_tracks": num_tracks, "num_frames": num_frames}
    drawn = [random_tracks(seed + k, video_id=f"v/{k}", **options) for k in range(2)]
    videos = [video for video in map(without_empty, drawn) if len(video)]
    if not videos:
        return
    config = {"flavour": "truth"} if format_name == "ytvis" else {}
    found = read_back(exported(folder, videos, format_name, **config), format_name)
    for video in videos:
        exact = format_name not in ("davis", "mots")
        expected = contents(video) if exact else flattened(video)
        assert by_content(contents(found[video.video.video_id])) == by_content(expected)


# --- all of them ----------------------------------------------------------------------------------

FORMATS = ["ytvis", "coco", "davis", "mots", "cvat", "rows"]


def files_of(path):
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("format_name", FORMATS)
def test_an_export_does_not_depend_on_the_order_of_rows(tmp_path, format_name):
    videos = some_videos()
    name = "x.csv" if format_name == "rows" else "x"
    found = []
    for number, shuffle in enumerate((None, 5)):
        folder = tmp_path / str(number)
        write_results(folder, videos, categories=NAMES, shuffle=shuffle)
        export(str(folder), format_name, str(tmp_path / f"{number}{name}"))
        found.append(files_of(tmp_path / f"{number}{name}"))
    if format_name == "rows":
        found = [sorted(files[""].splitlines()) for files in found]
    assert found[0] == found[1]


@pytest.mark.parametrize("format_name", FORMATS)
def test_nothing_found_is_exported_as_nothing(tmp_path, format_name):
    video = without_empty(random_tracks(1, num_tracks=2))
    folder = write_results(tmp_path / "results", [video], categories=NAMES)
    out = tmp_path / "x.csv"
    report = export(str(folder), format_name, str(out), ExportConfig(min_score=2.0))
    assert (report.num_videos, report.num_tracks, report.num_masks) == (1, 0, 0)
    assert f"{len(video)} tracks left out, of which no result line remains" in report.notes
    assert out.exists()


@pytest.mark.parametrize("format_name", FORMATS)
def test_output_that_exists_is_refused(tmp_path, format_name):
    folder = write_results(tmp_path / "results", some_videos(), categories=NAMES)
    (tmp_path / "x.csv").write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        export(str(folder), format_name, str(tmp_path / "x.csv"))
    assert (tmp_path / "x.csv").read_text() == "mine"


@pytest.mark.parametrize("format_name", FORMATS)
def test_a_failure_half_way_leaves_nothing(tmp_path, format_name, monkeypatch):
    folder = write_results(tmp_path / "results", some_videos(), categories=NAMES)
    yielded = Results.tracks

    def broken(self, wanted=None):
        for number, tracks in enumerate(yielded(self, wanted)):
            if number == 2:
                raise UsageError("damaged")
            yield tracks

    monkeypatch.setattr(Results, "tracks", broken)
    with pytest.raises(UsageError, match="damaged"):
        export(str(folder), format_name, str(tmp_path / "x.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["results"]


def test_settings_of_another_format_are_said_to_have_no_effect(tmp_path, caplog):
    folder = write_results(tmp_path / "results", some_videos(), categories=NAMES)
    export(str(folder), "coco", str(tmp_path / "x.json"), ExportConfig(max_objects=3))
    assert "max_objects has no effect on format coco" in caplog.text


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"max_objects": 255}, "max_objects: expected 1 to 254"),
        ({"mots_class": 10}, "mots_class: expected 1 to 9"),
        ({"min_score": float("nan")}, "min_score"),
        ({"flavour": "truth", "truth": "x"}, "truth=FILE"),
    ],
)
def test_settings_are_checked(values, says):
    with pytest.raises(ValueError, match=says):
        ExportConfig(**values)


def test_empty_masks_and_empty_videos_are_fine():
    video = random_tracks(3).video
    assert len(no_tracks(video)) == 0
    empty = make_tracks(
        video,
        track_ids=[4],
        labels=[1],
        scores=[0.5],
        owner=[0],
        frame_index=[1],
        masks=[rle.empty_mask(video.size)],
    )
    assert len(empty) == 1 and len(empty.masks) == 0
