"""Tables from others: a `frames` table given to `link`, and results that `verify --deep` reads."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from tests.support.clips import write_clips
from tests.support.linkable import linkable_table
from tests.support.results import table
from vis_core import errors

NAN, INF = float("nan"), float("inf")


def link(frames, out, *more):
    return cli.main(["link", str(frames), "--system", "oracle", "--out", str(out), *more])


def changed(rows, number, **values):
    """The table with other values in one row."""
    found = rows.to_pylist()
    found[number].update(values)
    return pa.Table.from_pylist(found, schema=rows.schema)


def with_instance(rows, number, position, **values):
    """The table with other values in one instance."""
    found = rows.to_pylist()
    found[number]["instances"][position].update(values)
    return pa.Table.from_pylist(found, schema=rows.schema)


def with_flow(rows, number, data, height=4, width=6):
    return changed(rows, number, flow={"height": height, "width": width, "data": data})


ROWS = {
    "negative_frame": ({"frame_index": -3}, "frame_index is -3, expected 0 to"),
    "absurd_frame": ({"frame_index": 1_000_000_000}, "frame_index is 1000000000, expected 0 to"),
    "no_frame": ({"frame_index": None}, "frame_index is null, expected 0 to"),
    "negative_window": ({"window": -1}, "window is -1, expected a whole number of 0 or more"),
    "no_video": ({"video_id": None}, "video_id is null, expected text"),
    "nameless_video": ({"video_id": ""}, "video_id is '', expected the id of a video"),
    "no_member": ({"member": None}, "member is null, expected text"),
    "no_height": ({"height": 0}, "height is 0, expected a whole number of 1 or more"),
    "negative_width": ({"width": -32}, "width is -32, expected a whole number of 1 or more"),
    "absurd_size": ({"height": 2**20, "width": 2**20}, "height is 1048576, expected at most"),
    "null_instances": ({"instances": None}, "instances is null, expected a list"),
    "null_instance": ({"instances": [None]}, "instances is null, expected no null within"),
    "short_flow": ({"flow": {"height": 4, "width": 6, "data": b"12"}}, "flow.data has 2 bytes"),
    "flow_of_no_size": ({"flow": {"height": 0, "width": 6, "data": b""}}, "flow.height is 0"),
    "flow_without_data": ({"flow": {"height": 4, "width": 6, "data": None}}, "flow.data has 0"),
    "flow_of_nan": (
        {"flow": {"height": 1, "width": 1, "data": np.full(2, NAN, "<f2").tobytes()}},
        "flow.data holds a value that is not finite",
    ),
}
INSTANCES = {
    "nan_score": ({"score": NAN}, "score is nan, expected a finite number"),
    "inf_score": ({"score": INF}, "score is inf, expected a finite number"),
    "no_score": ({"score": None}, "score is null, expected a finite number"),
    "label_zero": ({"label": 0}, "label is 0, expected a whole number of 1 or more"),
    "label_beyond": ({"label": 3}, "label is 3, expected 1 to 2, as there are class scores"),
    "nan_box": ({"box": [0, NAN, 1, 1]}, "box is nan, expected a finite number"),
    "short_box": ({"box": [0, 1, 1]}, "box is [0.0, 1.0, 1.0], expected 4 numbers"),
    "no_box": ({"box": None}, "box is null, expected 4 numbers"),
    "no_mask": ({"mask": None}, "mask is null, expected run lengths"),
    "wide_embedding": ({"embedding": [1.0] * 17}, "expected 16 numbers, as in other rows"),
    "no_embedding": ({"embedding": None}, "embedding is null, expected a value, as other"),
    "inf_embedding": ({"embedding": [INF] * 16}, "embedding is inf, expected a finite"),
    "more_classes": ({"class_scores": [0.5] * 3}, "expected 2 numbers, as in other rows"),
    "nan_class": ({"class_scores": [0.5, NAN]}, "class_scores is nan, expected a finite"),
    "nan_logprob": ({"no_object_logprob": NAN}, "no_object_logprob is nan, expected a finite"),
    "long_center": ({"center": [1.0, 2.0, 3.0]}, "center is [1.0, 2.0, 3.0], expected 2 numbers"),
    "nan_reference": (
        {"ref_flow": [{"frame_index": 0, "dy": NAN, "dx": 0.0}]},
        "ref_flow.dy is nan, expected a finite number",
    ),
    "null_reference": (
        {"ref_affinity": [{"frame_index": 0, "instance": None, "iou": 1.0, "affinity": 1.0}]},
        "ref_affinity.instance is null, expected a whole number",
    ),
    "negative_reference": (
        {"ref_affinity": [{"frame_index": 0, "instance": -1, "iou": 1.0, "affinity": 1.0}]},
        "ref_affinity.instance is -1, expected a whole number of 0 or more",
    ),
}


def refusal(rows, folder, capsys):
    """The one line that `link` says of a table it must refuse."""
    pq.write_table(rows, folder / "frames.parquet", row_group_size=2)
    capsys.readouterr()
    assert link(folder / "frames.parquet", folder / "out") == errors.EXIT_USAGE
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert said.out == "" and len(line) < 500 and not (folder / "out").exists()
    return line


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_row_is_refused_by_file_row_video_and_frame(name, tmp_path, capsys):
    """Nothing is linked from a table of which one row is not as it should be."""
    values, says = ROWS[name]
    line = refusal(changed(linkable_table(), 3, **values), tmp_path, capsys)
    video = values.get("video_id", "v")
    frame = values.get("frame_index", 3)
    assert f"frames.parquet: row 3 (video {video!r}, frame {frame}): " in line
    assert says in line


@pytest.mark.parametrize("name", INSTANCES)
def test_a_bad_instance_is_refused(name, tmp_path, capsys):
    """One value of one instance is enough."""
    values, says = INSTANCES[name]
    line = refusal(with_instance(linkable_table(), 4, 1, **values), tmp_path, capsys)
    assert "frames.parquet: row 4 (video 'v', frame 4): instances." in line
    assert says in line


def test_rows_that_are_there_twice_or_of_two_sizes_are_refused(tmp_path, capsys):
    """One row per member, video, window and frame; one size per video."""
    rows = linkable_table()
    line = refusal(pa.concat_tables([rows, rows.slice(2, 1)]), tmp_path, capsys)
    assert "frame 2 of 'v' is there twice" in line
    assert "'v' has frames of several sizes" in refusal(
        changed(rows, 1, height=36, width=16), tmp_path, capsys
    )


def test_columns_of_another_kind_name_the_file(tmp_path, capsys):
    """Not only what is in a column can be wrong."""
    rows = linkable_table()
    for name, values in (
        ("frame_index", pa.array(np.arange(6) + 0.5)),
        ("height", pa.array(["tall"] * 6)),
        ("instances", pa.array(np.arange(6))),
        ("flow", pa.array([[1]] * 6)),
        ("window", pa.array(np.full(6, 2**63, np.uint64))),
    ):
        other = rows.set_column(rows.schema.get_field_index(name), name, values)
        line = refusal(other, tmp_path, capsys)
        assert "frames.parquet cannot be read as a `frames` table: " in line


def test_a_row_group_that_promises_too_much_is_refused(tmp_path, capsys, monkeypatch):
    """A few bytes of Parquet may stand for more rows than any memory holds."""
    monkeypatch.setattr("vis_core.stages.frames_table._MAX_GROUP_ROWS", 1)
    line = refusal(linkable_table(), tmp_path, capsys)
    assert "a row group of 2 rows" in line and "smaller row groups" in line


# --- what a results folder knows ----------------------------------------------------------------


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Results of two short clips."""
    root = tmp_path_factory.mktemp("labelled")
    write_clips(root / "clips", 2, num_frames=8, seed=3)
    words = ["label", str(root / "clips"), "--out", str(root / "out"), "--system", "oracle"]
    assert cli.main([*words, "--set", f"truth={root}/clips/truth.json"]) == errors.EXIT_OK
    return root / "out"


@pytest.fixture
def results(labelled, tmp_path):
    """A results folder to spoil."""
    return Path(shutil.copytree(labelled, tmp_path / "results"))


def spoil(folder, under, change):
    """Rewrites the rows of a result table; row groups stay."""
    (path,) = sorted((folder / under).glob("*.parquet"))
    file = pq.ParquetFile(path)
    rows = file.read().to_pylist()
    change(rows)
    kind = file.schema_arrow
    pq.write_table(pa.Table.from_pylist(rows, schema=kind), path, write_page_checksum=True)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"frame_index": 8}, "frame_index is 8, expected a frame of its video, which has 8"),
        ({"instances": [{"label": 99}]}, "label is 99, expected one of the categories: 1, 2"),
    ],
)
def test_frames_beside_videos_and_categories_must_fit_them(results, tmp_path, capsys, values, says):
    """`link OUT/frames` knows how long the videos are, and which labels there are."""

    def change(rows):
        if "instances" in values:
            rows[-1]["instances"][0].update(values["instances"][0])
            for row in rows:  # which would bound the labels, too
                for instance in row["instances"]:
                    instance["class_scores"] = None
        else:
            rows[-1].update(values)

    spoil(results, "frames", change)
    capsys.readouterr()
    assert link(results / "frames", tmp_path / "out") == errors.EXIT_USAGE
    assert says in capsys.readouterr().err


def first_mask(**values):
    return "masks", lambda rows: rows[0].update(values)


def first_track(**values):
    return "tracks", lambda rows: rows[0].update(values)


DAMAGE = {
    "far_frame": (first_mask(frame_index=1_000_000_000), "frame 1000000000: its video has 8"),
    "negative_frame": (first_mask(frame_index=-3), "frame -3: its video has 8"),
    "other_frame_twice": (
        ("masks", lambda rows: rows[1].update(frame_index=rows[0]["frame_index"])),
        "two masks",
    ),
    "box": (first_mask(box=[0.0, 0.0, 1.0, 1.0]), "its box is"),
    "no_box": (first_mask(box=None), "its box is"),
    "no_mask": (first_mask(mask=None), "no mask"),
    "bad_mask": (first_mask(mask=b"00"), "cover"),
    "no_track_of_it": (first_mask(track_id=77), "track 77"),
    "nan_mask_score": (first_mask(score=NAN), "its score is nan"),
    "num_frames": (first_track(num_frames=3), "masks for 3 frames"),
    "start": (first_track(start_frame=-1), "start_frame"),
    "stop": (first_track(stop_frame=99), "stop_frame"),
    "label": (first_track(label=99), "label 99"),
    "entries": (first_track(entries=[{"label": 98, "score": 0.5}]), "label 98"),
    "score": (first_track(score=NAN), "score nan"),
    "size": (first_track(height=7), "7 x"),
    "length": (first_track(video_num_frames=9), "video_num_frames"),
    "no_video": (first_track(video_id="nobody"), "nobody"),
    "null_id": (first_track(track_id=None), "null"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_deep_finds_rows_that_do_not_fit(results, capsys, name):
    """One line for each, with video, track and frame; without a traceback."""
    (under, change), says = DAMAGE[name]
    spoil(results, under, change)
    capsys.readouterr()
    assert cli.main(["verify", str(results), "--deep"]) == errors.EXIT_FAILED
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    lines = [line for line in said.out.splitlines() if says in line]
    assert lines, said.out
    if under == "masks" and name not in ("no_track_of_it",):
        assert re.search(r"clip_0000: track 0, frame -?\d+: ", lines[0])


def test_deep_says_no_more_than_can_be_read(results, capsys):
    """A folder full of faults gives so many lines and their number."""

    def change(rows):
        for row in rows:
            row["frame_index"] += 1_000_000

    spoil(results, "masks", change)
    num_masks = len(table(results, "masks"))
    assert cli.main(["verify", str(results), "--deep"]) == errors.EXIT_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert num_masks > 25 and len(lines) < 30
    assert any(re.search(r"\d+ more", line) for line in lines)


def test_deep_has_nothing_to_say_of_whole_results(labelled, capsys):
    """What a run writes is in order."""
    assert cli.main(["verify", str(labelled), "--deep"]) == errors.EXIT_OK
