"""`fuse`: results of several runs made one; the same as one job with these members."""

import json

import pytest

from jobs import cli
from tests.support.results import reelmask, table


@pytest.fixture(scope="module")
def runs(clips, tmp_path_factory):
    """Three runs of the oracle: exact, shifted, and one that misses objects."""
    root = tmp_path_factory.mktemp("runs")
    for name, sets in (("exact", ()), ("shifted", ("jitter_px=1.0",)), ("blind", ("drop=0.5",))):
        words = [word for text in (f"truth={clips}/truth.json", *sets) for word in ("--set", text)]
        done = reelmask("label", clips, "--out", root / name, "--system", "oracle", *words)
        assert done.returncode == 0, done.stderr
    return root


def fuse(out, *words):
    return cli.main(["fuse", *map(str, words), "--out", str(out)])


def test_a_run_fused_with_itself_is_itself(runs, tmp_path, capsys):
    assert fuse(tmp_path / "out", f"a={runs}/exact", f"b={runs}/exact", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "videos": 8,
        "tracks": len(table(runs / "exact", "tracks")),
        "masks": len(table(runs / "exact", "masks")),
    }
    masks = [
        sorted(table(folder, "masks")["mask"].to_pylist())
        for folder in (tmp_path / "out", runs / "exact")
    ]
    assert masks[0] == masks[1]
    members = {tuple(names) for names in table(tmp_path / "out", "tracks")["members"].to_pylist()}
    assert members == {("a", "b")}


def test_the_order_of_runs_changes_no_mask(runs, tmp_path):
    two = [runs / "exact", runs / "shifted"]
    assert fuse(tmp_path / "one", *two) == 0
    assert fuse(tmp_path / "other", *reversed(two)) == 0
    one, other = (table(tmp_path / name, "masks") for name in ("one", "other"))
    assert sorted(one["mask"].to_pylist()) == sorted(other["mask"].to_pylist())


def test_fusing_results_is_fusing_members(clips, runs, tmp_path):
    """Done while linking or afterwards: the same tracks, for linkers that cut nothing."""
    job = {
        "inputs": str(clips),
        "out": str(tmp_path / "job"),
        "members": [
            {"name": name, "system": "oracle", "settings": {"truth": f"{clips}/truth.json", **more}}
            for name, more in (("exact", {}), ("shifted", {"jitter_px": 1.0}))
        ],
    }
    (tmp_path / "job.yaml").write_text(json.dumps(job))
    assert reelmask("job", "run", tmp_path / "job.yaml").returncode == 0
    assert fuse(tmp_path / "fused", runs / "exact", runs / "shifted") == 0
    assert table(tmp_path / "fused", "masks").equals(table(tmp_path / "job", "masks"))
    drop = ["num_missing_frames"]
    assert (
        table(tmp_path / "fused", "tracks")
        .drop_columns(drop)
        .equals(table(tmp_path / "job", "tracks").drop_columns(drop))
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["exact"], "two or more"),
        (["exact", "exact"], "name them"),
        (["exact", "nowhere"], "nowhere"),
        (["exact", "blind", "--weight", "exact=0"], "above 0"),
        (["exact", "blind", "--weight", "other=1"], "other"),
        (["exact", "blind", "--set", "tau=2"], "tau"),
    ],
)
def test_mistakes(runs, tmp_path, capsys, words, says):
    folders = [word if word.startswith("-") or "=" in word else runs / word for word in words]
    assert fuse(tmp_path / "out", *folders) == 2
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said
