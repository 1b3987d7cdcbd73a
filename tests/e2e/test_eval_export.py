"""`reelmask eval` and `reelmask export` on results of a run, as a person uses them."""

import json
import os

import duckdb
import pytest

from jobs import cli
from tests.support.clips import write_clips
from tests.support.results import table
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.systems import get_system

PERFECT = {"AP": 100, "AP50": 100, "AP75": 100, "AR100": 100}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos in sub-folders, and their truth; ids have slashes."""
    root = tmp_path_factory.mktemp("data")
    write_clips(root / "clips" / "a b", 3, num_frames=12, seed=4)
    (root / "clips" / "a b" / "truth.json").rename(root / "truth.json")
    truth = json.loads((root / "truth.json").read_text())
    for video in truth["videos"]:
        video["video_id"] = f"a b/{video['video_id']}"
    (root / "truth.json").write_text(json.dumps(truth))
    return root


def run(folder, name, *, every=1, **settings):
    job = make_job(
        [str(folder / "clips")],
        str(folder / name),
        [MemberSpec(system=get_system("oracle"))],
        settings={"truth": str(folder / "truth.json"), **settings},
        every=every,
    )
    assert run_inline(job).exit_code == 0
    return str(folder / name)


@pytest.fixture(scope="module")
def exact(folder):
    return run(folder, "exact")


@pytest.fixture(scope="module")
def noisy(folder):
    return run(folder, "noisy", jitter_px=1, false_rate=0.3, drop=0.2, label_noise=0.2)


def score(capsys, results, folder, metric="ytvis", *more):
    words = ["eval", results, "--truth", str(folder / "truth.json"), "--metric", metric, *more]
    assert cli.main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def export(results, format_name, out, *more):
    return cli.main(["export", results, "--format", format_name, "--out", str(out), *more])


def test_the_oracle_without_noise_is_perfect(folder, exact, capsys):
    for metric in ("ytvis", "uvo"):
        found = score(capsys, exact, folder, metric)
        assert {key: found[key] for key in PERFECT} == pytest.approx(PERFECT)
    assert score(capsys, exact, folder, "davis") == {"J&F": 100, "J": 100, "F": 100}


def test_noise_costs(folder, noisy, capsys):
    found = score(capsys, noisy, folder)
    assert 0 < found["AP"] < found["AP50"] < 100
    assert 0 < score(capsys, noisy, folder, "davis")["J&F"] < 100


def test_the_tracks_folder_alone_gives_the_same(folder, noisy, capsys):
    whole = score(capsys, noisy, folder, "uvo")
    assert score(capsys, os.path.join(noisy, "tracks"), folder, "uvo") == whole  # noqa: PTH118


def test_figures_by_category_for_machines_and_people(folder, noisy, capsys):
    rows = score(capsys, noisy, folder, "ytvis", "--per-category")["per_category"]
    assert [row["name"] for row in rows] == ["box", "disc"]
    words = ["eval", noisy, "--truth", str(folder / "truth.json"), "--metric", "ytvis"]
    assert cli.main([*words, "--per-category"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["AP", "box", "disc", "all", "ytvis:"]
    assert f"{rows[0]['AP']:.2f}" in lines[1]
    assert cli.main([*words[:-1], "uvo", "--per-category"]) == 2
    assert "ignores categories" in capsys.readouterr().err


def test_a_sampled_run_misses_frames_unless_they_are_left_out(folder, capsys):
    sampled = run(folder, "sampled", every=3)
    assert score(capsys, sampled, folder)["AP"] < 10
    found = score(capsys, sampled, folder, "ytvis", "--set", "frames=predicted")
    assert {key: found[key] for key in PERFECT} == pytest.approx(PERFECT)
    assert score(capsys, sampled, folder, "davis", "--set", "frames=predicted")["J"] == 100


def test_results_files_score_like_the_folder_they_come_from(folder, noisy, capsys, tmp_path):
    out = tmp_path / "results.json"
    assert export(noisy, "ytvis", out, "--set", f"truth={folder}/truth.json") == 0
    for metric in ("ytvis", "uvo", "davis"):
        capsys.readouterr()
        assert score(capsys, str(out), folder, metric) == score(capsys, noisy, folder, metric)


def test_results_exported_as_truth_are_perfect_against_themselves(noisy, capsys, tmp_path):
    assert export(noisy, "ytvis", tmp_path / "truth.json", "--set", "flavour=truth") == 0
    capsys.readouterr()
    found = score(capsys, noisy, tmp_path)
    assert {key: found[key] for key in PERFECT} == pytest.approx(PERFECT)


@pytest.mark.parametrize(
    ("format_name", "name"),
    [
        ("ytvis", "a b/clip_0000"),
        ("coco", "a b/clip_0000"),
        ("davis", "a%20b%2Fclip_0000/00000.png"),
        ("mots", "a%20b%2Fclip_0000.txt"),
        ("cvat", "a%20b%2Fclip_0000.xml"),
    ],
)
def test_every_format_is_written(noisy, format_name, name, capsys, tmp_path):
    out = tmp_path / "out"
    assert export(noisy, format_name, out, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["num_videos"] == 3 and report["num_tracks"] == len(table(noisy, "tracks"))
    assert (out / name).exists() if out.is_dir() else out.stat().st_size > 1000
    assert export(noisy, format_name, out) == 2
    assert "exists already" in capsys.readouterr().err


def test_rows_are_the_join_of_the_tables(noisy, tmp_path):
    assert export(noisy, "rows", tmp_path / "rows.csv") == 0
    assert export(noisy, "rows", tmp_path / "rows.parquet") == 0
    query = "select video_id, track_id, frame_index, label, area from '{}' order by all"
    rows = duckdb.sql(query.format(tmp_path / "rows.parquet")).fetchall()
    assert rows == duckdb.sql(query.format(tmp_path / "rows.csv")).fetchall()
    assert len(rows) == len(table(noisy, "masks"))
    assert export(noisy, "rows", tmp_path / "rows.txt") == 2


def test_only_sampled_frames_are_exported(folder, tmp_path):
    sampled = str(folder / "sampled_too")
    run(folder, "sampled_too", every=5)
    assert export(sampled, "davis", tmp_path / "d") == 0
    names = sorted(path.name for path in (tmp_path / "d" / "a%20b%2Fclip_0000").iterdir())
    assert names == ["00000.png", "00005.png", "00010.png"]
    assert export(sampled, "coco", tmp_path / "c.json") == 0
    images = json.loads((tmp_path / "c.json").read_text())["images"]
    assert {row["frame_index"] for row in images} == {0, 5, 10}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["eval", "OUT", "--truth", "gone.json", "--metric", "ytvis"], "gone.json"),
        (["eval", "OUT", "--truth", "OUT/job.yaml", "--metric", "ytvis"], "not JSON"),
        (["eval", "gone", "--truth", "TRUTH", "--metric", "ytvis"], "gone"),
        (["eval", "OUT", "--truth", "TRUTH", "--metric", "uvo", "--set", "frame=all"], "'frames'"),
        (["export", "gone", "--format", "coco", "--out", "OUT/x"], "gone"),
        (["export", "OUT", "--format", "coco", "--out", "s3://b/x"], "local files"),
        (["export", "OUT", "--format", "davis", "--out", "OUT/x", "--set", "max_objects=0"], "254"),
    ],
)
def test_mistakes_are_one_clear_line(folder, exact, words, says, capsys):
    full = [word.replace("OUT", exact).replace("TRUTH", f"{folder}/truth.json") for word in words]
    assert cli.main(full) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.strip().splitlines()) == 1
