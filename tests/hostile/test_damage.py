"""Any one file below a results folder is damaged: the next runs mend it, or say what to do."""

import itertools
import os
import random
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from tests.support.clips import write_clips
from tests.support.results import result_digest, table
from vis_core.errors import ReelmaskError
from vis_core.stages import audit
from vis_core.store.lease import LEASE
from vis_core.store.store import open_store
from vis_core.systems import SYSTEMS

NOISE = random.Random(5)


def delete(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def noise(path):
    path.write_bytes(NOISE.randbytes(path.stat().st_size))


def copy(path):
    shutil.copy(path, path.with_stem(f"{path.stem}-copy"))


def legal_copy(path):
    """Under a name that could be ours."""
    stem = path.stem.partition("~")[0]
    shutil.copy(path, path.with_stem(stem[:-1] + ("0" if stem[-1] != "0" else "1")))


DAMAGES = (delete, empty, cut, noise, copy, legal_copy)
KINDS = (
    *("job.yaml", "run.json", "videos/*", "categories/*", "failures/*", "tracks/*", "masks/*"),
    *("frames/*", "manifest/segments/*", "manifest/links/*", "manifest/ids/*"),
    *("manifest/attempts/*", "manifest/current.parquet", LEASE),
)
QUICK = {
    *(("videos/*", empty), ("videos/*", noise), ("tracks/*", cut), ("masks/*", noise)),
    *(("tracks/*", copy), ("masks/*", legal_copy), ("frames/*", noise), ("frames/*", legal_copy)),
    *(("manifest/segments/*", cut), ("manifest/links/*", empty), ("manifest/ids/*", noise)),
    *(("failures/*", noise), ("manifest/attempts/*", noise), (LEASE, noise)),
}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Two clips, one of them once in quarantine, and their results."""
    folder = tmp_path_factory.mktemp("damage")
    write_clips(folder / "clips", 2, num_frames=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REELMASK_FAILPOINTS", "decode_frame[clip_0001]=segv")
        assert cli.main(words(folder, folder / "out")) == 3
    assert cli.main(words(folder, folder / "out", "--retry-quarantined")) == 0
    return folder


def words(folder, out, *more):
    setting = ("--set", f"truth={folder}/clips/truth.json", "--set", "shard_frames=2")
    setting += ("--set", "index_workers=1", "--set", "max_attempts=1")
    return ["label", f"{folder}/clips", "--out", str(out), "--system", "oracle", *setting, *more]


def files(out, kind):
    return sorted(path for path in out.glob(kind) if path.is_file())


def pairs():
    for kind, damage in itertools.product(KINDS, DAMAGES):
        marks = [] if (kind, damage) in QUICK else [pytest.mark.chaos, pytest.mark.endless]
        yield pytest.param(kind, damage, id=f"{kind}-{damage.__name__}", marks=marks)


@pytest.mark.parametrize(("kind", "damage"), list(pairs()))
def test_one_damaged_file_is_mended_or_named(labelled, tmp_path, capsys, kind, damage):
    """One or two more runs give the clean rows, or one line names the file and the remedy."""
    clean = result_digest(labelled / "out")
    for number, path in enumerate(files(labelled / "out", kind)):
        out = shutil.copytree(labelled / "out", tmp_path / f"out-{number}")
        target = out / path.relative_to(labelled / "out")
        damage(target)
        capsys.readouterr()
        codes = [cli.main(words(labelled, out)) for _ in range(2)]
        said = capsys.readouterr().err
        assert "Traceback" not in said
        if codes == [0, 0]:
            assert result_digest(out) == clean
            found = audit.verify(open_store(str(out), create=False), SYSTEMS)
            assert all(target.stem in problem for problem in found.problems)
            assert not found.problems or (kind, damage) in UNREAD
        else:
            assert codes in ([2, 2], [1, 1])
            lines = [line for line in said.splitlines() if line.startswith("reelmask: ")]
            assert len(lines) == 2 and target.stem in lines[0]
            assert "run again" in lines[0] or "--replace" in lines[0]


# A run reads no part that is linked already; one of the right size is found when it is needed.
UNREAD = {("frames/*", noise)}


@pytest.mark.parametrize("damage", [noise, cut])
def test_a_part_that_is_needed_and_damaged_is_predicted_again(labelled, tmp_path, damage):
    """Linking anew reads the parts: what cannot be read is set aside, without a second run."""
    out, clean = tmp_path / "out", tmp_path / "clean"
    shutil.copytree(labelled / "out", out)
    changed = ("--set", "min_len=2")
    assert cli.main(words(labelled, clean, *changed)) == 0
    damage(files(out, "frames/*")[1])
    assert cli.main(words(labelled, out, *changed)) == 0
    assert result_digest(out) == result_digest(clean)
    assert audit.verify(open_store(str(out), create=False), SYSTEMS, deep=True).problems == []
    assert len(list(out.glob("frames/.*.damaged"))) == 1


def test_an_id_survives_the_loss_of_its_log(tmp_path):
    """Ids depend on what was there before: the videos table knows them too."""
    (made,) = write_clips(tmp_path / "made", 1, num_frames=4)
    work, out = tmp_path / "clips", tmp_path / "out"
    work.mkdir()
    shutil.copy(made, work / "b.mp4")
    command = ["label", str(work), "--out", str(out), "--system", "oracle"]
    command += ["--set", "truth=formula:1"]
    assert cli.main(command) == 0
    shutil.copy(made, work / "b.mkv")
    assert cli.main(command) == 0
    ids = dict(
        zip(*(table(out, "videos")[n].to_pylist() for n in ("uri", "video_id")), strict=True)
    )
    for path in files(out, "manifest/ids/*"):
        noise(path)
    assert cli.main(command) == 0
    rows = table(out, "videos")
    assert dict(zip(rows["uri"].to_pylist(), rows["video_id"].to_pylist(), strict=True)) == ids
    assert open_store(str(out)).manifest.ids.load().num_rows == 2


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        ("manifest/segments/*", noise),
        ("manifest/links/*", empty),
        ("videos/*", cut),
        ("tracks/*", copy),
        ("tracks/*", legal_copy),
        ("masks/*", legal_copy),
        ("frames/*", legal_copy),
        ("frames/*", cut),
        ("tracks/*", noise),
        ("tracks/*", delete),
    ],
)
def test_verify_names_what_is_wrong(labelled, tmp_path, capsys, kind, damage):
    """Each problem is one line with the file and what to do; the code is 1."""
    out = shutil.copytree(labelled / "out", tmp_path / "out")
    target = files(out, kind)[0]
    before = set(out.rglob("*"))
    damage(target)
    (wrong,) = (set(out.rglob("*")) - before) or {target}
    capsys.readouterr()
    assert cli.main(["verify", str(out), "--deep"]) == 1
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    named = wrong.name if damage is not delete else "tracks/"
    lines = [line for line in said.out.splitlines() if named in line]
    assert lines and all("run" in line or "move it away" in line for line in lines)


def test_verify_counts_rows_that_are_there_twice(labelled, tmp_path):
    """Also where the files themselves are named."""
    out = shutil.copytree(labelled / "out", tmp_path / "out")
    for kind in ("tracks/*", "masks/*", "videos/*"):
        path = files(out, kind)[0]
        rows = pq.read_table(path)
        pq.write_table(pa.concat_tables([rows, rows.slice(0, 1)]), path)
    problems = audit.verify(open_store(str(out)), SYSTEMS, deep=True).problems
    for under in ("tracks/", "masks/", "videos/"):
        assert any(p.startswith(under) and "repeats 1 rows" in p for p in problems), under


@pytest.mark.parametrize("command", ["plan", "explain", "gc"])
def test_other_commands_name_a_torn_manifest(labelled, tmp_path, capsys, command):
    out = shutil.copytree(labelled / "out", tmp_path / "out")
    target = files(out, "manifest/segments/*")[0]
    noise(target)
    capsys.readouterr()
    if command == "gc":
        assert cli.main(["gc", str(out)]) == 0
        assert target.name in capsys.readouterr().err or not target.exists()
        return
    line = {
        "plan": ["plan", *words(labelled, out)[1:]],
        "explain": ["explain", str(out), "clip_0001"],
    }
    assert cli.main(line[command]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert target.name in said and "run" in said


def test_an_outage_is_no_damage(labelled, tmp_path, monkeypatch):
    """A store that does not answer must not make a run set good files aside."""
    out = shutil.copytree(labelled / "out", tmp_path / "out")
    store = open_store(str(out))

    def away(name):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(store.folder, "open", away)
    with pytest.raises(OSError, match="Input/output") as caught:
        store.manifest.segments.load()
    assert not isinstance(caught.value, ReelmaskError)
    assert list(out.glob("**/.*.damaged")) == []
