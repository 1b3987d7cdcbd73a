"""Results folders on object storage: in memory, and on a real S3 server."""

import collections
import json
import os
import subprocess
import time
import uuid

import fsspec
import pytest

from tests.support import swift as swift_server
from tests.support.clips import write_clips
from tests.support.results import command, result_digest
from vis_core import failpoints
from vis_core.errors import BusyError, ReelmaskError, UsageError
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.progress import Silence
from vis_core.stages import audit
from vis_core.stages.estimate import estimate
from vis_core.store import lease, parts
from vis_core.store.folder import ObjectFolder, open_folder
from vis_core.store.object_file import ObjectFile
from vis_core.store.store import Store, open_store
from vis_core.systems import SYSTEMS

UNIT = 8  # frames
STALE_SECONDS = "2"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Six clips, and what a run into a local folder makes of them."""
    folder = tmp_path_factory.mktemp("objects")
    write_clips(folder / "clips", 6, num_frames=12, seed=3)
    report = run_inline(job(folder / "clips", folder / "local"))
    assert report.exit_code == 0
    return folder


@pytest.fixture(scope="module")
def swift(tmp_path_factory):
    """A real S3 server; without its programs the tests are skipped, but never in CI."""
    missing = swift_server.missing_programs()
    if missing and not os.environ.get("CI"):
        pytest.skip(
            f"no {', '.join(missing)}: apt-get install --no-install-recommends"
            f" {swift_server.PACKAGES}"
        )
    with swift_server.running_swift(tmp_path_factory.mktemp("swift")) as server:
        swift_server.make_bucket(server, "results")
        yield server


@pytest.fixture(scope="module")
def client(swift):
    """The environment of a person who uses that server, in this process too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in swift.environment.items():
            patch.setenv(name, value)
        patch.setenv(lease.STALE_VARIABLE, STALE_SECONDS)
        fsspec.config.conf.pop("s3", None)
        yield swift


@pytest.fixture
def out(client):
    return f"s3://results/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def memory(tmp_path):
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").store.clear()


def job(clips, out, **settings):
    values = {"truth": f"{clips}/truth.json", "proposals": True, "shard_frames": UNIT, **settings}
    return make_job([str(clips)], str(out), [MemberSpec(system=SYSTEMS["oracle"])], settings=values)


def label_words(clips, out):
    settings = (f"truth={clips}/truth.json", "proposals=true", f"shard_frames={UNIT}")
    flags = [word for setting in settings for word in ("--set", setting)]
    return ("label", clips, "--out", out, "--system", "oracle", *flags)


def call(*words, failpoints=None):
    arguments, environment = command(*words, failpoints=failpoints)
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=600)


def downloaded(out, to):
    """A local copy of the result tables."""
    system, path = fsspec.core.url_to_fs(out, use_listings_cache=False)
    for under in ("tracks", "masks"):
        (to / under).mkdir(parents=True)
        for name in system.ls(f"{path}/{under}", detail=False):
            (to / under / name.rsplit("/", 1)[-1]).write_bytes(system.cat_file(name))
    return to


def assert_whole(corpus, out, to):
    """The same rows as in a local folder, and a folder that holds what it says."""
    assert result_digest(downloaded(out, to)) == result_digest(corpus / "local")
    found = audit.verify(open_store(out, create=False), SYSTEMS, deep=True)
    assert (found.problems, found.num_orphans) == ([], 0)


# --- in memory, in this process ------------------------------------------------------------


@pytest.mark.parametrize("exclusive", [True, False])
def test_rows_are_those_of_a_local_run(corpus, memory, tmp_path, monkeypatch, exclusive):
    monkeypatch.setattr(ObjectFolder, "creates_exclusively", exclusive)
    first = run_inline(job(corpus / "clips", memory))
    assert (first.exit_code, first.frames_predicted) == (0, 72)
    again = run_inline(job(corpus / "clips", memory))
    assert (again.frames_predicted, again.videos_linked) == (0, 0)
    assert_whole(corpus, memory, tmp_path / "rows")
    assert all(("~" in name) is not exclusive for name in open_folder(memory).names("frames"))
    run_inline(job(corpus / "clips", memory, jitter_px=2))
    freed = audit.collect_garbage(open_store(memory, create=False), SYSTEMS)
    assert freed["parts_deleted"] == 12
    explained = audit.explain(open_store(memory, create=False), SYSTEMS, "clip_0001")
    assert explained["tracks"]["num_tracks"] > 0


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("place", ["after_commit=eio@4", "before_flush=eio", "before_results=eio"])
def test_a_run_that_fails_resumes(corpus, memory, tmp_path, monkeypatch, place, exclusive):
    monkeypatch.setattr(ObjectFolder, "creates_exclusively", exclusive)
    monkeypatch.setattr(failpoints, "_passages", collections.Counter())
    monkeypatch.setenv("REELMASK_FAILPOINTS", place)
    with pytest.raises(OSError, match="failpoint"):
        run_inline(job(corpus / "clips", memory))
    monkeypatch.delenv("REELMASK_FAILPOINTS")
    report = run_inline(job(corpus / "clips", memory))
    assert report.exit_code == 0 and report.frames_recomputed <= UNIT
    assert_whole(corpus, memory, tmp_path / "rows")


# --- on a real server, as a person runs it -------------------------------------------------


def test_label_verify_explain_gc_and_plan_on_s3(client, corpus, out, tmp_path):
    """The commands of a results folder, on an address instead of a path."""
    done = call(*label_words(corpus / "clips", out))
    assert done.returncode == 0, done.stderr
    assert_whole(corpus, out, tmp_path / "rows")
    before = len(client.requests())
    checked = call("verify", out, "--deep", "--json")
    assert json.loads(checked.stdout)["num_segments"] == 12 and checked.returncode == 0
    num_requests = len(client.requests()) - before
    print(f"verify --deep of 12 parts: {num_requests} requests")
    assert num_requests < 100
    store = open_store(out, create=False)
    assert audit.explain(store, SYSTEMS, "clip_0002")["tracks"]["num_tracks"] > 0
    assert audit.collect_garbage(store, SYSTEMS)["parts_deleted"] == 0
    assert estimate(job(corpus / "clips", out), Silence()).frames_to_predict == 0


def test_killed_twice_on_s3_then_run_again(client, corpus, out, tmp_path):
    """No lock dies with its process there: the next run waits, then finds every part."""
    words = label_words(corpus / "clips", out)
    for place in ("after_commit=kill@5", "before_flush=kill@2"):
        killed = call(*words, failpoints=place)
        assert killed.returncode == -9, f"{place} was not reached: {killed.stderr}"
    found = set(open_folder(out).names(parts.FRAMES))
    assert len(found) == 12, "the second run adopted five parts and computed seven"
    done = call(*words, "--json")
    assert done.returncode == 0, done.stderr
    assert "waiting up to 2 s" in done.stderr
    report = json.loads(done.stdout)
    assert (report["frames_predicted"], report["frames_recomputed"]) == (0, 0)
    assert set(open_folder(out).names(parts.FRAMES)) == found
    assert_whole(corpus, out, tmp_path / "rows")


def test_two_runs_on_s3(client, corpus, out):
    """The second leaves with code 4 and says who is there; the first can be superseded."""
    words, environment = command(*label_words(corpus / "clips", out), failpoints="set_up=hang")
    first = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL)
    try:
        folder, deadline = open_folder(out), time.monotonic() + 600
        while not folder.names("manifest/lease", "beat-"):
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.1)
        second = call(*label_words(corpus / "clips", out))
        assert second.returncode == 4
        assert "another run holds" in second.stderr and f"process {first.pid}" in second.stderr
    finally:
        first.kill()
        first.wait()


def test_a_superseded_run_stops_on_s3(client, corpus, out, tmp_path):
    """Its machine slept; another run took over. Its next flush ends it, its parts stay."""
    store = Store(open_folder(out))
    sleeper = lease.ObjectLease(store.folder, "sleeper", stale_seconds=0.5)
    sleeper._stop.set()
    sleeper._thread.join()
    assert run_inline(job(corpus / "clips", out)).exit_code == 0
    with pytest.raises(ReelmaskError, match="took over"):
        sleeper.check()
    assert_whole(corpus, out, tmp_path / "rows")


def test_three_claims_at_once_on_s3(client, out):
    """Swift refuses create-if-absent; still only one of those who come at once may go on."""
    assert not open_folder(out).creates_exclusively
    code = (
        "import sys\nfrom vis_core.store import lease\n"
        "from vis_core.store.folder import open_folder\n"
        "folder = open_folder(sys.argv[1])\nfolder.names('frames')\n"
        "held = lease.acquire(folder, 'run')\nprint('held', flush=True)\nsys.stdin.read()\n"
        "held.check()"
    )
    _, environment = command()
    words = [command()[0][0], "-c", code, out]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    racers = [subprocess.Popen(words, env=environment, **pipes) for _ in range(3)]
    held = [racer for racer in racers if racer.stdout.readline() == b"held\n"]
    ends = [racer.communicate() and racer.returncode for racer in held]
    others = [racer.communicate() and racer.returncode for racer in racers if racer not in held]
    # Of several that hold for a moment all but one stop at their first check.
    assert ends.count(0) == 1 and all(others)


def test_inputs_on_s3(client, corpus, out, tmp_path):
    system, path = fsspec.core.url_to_fs(out)
    system.put(f"{corpus}/clips/", f"{path}-in/", recursive=True)
    done = run_inline(
        make_job(
            [f"{out}-in/*.mp4"],
            out,
            [MemberSpec(system=SYSTEMS["oracle"])],
            settings={"truth": f"{corpus}/clips/truth.json", "proposals": True},
        )
    )
    assert (done.exit_code, done.frames_predicted) == (0, 72)


def test_large_parts_go_up_in_pieces_and_are_read_in_few_requests(client, out, tmp_path):
    folder = open_folder(out)
    data = os.urandom(40 << 20)
    with folder.staging("frames/large") as staged:
        staged.write_bytes(data)
        assert folder.publish(staged, "frames/large")
    pieces = [line for line in client.requests() if "partNumber" in line and out[-8:] in line]
    assert len(pieces) == 3
    before = len(client.requests())
    with folder.open("frames/large") as file:
        assert isinstance(file, ObjectFile)
        file.seek(-100, os.SEEK_END)
        assert file.read() == data[-100:]
        file.seek(5 << 20)
        assert file.read(16 << 20) == data[5 << 20 : 21 << 20]
    assert len(client.requests()) - before == 3  # its size, its tail, the piece


@pytest.mark.parametrize(
    ("root", "environment", "says"),
    [
        ("s3://results/run", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "AWS_SECRET_ACCESS_KEY"),
        (
            "s3://results/run",
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"},
            "AWS_ENDPOINT_URL",
        ),
    ],
)
def test_mistakes_on_s3_are_one_clear_line(client, corpus, monkeypatch, root, environment, says):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    done = call(*label_words(corpus / "clips", root))
    assert done.returncode == 2, done.stderr
    assert says in done.stderr and "Traceback" not in done.stderr


def test_a_bucket_that_is_not_there(client, corpus):
    with pytest.raises(UsageError, match="bucket 'nobucket' of s3://nobucket/run does not exist"):
        run_inline(job(corpus / "clips", "s3://nobucket/run"))


def test_busy_error_in_process(memory):
    """A second run in the same process is refused as well."""
    folder = open_folder(memory)
    held = lease.ObjectLease(folder, "one", stale_seconds=1.2)
    with pytest.raises(BusyError, match="run one"):
        lease.ObjectLease(folder, "two", stale_seconds=1.2)
    held.release()
