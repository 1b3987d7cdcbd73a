"""Job files from anybody: bounded while they are read, and every mistake has its line."""

import os
import subprocess
import sys

import pytest
import yaml

from jobs import cli
from tests.support.results import REPO
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
    assert "no regular file" in refused("job", "run", path)
