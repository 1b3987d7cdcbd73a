"""What a person can get wrong: one line on stderr that says what to do, and an exit code."""

import dataclasses
import hashlib
import json
import os
import shutil

import pyarrow as pa
import pytest
import yaml

from jobs import cli
from jobs.commands import label as label_command
from tests.support.clips import write_clips
from vis_core import errors
from vis_core.config import setting
from vis_core.job import MemberSpec, file_metadata, job_from_record, job_record, make_job
from vis_core.stages import audit
from vis_core.system import NetworkConfig
from vis_core.systems import SYSTEMS


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A folder of one short video."""
    folder = tmp_path_factory.mktemp("clip")
    write_clips(folder, 1, num_frames=6)
    return folder


@pytest.fixture(scope="module")
def labelled(clip, tmp_path_factory):
    out = tmp_path_factory.mktemp("labelled") / "out"
    assert cli.main(label(clip, out)) == 0
    return out


@pytest.fixture
def results(labelled, tmp_path):
    """A results folder to spoil."""
    return shutil.copytree(labelled, tmp_path / "results")


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail, and returns the one line it says."""

    def run(words, code=errors.EXIT_USAGE):
        capsys.readouterr()
        assert cli.main([str(word) for word in words]) == code
        said = capsys.readouterr()
        assert "Traceback" not in said.err and said.out == ""
        (line,) = said.err.splitlines()
        assert line.startswith("reelmask: ") and len(line) < 1000
        return line

    return run


def label(clip, out, *more):
    return ["label", str(clip), "--out", str(out), "--system", "oracle", *SETTING, *more]


SETTING = ("--set", "truth=formula:2")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--limit", "-1"], "limit: expected a whole number of videos, 1 or more, got -1"),
        (["--limit", "0"], "limit: expected"),
        (["--set", "min_score=nan"], "min_score: expected a finite float, got 'nan'"),
        (["--set", "min_score=-inf"], "min_score: expected a finite float"),
        (["--set", "flush_seconds=inf"], "flush_seconds: expected a finite float"),
        (["--set", "flush_seconds=1e9"], "flush_seconds: expected 0.001 to 3600"),
        (["--set", "flush_seconds=0"], "flush_seconds: expected 0.001 to 3600"),
        (["--set", f"shard_frames={'9' * 20}"], "shard_frames: expected 1 to 10000000"),
        (["--set", f"shard_frames={'9' * 5000}"], "shard_frames: expected int"),
        (["--set", "decode_memory_bytes=1000000"], "the decoder itself needs some"),
        (["--every", "9" * 17], "every: expected a whole number of 1 or more, at most 1000000"),
        (["--every", "0"], "every: expected a whole number of 1 or more"),
        (["--fps", "1e-20"], "fps: expected 1e-06 to 1e+06"),
        (["--fps", "1e300"], "fps: expected 1e-06 to 1e+06"),
        (["--fps", "nan"], "fps: expected a finite number"),
        (["--system", "orcale"], "did you mean 'oracle'"),
    ],
)
def test_values_out_of_range(clip, tmp_path, refused, words, says):
    assert says in refused(label(clip, tmp_path / "out", *words))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("out", ["", "  "])
@pytest.mark.parametrize("command", ["label", "plan"])
def test_an_empty_folder_name_is_not_here(clip, tmp_path, monkeypatch, refused, command, out):
    monkeypatch.chdir(tmp_path)
    words = [command, *label(clip, out)[1:]]
    assert "--out: expected a path or URL" in refused(words)
    assert "input: expected a path or URL" in refused([command, *label("", "out")[1:]])
    assert not list(tmp_path.iterdir())


TRUTH = {"truth": "formula:2"}
WHOLE = {"inputs": "clips", "out": "out", "system": "oracle", "settings": TRUTH}
TWO = [{"name": 1, "system": "oracle"}, {"name": 2, "system": "oracle"}]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"inputs": 5}, "inputs: expected a path or URL, or a list of them, got 5"),
        ({"inputs": None}, "inputs: expected"),
        ({"inputs": []}, "inputs: expected"),
        ({"inputs": ["a", 7]}, "inputs: expected a path or URL, got 7"),
        ({"inputs": "a\0b"}, "inputs: expected a path or URL"),
        ({"out": None}, "out: expected a path or URL, got None"),
        ({"out": ""}, "out: expected a path or URL, got ''"),
        ({"out": 5}, "out: expected a path or URL, got 5"),
        ({"system": 5}, "system: expected a name, got 5"),
        ({"system": "orcale"}, "did you mean 'oracle'"),
        ({"members": []}, "either 'system: NAME' or a list 'members:'"),
        ({"system": ..., "members": 5}, "members: expected a list of one or more, got 5"),
        ({"system": ..., "members": None}, "members: expected a list"),
        ({"system": ..., "members": [3]}, "each member: expected `key: value` lines, got 3"),
        ({"system": ..., "members": [{}]}, "each member needs a 'system'"),
        ({"system": ..., "members": TWO}, "name: expected a name, got 1; numbers need quotes"),
        ({"limit": "two"}, "limit: expected a whole number of videos, 1 or more, got 'two'"),
        ({"limit": -1}, "limit: expected"),
        ({"limit": True}, "limit: expected"),
        ({"every": "x"}, "every: expected a whole number of 1 or more"),
        ({"every": True}, "every: expected"),
        ({"every": None}, "every: expected"),
        ({"fps": "10"}, "fps: expected a finite number above 0"),
        ({"fps": True}, "fps: expected"),
        ({"fps": 10**400}, "fps: expected"),
        ({"settings": {1: 2}}, "settings: expected names before the colons, got 1"),
        ({"settings": 0}, "settings: expected `key: value` lines, got 0"),
        ({"settings": {"truth": "a\0b"}}, "truth: expected text without NUL"),
        ({"settings": {"truth": [[]]}}, "truth: expected str, got [[]]"),
        ({"settings": {**TRUTH, "shard_frames": 1.5}}, "shard_frames: expected int, got 1.5"),
        ({"settings": {**TRUTH, "shard_frames": float("inf")}}, "shard_frames: expected int"),
        ({"settings": {**TRUTH, "min_score": float("nan")}}, "min_score: expected a finite float"),
        ({"runner": "spark"}, "runner: expected inline or ray, got 'spark'"),
        ({"runner": 3}, "runner: expected inline or ray, got 3"),
        ({True: 1}, "the file: expected names before the colons, got True"),
        ({"input": "x"}, "did you mean 'inputs'"),
    ],
)
def test_values_of_a_job_file(tmp_path, monkeypatch, refused, changes, says):
    monkeypatch.chdir(tmp_path)
    values = {key: value for key, value in {**WHOLE, **changes}.items() if value is not ...}
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump(values))
    for words in (["job", "run", file], ["plan", file]):
        line = refused(words)
        assert str(file) in line and says in line
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"[" * 5000, "nested too deeply"),
        (b"a: [1, 2\nb: }", "not valid YAML"),
        (b"inputs: 2024-99-99", "not valid YAML: month must be in 1..12"),
        (b"inputs: !!timestamp x", "not valid YAML"),
        (b"inputs: !!python/name:os.system x", "not valid YAML"),
        (b"{[1]: 2}", "not valid YAML"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "the file: expected `key: value` lines, got None"),
        (b"hello", "the file: expected `key: value` lines, got 'hello'"),
        (b"#" * (2 << 20), "larger than 1048576 bytes"),
    ],
)
def test_text_that_is_no_job_file(tmp_path, refused, text, says):
    file = tmp_path / "job.yaml"
    file.write_bytes(text)
    line = refused(["job", "run", file])
    assert str(file) in line and says in line
    assert "cannot read the job file" in refused(["job", "run", tmp_path / "none.yaml"])


def test_a_value_that_stands_for_much_text_is_not_printed(tmp_path, refused):
    lists = "".join(f"  - &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 4))
    file = tmp_path / "job.yaml"
    file.write_text(f"members:\n  - &l0 [x]\n{lists}inputs: a\nout: b\n")
    assert "each member: expected `key: value` lines" in refused(["job", "run", file])


def test_whole_numbers_of_frames_per_second_are_the_same_setting(tmp_path):
    """`fps: 10` in a job file and `--fps 10` must reuse each other's predictions."""
    members = [MemberSpec(system=SYSTEMS["oracle"], settings={"truth": "formula:2"})]
    one, other = (make_job(["a"], "out", members, fps=fps) for fps in (10, 10.0))
    assert one.members[0].fingerprint == other.members[0].fingerprint
    assert job_record(one) == job_record(other)


def test_job_run_passes_its_flags_on(clip, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        label_command, "run", lambda job, runner, **more: seen.append((job, more)) or 0
    )
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump({**WHOLE, "inputs": str(clip)}))
    assert cli.main(["job", "run", str(file)]) == 0
    flags = ["--replace", "--retry-quarantined", "--address", "auto"]
    assert cli.main(["job", "run", str(file), *flags]) == 0
    assert [(job.replace, job.retry_quarantined) for job, _ in seen] == [(False,) * 2, (True,) * 2]
    assert [more["address"] for _, more in seen] == [None, "auto"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"members": 3}, "job.yaml is damaged"),
        ({"members": []}, "'members' is empty"),
        ({"members": ["x"]}, "cannot be understood"),
        ({"settings": 3}, "cannot be understood"),
        ({"settings": {1: 2}}, "unknown setting 1"),
        ({"sampling": {"every": "x"}}, "every: expected"),
        ({"limit": "x"}, "limit: expected"),
        ({"inputs": [3]}, "input: expected a path or URL"),
        ({"system": "mask2former"}, "unknown system 'mask2former'"),
        ({"fingerprint": 3}, "fingerprint: expected text, got 3"),
        ({"predict": 3}, "cannot be understood"),
    ],
)
def test_a_job_record_that_was_edited(results, refused, change, says):
    path = results / "job.yaml"
    record = yaml.safe_load(path.read_text())
    member_keys = record["members"][0].keys() & change.keys()
    (record["members"][0] if member_keys else record).update(change)
    path.write_text(yaml.safe_dump(record))
    for words in (["verify", results], ["gc", results], ["explain", results, "clip_0000"]):
        line = refused(words)
        assert str(results) in line and "job.yaml" in line and says in line


def test_a_job_record_whose_parts_are_no_lists():
    members = [MemberSpec(system=SYSTEMS["oracle"], settings=TRUTH)]
    record = job_record(make_job(["a"], "out", members))
    for change in ({"members": 3}, {"members": None}, {"inputs": 3}, {"sampling": None}):
        with pytest.raises(errors.UsageError, match=r"job\.yaml in out"):
            job_from_record({**record, **change}, "out", SYSTEMS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weighted(NetworkConfig):
    weights: str = setting(file=True, says="What is hashed.")


def test_the_weights_are_hashed_once(tmp_path):
    """Every results file states the digest; reading gigabytes for each would cost hours."""
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"abc")
    system = dataclasses.replace(SYSTEMS["oracle"], predict_config=Weighted)
    settings = {"weights": str(weights)}
    job = make_job(["a"], "out", [MemberSpec(system=system, settings=settings)])
    weights.unlink()
    assert file_metadata(job).weights_digest == hashlib.sha256(b"abc").hexdigest()


def test_the_digest_of_the_weights_is_recorded():
    members = [MemberSpec(system=SYSTEMS["oracle"], settings={"truth": "formula:2"})]
    record = job_record(make_job(["a"], "out", members))
    assert record["members"][0]["weights_digest"] == ""
    record["members"][0]["weights_digest"] = "abc"
    assert job_from_record(record, "out", SYSTEMS).members[0].weights_digest == "abc"
    del record["members"][0]["weights_digest"]
    assert job_from_record(record, "out", SYSTEMS).members[0].weights_digest == ""


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "uri\nx\n" + "y" * 200_000, "a.csv line 3: not CSV"),
        ("a.csv", "name\nx\n", "a.csv line 2: expected a column 'uri' or 'path'"),
        ("a.jsonl", '{"uri": "x"}\n' + "[" * 100_000, "a.jsonl line 2: nested too deeply"),
        ("a.jsonl", "{", "a.jsonl line 1: not JSON"),
        ("a.jsonl", '{"uri": "x\\u0000"}', "a.jsonl line 1: expected a path or URL"),
        ("a.txt", "# videos\n\nx\0y.mp4\n", "a.txt line 3: expected a path or URL"),
        ("a.parquet", "PAR1", "a.parquet: not a Parquet file"),
    ],
)
def test_list_files(tmp_path, refused, name, content, says):
    (tmp_path / name).write_text(content)
    assert says in refused(label(tmp_path / name, tmp_path / "out"))


@pytest.mark.parametrize("command", ["label", "plan"])
def test_a_folder_whose_name_is_not_utf8(clip, tmp_path, refused, command):
    out = os.fsdecode(os.fsencode(tmp_path) + b"/o\xff")
    line = refused([command, *label(clip, out)[1:]])
    assert "expected a folder whose name is UTF-8" in line and r"o\udcff" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("under", ["masks", "tracks"])
@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_deep_verify_names_the_damaged_file(results, capsys, under, damage):
    """The account of the frames is still there, and so is what else is wrong."""
    (path,) = (results / under).glob("*.parquet")
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[4:200] = bytes(byte ^ 0xFF for byte in data[4:200])
    path.write_bytes(data if damage == "flip" else data[: len(data) // 2])
    assert cli.main(["verify", str(results), "--deep", "--json"]) == errors.EXIT_FAILED
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert said.err == "" and found["conservation"]
    assert any(f"{under}/{path.name}" in problem for problem in found["problems"])


def test_errors_of_arrow_are_one_line(results, refused, monkeypatch):
    def fail(*args, **kwargs):
        raise pa.ArrowInvalid("not\nParquet")

    monkeypatch.setattr(audit, "verify", fail)
    line = refused(["verify", results], errors.EXIT_FAILED)
    assert line == "reelmask: not Parquet (REELMASK_DEBUG=1 shows where)"
    monkeypatch.setenv("REELMASK_DEBUG", "1")
    with pytest.raises(pa.ArrowInvalid):
        cli.main(["verify", str(results)])


def test_an_interrupt_says_how_to_go_on(results, refused, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(audit, "verify", interrupt)
    line = refused(["verify", results], errors.EXIT_INTERRUPTED)
    assert "the same command (without --replace) goes on from here" in line
