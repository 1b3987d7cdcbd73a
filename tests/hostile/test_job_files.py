"""Job files from anybody: bounded while they are read, and every mistake has its line."""

import os
import shutil
import subprocess
import sys

import pytest
import yaml

from jobs import cli
from tests.support.clips import write_clips
from tests.support.results import REPO, result_digest, run_record
from vis_core import errors, plain_yaml
from vis_core.config import brief
from vis_core.errors import UsageError
from vis_core.job import MAX_MEMBERS, MemberSpec, make_job
from vis_core.systems import SYSTEMS

MERGES = "".join(
    f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]\n  k{i}: v\n" for i in range(1, 9)
)
BOMB = f"a0: &a0 {{x: y}}\n{MERGES}"
ALIASES = "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]\n" for i in range(1, 9))
WHOLE = {"inputs": "clips", "out": "out", "system": "oracle", "settings": {"truth": "formula:2"}}


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail with code 2, and returns the one line it says."""

    def run(*words):
        capsys.readouterr()
        assert cli.main([str(word) for word in words]) == errors.EXIT_USAGE
        said = capsys.readouterr()
        assert "Traceback" not in said.err and said.out == ""
        (line,) = said.err.splitlines()
        assert len(line) < 1000
        return line

    return run


@pytest.mark.parametrize("command", [["job", "run"], ["plan"], ["train"]])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        (BOMB, "line 12: more than 20000 values"),
        (f"b0: &b0 [x]\n{ALIASES}", "line 6: more than 20000 values"),
        ("members:\n" + "- {}\n" * 200_000, "more than 20000 values"),
        ("".join("  " * i + "a:\n" for i in range(40)), "nested too deeply"),
        ("[" * 100_000, "nested too deeply"),
        ("? " * 100_000, "nested too deeply"),
        ("inputs: a\nout: b\ninputs: c\n", "line 3: 'inputs' is there twice, first in line 1"),
        ("settings:\n  a: 1\n  b: 2\n  a: 3\n", "line 4: 'a' is there twice, first in line 2"),
        ("limit: 0x" + "f" * 900_000, "a value of 900002 characters"),
        ("limit: 1" + ":1" * 400_000, "a value of 800001 characters"),
    ],
    ids=[
        "merges",
        "aliases",
        "members",
        "deep",
        "flow",
        "keys",
        "twice",
        "within",
        "hex",
        "base60",
    ],
)
def test_what_a_file_may_grow_to_is_bounded(tmp_path, refused, command, text, says):
    file = tmp_path / "job.yaml"
    file.write_text(text)
    line = refused(*command, file)
    assert str(file) in line and says in line


def test_a_small_file_takes_little_memory():
    """559 bytes with merge keys stood for 43 million pairs."""
    code = (
        "import resource\n"
        "from vis_core import plain_yaml, errors\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"try: plain_yaml.parse({BOMB!r})\n"
        "except errors.UsageError: pass\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100_000, "kilobytes"


def test_a_value_that_refers_to_itself_is_refused(tmp_path, refused):
    (tmp_path / "job.yaml").write_text("inputs: &a [*a]\nout: o\nsystem: oracle\n")
    assert "inputs: expected a path or URL, got [[" in refused("plan", tmp_path / "job.yaml")


def test_aliases_within_bounds_mean_what_yaml_says():
    text = "base: &b {x: 1, y: 2}\none: {<<: *b, y: 3}\nlist: [*b, *b]\n"
    assert plain_yaml.parse(text) == yaml.safe_load(text)


def test_messages_show_the_beginning_of_a_value():
    """Neither deep nor long ones, nor numbers that Python refuses to write out."""
    deep = []
    for _ in range(10_000):
        deep = [deep] * 9
    assert len(brief(deep)) <= 200
    assert len(brief([["x" * 1000] * 100] * 100)) <= 200
    assert len(brief({str(i): ["y" * 50] * 9 for i in range(100)})) <= 200
    assert brief(1 << 100_000) == "<a number of 100001 bits>"
    assert brief(7) == "7" and brief("seven") == "'seven'"


def test_the_number_of_members_is_bounded(tmp_path, refused):
    many = [{"name": f"m{i}", "system": "oracle"} for i in range(MAX_MEMBERS + 1)]
    values = {key: value for key, value in WHOLE.items() if key != "system"} | {"members": many}
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(values))
    assert f"members: expected at most {MAX_MEMBERS}, got 65" in refused("job", "run", file)
    spec = MemberSpec(system=SYSTEMS["oracle"], settings={"truth": "formula:2"})
    with pytest.raises(UsageError, match="at most 64, got 65"):
        make_job(["a"], "out", [spec] * (MAX_MEMBERS + 1))


@pytest.mark.parametrize("what", ["/dev/zero", "fifo", "folder"])
def test_only_regular_files_are_job_files(tmp_path, refused, what):
    path = what if what.startswith("/") else tmp_path / what
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    assert "expected a regular file, got" in refused("job", "run", path)


# --- the record of a run --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, 2, num_frames=6)
    return folder


def job_file(path, clips, **changes):
    values = {"inputs": str(clips), "out": str(path.parent), "system": "oracle"}
    values["settings"] = {"truth": f"{clips}/truth.json", "shard_frames": 3, "min_len": 2}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**values, **changes}))
    return path


@pytest.fixture(scope="module")
def labelled(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("labelled") / "out"
    file = job_file(out.with_name("mine.yaml"), clips, out=str(out), every=2, limit=1)
    assert cli.main(["job", "run", str(file)]) == 0
    return out


def test_the_record_of_a_run_is_a_job_that_computes_nothing_again(labelled, tmp_path):
    out = shutil.copytree(labelled, tmp_path / "moved")
    before = yaml.safe_load((out / "job.yaml").read_text())
    for _ in range(2):
        assert cli.main(["job", "run", str(out / "job.yaml")]) == 0
        record = run_record(out)
        assert (record["frames_predicted"], record["videos_linked"]) == (0, 0)
        assert yaml.safe_load((out / "job.yaml").read_text()) == before
        assert result_digest(out) == result_digest(labelled)
    assert cli.main(["plan", str(out / "job.yaml")]) == 0


def test_the_record_of_several_members_is_a_job(clips, tmp_path):
    """With other settings for each, a weight, and settings of their fusion."""
    members = [
        {"name": "a", "system": "oracle", "settings": {"jitter_px": 1.0}, "weight": 2.0},
        {"name": "b", "system": "oracle", "settings": {"min_len": 1}},
    ]
    out = tmp_path / "out"
    file = tmp_path / "mine.yaml"
    job_file(file, clips, out=str(out), members=members)
    values = yaml.safe_load(file.read_text())
    del values["system"]
    values["settings"] |= {"tau": 0.4}
    file.write_text(yaml.safe_dump(values))
    assert cli.main(["job", "run", str(file)]) == 0
    before = (out / "job.yaml").read_bytes(), result_digest(out)
    assert cli.main(["job", "run", str(out / "job.yaml")]) == 0
    assert ((out / "job.yaml").read_bytes(), result_digest(out)) == before
    assert (run_record(out)["frames_predicted"], run_record(out)["videos_linked"]) == (0, 0)


def test_a_record_that_was_taken_elsewhere_says_where_to_run_it(labelled, tmp_path, refused):
    file = shutil.copy(labelled / "job.yaml", tmp_path / "mine.yaml")
    assert "run it there (OUT/job.yaml), or add `out: FOLDER`" in refused("job", "run", file)
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.yaml"]
    with (tmp_path / "mine.yaml").open("a") as text:
        text.write(f"out: {tmp_path}/out\n")
    assert cli.main(["job", "run", str(file)]) == 0
    assert result_digest(tmp_path / "out") == result_digest(labelled)


@pytest.mark.parametrize("replace", [[], ["--replace"]])
@pytest.mark.parametrize("command", ["job", "label", "link", "fuse"])
def test_a_job_file_of_ones_own_is_never_overwritten(
    clips, labelled, tmp_path, refused, command, replace
):
    """Whoever keeps it in the folder that it names keeps it."""
    file = job_file(tmp_path / "out" / "job.yaml", clips)
    before = file.read_bytes()
    words = {
        "job": ["job", "run", file, *replace],
        "label": [
            *("label", clips, "--out", file.parent, "--system", "oracle", *replace),
            *("--set", "truth=formula:1"),
        ],
        "link": ["link", labelled, "--system", "oracle", "--out", file.parent],
        "fuse": ["fuse", f"a={labelled}", f"b={labelled}", "--out", file.parent],
    }
    line = refused(*words[command])
    assert "job.yaml" in line and str(file.parent) in line
    assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    "text", ['{"mine": 1}', "not JSON", "[" * 100_000], ids=["mine", "text", "deep"]
)
@pytest.mark.parametrize("name", ["run.json", "link.json", "fuse.json", "job.yaml"])
def test_records_of_others_are_never_overwritten(clips, labelled, tmp_path, refused, name, text):
    file = tmp_path / "out" / name
    file.parent.mkdir()
    file.write_text(text)
    line = refused("job", "run", job_file(tmp_path / "mine.yaml", clips, out=str(file.parent)))
    assert name in line
    line = refused("link", labelled, "--system", "oracle", "--out", file.parent)
    assert name in line
    assert file.read_text() == text and list(file.parent.iterdir()) == [file]


def test_a_damaged_record_of_our_own_is_no_stranger(labelled, tmp_path):
    out = shutil.copytree(labelled, tmp_path / "out")
    (out / "run.json").write_text("{")
    assert cli.main(["job", "run", str(out / "job.yaml")]) == 0
    assert run_record(out)["exit_code"] == 0


def test_linked_results_are_not_deleted_by_a_run(clips, labelled, tmp_path, refused):
    linked = tmp_path / "linked"
    assert cli.main(["link", str(labelled), "--system", "oracle", "--out", str(linked)]) == 0
    before = result_digest(linked)
    line = refused("job", "run", job_file(tmp_path / "mine.yaml", clips, out=str(linked)))
    assert "holds results of `reelmask link`" in line and result_digest(linked) == before


def test_predictions_whose_record_is_gone_are_not_linked_over(labelled, tmp_path, refused):
    out = shutil.copytree(labelled, tmp_path / "out")
    (out / "job.yaml").unlink()
    before = result_digest(out)
    line = refused("link", labelled, "--system", "oracle", "--out", out)
    assert "what is there would be deleted" in line and result_digest(out) == before
