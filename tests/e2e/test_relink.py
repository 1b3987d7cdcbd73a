"""`link`: the tracks of `label`, from its predictions alone, in whatever order they lie."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from tests.support.results import reelmask, result_digest, table

SETS = ("--set", "jitter_px=1.0", "--set", "label_noise=0.1")


@pytest.fixture(scope="module")
def labelled(clips, tmp_path_factory):
    """Predictions and tracks of eight clips, in parts of seven frames."""
    out = tmp_path_factory.mktemp("labelled") / "out"
    sets = (*SETS, "--set", f"truth={clips}/truth.json", "--set", "shard_frames=7")
    assert reelmask("label", clips, "--out", out, "--system", "oracle", *sets).returncode == 0
    return out


def link(frames, out, *more):
    return cli.main(["link", str(frames), "--system", "oracle", "--out", str(out), *more])


def shuffled(labelled, folder, *, files=3, columns=None):
    """The same rows as a table without a manifest: mixed over files, in small row groups."""
    rows = table(labelled, "frames")
    rows = rows.take(pa.array(np.random.default_rng(5).permutation(len(rows))))
    if columns:
        rows = rows.drop_columns([name for name in rows.column_names if name not in columns])
    folder.mkdir()
    for number in range(files):
        mine = rows.take(pa.array(np.arange(number, len(rows), files)))
        pq.write_table(mine, folder / f"some-{number}.parquet", row_group_size=11)
    return folder


@pytest.mark.parametrize("source", ["folder", "parts", "shuffled"])
def test_the_same_tracks_from_the_predictions(labelled, tmp_path, source, capsys):
    frames = {
        "folder": lambda: labelled,
        "parts": lambda: labelled / "frames",
        "shuffled": lambda: shuffled(labelled, tmp_path / "rows"),
    }[source]()
    assert link(frames, tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["videos"] == 8
    assert result_digest(tmp_path / "out") == result_digest(labelled)


def test_sampled_frames_are_known_after_linking_elsewhere(clips, tmp_path, capsys):
    """Scores over the frames that were looked at, though the folder holds no job."""
    truth = clips / "truth.json"
    words = ("--system", "oracle", "--set", f"truth={truth}", "--every", "4")
    assert cli.main(["label", str(clips), "--out", str(tmp_path / "labels"), *words]) == 0
    assert link(tmp_path / "labels", tmp_path / "out") == 0
    capsys.readouterr()
    words = ("--truth", str(truth), "--metric", "ytvis", "--set", "frames=predicted", "--json")
    assert cli.main(["eval", str(tmp_path / "out"), *words]) == 0
    assert json.loads(capsys.readouterr().out)["AP"] == 100


def test_a_table_of_foreign_make_needs_only_the_keys_and_instances(labelled, tmp_path):
    needed = ("video_id", "frame_index", "height", "width", "instances")
    frames = shuffled(labelled, tmp_path / "rows", columns=needed)
    assert link(frames, tmp_path / "out") == 0
    assert table(tmp_path / "out", "masks").equals(table(labelled, "masks"))


def test_other_linker_settings_and_twice_into_one_folder(labelled, tmp_path):
    assert link(labelled, tmp_path / "out", "--set", "min_len=1000") == 0
    assert len(table(tmp_path / "out", "tracks")) == 0
    assert link(labelled, tmp_path / "out", "--set", "link_rows=1") == 0
    assert len(list((tmp_path / "out" / "tracks").iterdir())) == 8
    assert result_digest(tmp_path / "out") == result_digest(labelled)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda rows, path: None, "expected a `frames` table"),
        (lambda rows, path: path.write_bytes(b"PAR1 no"), "is no Parquet file"),
        (lambda rows, path: pq.write_table(rows.drop_columns(["instances"]), path), "instances"),
        (lambda rows, path: pq.write_table(pa.concat_tables([rows, rows]), path), "there twice"),
        (lambda rows, path: pq.write_table(rows.slice(0, 0), path), "no rows"),
        (lambda rows, path: pq.write_table(with_members(rows), path), "name one with --member"),
        (lambda rows, path: pq.write_table(with_a_bad_mask(rows), path), "mask of instance 0"),
    ],
)
def test_what_is_no_frames_table(labelled, tmp_path, capsys, make, says):
    rows = table(labelled, "frames")
    make(rows, tmp_path / "rows.parquet")
    code = link(tmp_path / "rows.parquet", tmp_path / "out")
    assert code == 2
    captured = capsys.readouterr()
    assert says in captured.err + captured.out and "Traceback" not in captured.err


def with_members(rows):
    names = pa.array(["one"] + ["two"] * (len(rows) - 1))
    return rows.set_column(rows.schema.get_field_index("member"), "member", names)


def with_a_bad_mask(rows):
    broken = rows.slice(0, 3).to_pylist()
    broken[0]["instances"][0]["mask"] = b"\xff\xff"
    return pa.Table.from_pylist(broken, schema=rows.schema)


def test_a_results_folder_is_no_place_for_it(labelled, tmp_path, capsys):
    assert link(labelled / "frames", labelled) == 2
    assert "re-links in place" in capsys.readouterr().err
