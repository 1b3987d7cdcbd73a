"""Addresses from job files, lists, results folders and the command line open nothing unexpected."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs import cli
from tests.support.clips import write_clips
from tests.support.results import open_failures, result_digest, run_record, table
from tests.support.web import serving
from vis_core import addresses, errors

pytestmark = pytest.mark.timeout(60)
REPO = Path(__file__).parents[2]
SECRET = "s3cr3t-Wort"


@pytest.fixture
def web(tmp_path):
    """A server of two clips and their truth."""
    folder = tmp_path / "web"
    write_clips(folder, 2, num_frames=3)
    with serving(folder) as server:
        yield server


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, 1, num_frames=6)
    return folder


@pytest.fixture(scope="module")
def labelled(clips, tmp_path_factory):
    out = tmp_path_factory.mktemp("labelled") / "out"
    assert run("label", clips, *OUT, out, *ORACLE) == 0
    return out


OUT = ("--out",)
ORACLE = ("--system", "oracle", "--set", "truth=formula:1")


def run(*words):
    return cli.main([str(word) for word in words])


def said(capsys):
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.out + captured.err


# --- what is opened at all ----------------------------------------------------------------------

STOLEN = "REELMASK_TEST_SECRET"


@pytest.fixture
def template(web, monkeypatch):
    """References that, followed, would send a variable of the environment to the server."""
    monkeypatch.setenv(STOLEN, SECRET)
    # A template that takes values becomes a function, and functions know their module.
    leak = f"{web.url}/{{{{a.__globals__[os].environ[{STOLEN}]}}}}"
    refs = {
        "version": 1,
        "templates": {"a": "{{c}}"},
        "gen": [{"key": "clip{{i}}.mp4", "url": leak, "dimensions": {"i": [0]}}],
        "refs": {"clip.mp4": [leak, 0, 10]},
    }
    (web.folder / "refs.json").write_text(json.dumps(refs))
    return f"reference://clip.mp4::{web.url}/refs.json"


def job_file(folder, **values):
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump({"system": "oracle", "out": str(folder / "out"), **values}))
    return path


PLACES = {
    "a setting of a job file": lambda d, c, x: (
        "plan",
        job_file(d, inputs=str(c), settings={"truth": x}),
    ),
    "out of a job file": lambda d, c, x: (
        "plan",
        job_file(d, inputs=str(c), out=x, settings={"truth": "formula:1"}),
    ),
    "an input of a job file": lambda d, c, x: (
        "plan",
        job_file(d, inputs=x, settings={"truth": "formula:1"}),
    ),
    "weights": lambda d, c, x: (
        "label",
        c,
        *OUT,
        d / "o",
        "--system",
        "idol",
        "--set",
        f"weights={x}",
    ),
    "--set": lambda d, c, x: (
        "label",
        c,
        *OUT,
        d / "o",
        "--system",
        "oracle",
        "--set",
        f"truth={x}",
    ),
    "--out": lambda d, c, x: ("label", c, *OUT, x, *ORACLE),
    "an input": lambda d, c, x: ("label", x, *OUT, d / "o", *ORACLE),
    "verify": lambda d, c, x: ("verify", x),
    "explain": lambda d, c, x: ("explain", x, "clip"),
    "gc": lambda d, c, x: ("gc", x),
    "render": lambda d, c, x: ("render", x, *OUT, d / "o"),
    "export": lambda d, c, x: ("export", x, "--format", "ytvis", *OUT, d / "o.json"),
    "eval": lambda d, c, x: ("eval", x, "--truth", c / "truth.json", "--metric", "ytvis"),
    "link": lambda d, c, x: ("link", x, "--system", "oracle", *OUT, d / "o"),
    "fuse": lambda d, c, x: ("fuse", x, x, *OUT, d / "o"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_chain_is_refused_wherever_it_is_named(
    place, template, web, clips, tmp_path, monkeypatch, capsys
):
    """One line says what is legal, nothing arrives at the server that it names."""
    monkeypatch.chdir(tmp_path)
    assert run(*PLACES[place](tmp_path, clips, template)) == errors.EXIT_USAGE
    text = said(capsys)
    assert "chained addresses" in text and len(text.splitlines()) == 1
    assert web.asked == []


@pytest.mark.parametrize("address", ["ftp://h/x", "S3://b/k", "dir::/tmp", "reference://"])
def test_schemes_that_are_not_on_the_list_are_refused(address, clips, tmp_path, capsys):
    """The line says which are."""
    words = ("label", clips, *OUT, tmp_path / "o", "--system", "oracle")
    assert run(*words, "--set", f"truth={address}") == errors.EXIT_USAGE
    (line,) = said(capsys).splitlines()
    assert "hf, http, https, " in line or "chained addresses" in line


def test_the_list_as_it_is_shipped():
    """The tests' own store is on it here alone."""
    program = "from vis_core import addresses; print(*sorted(addresses.SCHEMES))"
    shipped = subprocess.check_output([sys.executable, "-c", program], text=True, cwd=REPO)
    assert shipped == "abfs abfss az file gcs gs hf http https s3 s3a\n"


def test_a_stored_address_is_not_followed(template, web, labelled, tmp_path, capsys):
    """A results folder of anybody names a chain as the place of a video."""
    out = tmp_path / "results"
    copy(labelled, out)
    path = out / "videos" / "videos.parquet"
    rows = pq.read_table(path)
    position = rows.schema.get_field_index("uri")
    pq.write_table(rows.set_column(position, "uri", pa.array([template])), path)
    assert run("render", out, *OUT, tmp_path / "drawn") != 0
    assert "chained addresses" in said(capsys)
    assert web.asked == []


def copy(source, target):
    for path in sorted(source.rglob("*")):
        if path.is_file():
            (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            (target / path.relative_to(source)).write_bytes(path.read_bytes())


def test_one_module_opens_addresses():
    """fsspec's own ways to a file system appear nowhere else."""
    ways = {"url_to_fs", "filesystem", "get_filesystem_class", "open_files", "get_fs_token_paths"}
    found = set()
    for top in ("vis_core", "jobs", "pipelines", "cluster"):
        for path in sorted((REPO / top).rglob("*.py")):
            text = path.read_text()
            for node in ast.walk(ast.parse(text)) if "fsspec" in text else ():
                name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
                if name.startswith("fsspec.") and name.rsplit(".", 1)[1] in {*ways, "open"}:
                    found.add(path.relative_to(REPO).as_posix())
    assert found == {"vis_core/addresses.py"}


ODD = (
    "github://o:r@main/a.mp4",
    "data://text/plain,x",
    "dir://x/a.mp4",
    "jupyter://host/a.mp4",
    "filecache://x/a.mp4",
    "reference://a.mp4::http://127.0.0.1:9/refs.json",
    "http://[bad/a.mp4",
    "http://127.0.0.1:9/a.mp4",
    "s3://",
    "gs://b/a.mp4",
    "hf://x",
    "abfs://c/a.mp4",
)


def test_odd_addresses_in_a_list_are_rows_with_a_reason(clips, tmp_path, capsys):
    """The videos beside them are labelled."""
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join([*ODD, str(clips / "clip_0000.mp4")]))
    assert run("label", listed, *OUT, tmp_path / "out", *ORACLE) == errors.EXIT_QUARANTINE
    said(capsys)
    rows = {row["uri"]: row for row in open_failures(tmp_path / "out")}
    assert len(rows) == len(ODD) and all(row["message"] for row in rows.values())
    assert {row["stage"] for row in rows.values()} == {"index"}
    assert sorted(table(tmp_path / "out", "videos")["status"].to_pylist()) == [
        *["failed"] * len(ODD),
        "ok",
    ]


# --- credentials --------------------------------------------------------------------------------


def test_a_password_in_an_address_is_used_and_never_written(web, tmp_path, capsys):
    """Inputs, truth, lists: the fetch has it, no file and no line has; a resume finds its rows."""
    web.login = f"user:{SECRET}"
    base = web.url.replace("http://", f"http://user:{SECRET}@")
    listed, out = tmp_path / "list.txt", tmp_path / "out"
    listed.write_text(f"{base}/clip_0001.mp4\n")
    words = ("label", f"{base}/clip_0000.mp4", listed, *OUT, out, "--system", "oracle")
    words += ("--set", f"truth={base}/truth.json")
    assert run(*words) == 0
    listed.unlink()  # it is the user's
    assert_not_in(SECRET, said(capsys), out)
    uris = table(out, "videos")["uri"].to_pylist()
    assert uris == [f"{web.url}/clip_0000.mp4", f"{web.url}/clip_0001.mp4"]
    assert any(login == web.login for _, login in web.asked)
    first = result_digest(out)

    listed.write_text(f"{base}/clip_0001.mp4\n")
    assert run(*words) == 0
    assert (run_record(out)["frames_predicted"], result_digest(out)) == (0, first)

    listed.write_text(f"{base}/clip_0000.mp4\n{base}/clip_0001.mp4\n")
    assert run("render", out, *OUT, tmp_path / "drawn", "--videos", listed) == 0
    listed.unlink()
    assert_not_in(SECRET, said(capsys), out)


def test_without_the_password_the_reason_names_no_secret(web, tmp_path, capsys):
    """A wrong one is no more to be printed than a right one."""
    web.login = "user:another"
    base = web.url.replace("http://", f"http://user:{SECRET}@")
    good = tmp_path / "clips"
    write_clips(good, 1, num_frames=3)
    listed, out = tmp_path / "list.txt", tmp_path / "out"
    listed.write_text(f"{base}/clip_0001.mp4\n{good}/clip_0000.mp4\n")
    assert run("label", listed, *OUT, out, *ORACLE) == errors.EXIT_QUARANTINE
    listed.unlink()
    assert_not_in(SECRET, said(capsys), out)
    for words in (
        ("label", f"{base}/clip_0000.mp4", *OUT, tmp_path / "o", *ORACLE),
        (
            "label",
            good,
            *OUT,
            tmp_path / "o",
            "--system",
            "oracle",
            "--set",
            f"truth={base}/truth.json",
        ),
        ("label", good, *OUT, base.replace("http", "ftp"), *ORACLE),
        ("label", good, *OUT, base, *ORACLE),
        ("verify", f"reference://x::{base}/x"),
    ):
        assert run(*words) == errors.EXIT_USAGE
        assert SECRET not in said(capsys)


def test_a_token_in_a_query_is_used_and_never_written(web, tmp_path, capsys):
    """A newly signed address is the same video: nothing is computed again."""
    out = tmp_path / "out"
    for token in (SECRET, "renewed"):
        web.token = token
        address = f"{web.url}/clip_0000.mp4?version=2&token={token}"
        assert run("label", address, *OUT, out, *ORACLE) == 0
        assert_not_in(token, said(capsys), out)
        assert run_record(out)["frames_predicted"] == (3 if token == SECRET else 0)
    assert table(out, "videos")["uri"].to_pylist() == [f"{web.url}/clip_0000.mp4?version=2"]


def test_addresses_that_differ_in_their_secret_alone_are_refused(web, tmp_path, capsys):
    """Stored without it, they would silently become one video."""
    listed = tmp_path / "list.txt"
    listed.write_text(f"{web.url}/get?token=a\n{web.url}/get?token=b\n")
    assert run("label", listed, *OUT, tmp_path / "out", *ORACLE) == errors.EXIT_USAGE
    assert "listed twice with different credentials" in said(capsys)


def assert_not_in(secret, text, folder):
    assert secret not in text
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            read = pq.read_table(path)
            assert secret not in str(read.to_pylist()), path
            assert secret not in str(read.schema.metadata), path
        elif path.is_file():
            assert secret not in path.read_text(errors="replace"), path


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://u:p@h/x", "http://h/x"),
        ("http://u:p@[::1]:80/x?a=1", "http://[::1]:80/x?a=1"),
        ("http://u:p/w@h/x", "http://h/x"),
        ("https://token@h:8080/x", "https://h:8080/x"),
        ("http://h/a@b?c=@d", "http://h/a@b?c=@d"),
        ("http://h:80/@u/x", "http://h:80/@u/x"),
        ("ftp://u:p@h/x", "ftp://h/x"),
        ("x://y::http://u:p@h/z", "x://y::http://h/z"),
        ("s3://k:s@b/x?token=1", "s3://b/x?token=1"),
        ("abfs://container@account.dfs.core.windows.net/x", ...),
        ("hf://datasets/a/b@main/x", ...),
        ("s3://b/a?b@c", ...),
        ("/a/b@c?token=1", ...),
        ("http://h/x?X-Amz-Credential=a&v=3&X-Amz-Signature=b", "http://h/x?v=3"),
        ("http://h/x?sv=1&se=2&sig=3", "http://h/x"),
        ("http://h/x?sv=1&se=2", ...),
        ("http://h/x?AWSAccessKeyId=a&Signature=b&Expires=1", "http://h/x"),
        ("http://h/x?key=clip.mp4&access_token=b#t=1", "http://h/x?key=clip.mp4&t=1"),
        ("http://h/x?api_key=1", "http://h/x"),
    ],
)
def test_what_is_shown_of_an_address(address, shown):
    """User names, passwords and signatures go; names that look like them stay."""
    assert addresses.public(address) == (address if shown is ... else shown)


def test_what_was_kept_opens_again():
    """For the address itself, and for others of that host."""
    assert addresses.keep("http://u:p@kept.test/a?token=1&v=2") == "http://kept.test/a?v=2"
    assert addresses.whole("http://kept.test/a?v=2") == "http://u:p@kept.test/a?token=1&v=2"
    assert addresses.whole("http://kept.test/b") == "http://u:p@kept.test/b"
    assert addresses.whole("http://other.test/b") == "http://other.test/b"


def test_libraries_that_repeat_an_address_do_not_print_its_secrets():
    """Text is searched for addresses."""
    text = f"401, message='no', url='http://u:{SECRET}@h/x?token={SECRET}&v=1'"
    assert addresses.scrubbed(text) == "401, message='no', url='http://h/x?v=1'"
