"""A driver that was superseded wakes up: what its successor made stays, and it never says done."""

import collections
import os
import signal
import subprocess
import time
import uuid

import fsspec
import pytest

from jobs import cli
from tests.support import swift as swift_server
from tests.support.clips import write_clips
from tests.support.results import command, result_digest
from vis_core import failpoints
from vis_core.errors import ReelmaskError
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.stages import audit
from vis_core.store import lease
from vis_core.store.folder import ObjectFolder, open_folder
from vis_core.store.lease import ObjectLease
from vis_core.store.store import Store, open_store
from vis_core.systems import SYSTEMS

FIRST, LAST = {"min_len": 2, "link_rows": 1}, {"min_len": 5, "link_rows": 100}
# Where the superseded run stands still, and at which passage.
PLACES = [
    *("after_index", "after_plan", "set_up", "before_write", "after_frame@3", "after_segment"),
    *("after_write@2", "after_publish@4", "after_commit@2", "before_flush@2", "after_flush@2"),
    *("before_flush@3", "after_flush@3", "before_flush@4", "after_flush@4"),
    *("before_link", "before_results", "before_results@2", "before_results@3", "after_results"),
    *("after_link", "after_links", "before_tables", "after_tables", "before_sweep"),
    *("before_compact", "after_compact", "after_sweep", "delete", "delete@2", "delete@3"),
    *(f"replace@{number}" for number in range(3, 16)),
    *(f"before_publish@{number}" for number in range(2, 13)),
]
QUICK_ON_S3 = {"after_links", "before_sweep", "delete@2"}
QUICK = {"before_results@2", "before_sweep", "after_sweep", "replace@9"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Two clips, and what a clean run of the last job makes of them."""
    folder = tmp_path_factory.mktemp("two")
    write_clips(folder / "clips", 2, num_frames=6, seed=3)
    assert run_inline(job(folder / "clips", folder / "clean", LAST)).exit_code == 0
    return folder


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """The stand-in of an object store; every driver there looks dead after its first beat."""
    monkeypatch.setenv(lease.STALE_VARIABLE, "0.05")
    monkeypatch.setattr(ObjectLease, "_beat", lambda held, seconds: beat(held))
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").store.clear()


def beat(held):
    held._folder.replace(held._name.replace("epoch", f"{lease.LEASE}/beat"), b"1")


def job(clips, out, settings, **options):
    values = {"truth": f"{clips}/truth.json", "shard_frames": 3, "index_workers": 1}
    members = [MemberSpec(system=SYSTEMS["oracle"])]
    return make_job([str(clips)], str(out), members, settings=values | settings, **options)


def downloaded(out, to):
    system, path = fsspec.core.url_to_fs(out, use_listings_cache=False)
    for under in ("tracks", "masks", "videos"):
        (to / under).mkdir(parents=True)
        for name in system.ls(f"{path}/{under}", detail=False):
            (to / under / name.rsplit("/", 1)[-1]).write_bytes(system.cat_file(name))
    return to


def assert_is_clean_run_of_the_last(corpus, out, to):
    assert result_digest(downloaded(out, to)) == result_digest(corpus / "clean")
    store = open_store(out, create=False)
    found = audit.verify(store, SYSTEMS, deep=True)
    assert found.problems == []
    assert store.job()["members"][0]["link"]["min_len"] == LAST["min_len"]
    assert store.folder.names("tracks") == store.folder.names("masks")


@pytest.mark.parametrize("exclusive", [True, pytest.param(False, marks=pytest.mark.chaos)])
@pytest.mark.parametrize(
    "place", [p if p in QUICK else pytest.param(p, marks=pytest.mark.chaos) for p in PLACES]
)
def test_what_a_superseded_run_does_late_is_nothing(
    corpus, memory, tmp_path, monkeypatch, place, exclusive
):
    """It stands still at a failpoint while another job runs to its end, then goes on."""
    monkeypatch.setattr(ObjectFolder, "creates_exclusively", exclusive)
    run_inline(job(corpus / "clips", memory, FIRST | {"min_len": 3}))
    name, _, hit = place.partition("@")
    passages, ends = collections.Counter(), []

    def another_runs(here):
        passages[here] += 1
        if (here, passages[here]) == (name, int(hit or 1)):
            monkeypatch.setattr(failpoints, "listener", None)
            ends.append(run_inline(job(corpus / "clips", memory, LAST)).exit_code)

    monkeypatch.setattr(failpoints, "listener", another_runs)
    with pytest.raises(ReelmaskError, match=r"took over|another run holds"):
        # Frames of its own, so that it predicts as well.
        run_inline(job(corpus / "clips", memory, FIRST | {"shard_frames": 2}, replace=True))
    assert ends == [0], f"{place} was never reached"
    assert_is_clean_run_of_the_last(corpus, memory, tmp_path / "rows")


def test_a_write_that_was_under_way_is_fenced(corpus, memory, tmp_path):
    """Rows that a superseded run adds after its check count for nothing; gone at the next run."""
    out = memory
    run_inline(job(corpus / "clips", out, LAST))
    held = ObjectLease(open_folder(out), "asleep")
    store = Store(open_folder(out), heals=True)  # its writes check nothing
    store.manifest.fence(held.witness.suffix)
    run_inline(job(corpus / "clips", out, LAST))
    rows = store.manifest.links.load()
    moved = rows.set_column(2, "file", [[f"part-{'0' * 32}.parquet"] * len(rows)])
    store.manifest.links.append(moved)
    assert_is_clean_run_of_the_last(corpus, out, tmp_path / "rows")
    late = len(store.manifest.links.names())
    run_inline(job(corpus / "clips", out, LAST))
    assert len(open_store(out).manifest.links.names()) < late
    assert_is_clean_run_of_the_last(corpus, out, tmp_path / "again")


def test_a_write_is_checked_before_every_try(memory, monkeypatch):
    """A store that was away may come back after another run has taken over."""
    base = open_folder(memory)
    held = ObjectLease(base, "one")
    folder = base.guarded(held.check)
    real, tries = type(folder._fs).pipe_file, []

    def flaky(self, path, *args, **kwargs):
        if path.endswith("run.json"):
            tries.append(path)
            ObjectLease(open_folder(memory), "two")
            raise ConnectionResetError("away")
        return real(self, path, *args, **kwargs)

    monkeypatch.setattr(type(folder._fs), "pipe_file", flaky)
    monkeypatch.setattr(folder._patiently, "_sleep", lambda seconds: None)
    with pytest.raises(ReelmaskError, match="took over"):
        folder.replace("run.json", b"{}")
    assert len(tries) == 1


def test_a_lease_file_that_another_run_made_anew_is_not_ours(tmp_path):
    folder = open_folder(str(tmp_path))
    with lease.acquire(folder, "one") as first:
        first.check()
        (tmp_path / "manifest" / "lease").unlink()
        first.check()
        with lease.acquire(folder, "two"), pytest.raises(ReelmaskError, match="took over"):
            first.check()


# --- link and fuse -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["link", "fuse"])
def test_a_second_link_or_fuse_into_one_folder_is_refused(corpus, tmp_path, capsys, name):
    """The second leaves with code 4; what the first writes is not touched."""
    out, clean = tmp_path / "out", str(corpus / "clean")
    words = {
        "link": ["link", clean, "--system", "oracle", "--out", str(out)],
        "fuse": ["fuse", f"a={clean}", f"b={clean}", "--out", str(out)],
    }[name]
    with lease.acquire(open_folder(str(out)), "one"):
        assert cli.main(words) == 4
    assert "another run holds" in capsys.readouterr().err
    assert cli.main(words) == 0
    before = result_digest(out)
    with lease.acquire(open_folder(str(out)), "one"):
        assert cli.main(words) == 4
    assert result_digest(out) == before


# --- another layout of the lease -----------------------------------------------------------


def _a_folder(path):
    path.mkdir(parents=True)


def _a_pipe(path):
    path.parent.mkdir(parents=True)
    os.mkfifo(path)


def _a_link(path):
    path.parent.mkdir(parents=True)
    (path.parent / "victim").write_text("mine")
    path.symlink_to(path.parent / "victim")


@pytest.mark.parametrize("make", [_a_folder, _a_pipe, _a_link])
def test_something_else_in_the_place_of_a_lease_is_named(corpus, tmp_path, capsys, make):
    """One line, code 2, and what lies there is left alone."""
    make(tmp_path / "out" / "manifest" / "lease")
    words = ["label", str(corpus / "clips"), "--system", "oracle", "--out", str(tmp_path / "out")]
    assert cli.main([*words, "--set", f"truth={corpus}/clips/truth.json"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "manifest/lease" in line and "delete it" in line
    if make is _a_link:
        assert (tmp_path / "out/manifest/victim").read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["epoch-.tmp", "epoch-00000007.tmp", "epoch-x", "beat-", "fence-x", "notes", "epoch-9"]
)
def test_foreign_names_beside_the_epochs_are_ignored(memory, name):
    folder = open_folder(memory)
    folder.replace(f"{lease.LEASE}/{name}", b"?")
    with ObjectLease(folder, "one") as held:
        held.check()
        assert held._number == 0
    with ObjectLease(folder, "two") as held:
        assert held._number == 1
    assert folder.read(f"{lease.LEASE}/{name}") == b"?"


@pytest.mark.parametrize("record", [b"", b"\xff" * 99, b"[" * 9999, b'{"stale_seconds": 1e300}'])
def test_a_claim_that_is_no_record_is_waited_for_as_long_as_any(memory, monkeypatch, record):
    """Neither a traceback nor a wait for ever."""
    folder = open_folder(memory)
    folder.replace(f"{lease.LEASE}/epoch-00000003", record)
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    held = ObjectLease(folder, "two", clock=lambda: now[0], sleep=sleep)
    assert held._number == 4 and now[0] <= 2 * lease.STALE_SECONDS
    held.release()


def test_an_object_in_the_place_of_the_leases_folder_is_named(memory):
    folder = open_folder(memory)
    folder.replace(lease.LEASE, b"{}")
    with pytest.raises(ReelmaskError, match="manifest/lease"):
        ObjectLease(folder, "one")


def test_an_epoch_that_is_gone_makes_no_earlier_one_look_newer(corpus, memory, tmp_path):
    """What was fenced stays fenced, and new rows count, after somebody deletes the epoch."""
    for _ in range(3):
        run_inline(job(corpus / "clips", memory, FIRST))
    folder = open_folder(memory)
    (epoch,) = folder.names(lease.LEASE, "epoch-")
    folder.delete(f"{lease.LEASE}/{epoch}")
    assert run_inline(job(corpus / "clips", memory, LAST)).exit_code == 0
    assert_is_clean_run_of_the_last(corpus, memory, tmp_path / "rows")


# --- on a real server, with real processes -------------------------------------------------


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    missing = swift_server.missing_programs()
    if missing and not os.environ.get("CI"):
        pytest.skip(f"no {', '.join(missing)}: apt-get install {swift_server.PACKAGES}")
    with (
        swift_server.running_swift(tmp_path_factory.mktemp("swift")) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        swift_server.make_bucket(server, "results")
        for name, value in server.environment.items():
            patch.setenv(name, value)
        patch.setenv(lease.STALE_VARIABLE, "2")
        fsspec.config.conf.pop("s3", None)
        yield server


def label_words(clips, out, settings):
    values = {"truth": f"{clips}/truth.json", "shard_frames": 3} | settings
    flags = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    return ("label", clips, "--out", out, "--system", "oracle", *flags)


def stopped(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


@pytest.mark.chaos
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "place",
    [p if p in QUICK_ON_S3 else pytest.param(p, marks=pytest.mark.endless) for p in PLACES],
)
def test_a_driver_that_slept_on_s3(client, corpus, tmp_path, place):
    """Stopped by a signal at a failpoint, whole process; another job takes over; then it wakes."""
    out = f"s3://results/{uuid.uuid4().hex[:8]}"
    before = label_words(corpus / "clips", out, FIRST | {"min_len": 3})
    assert call(before) == 0
    name, _, hit = place.partition("@")
    words = label_words(corpus / "clips", out, FIRST | {"shard_frames": 2})
    arguments, environment = command(*words, "--replace", failpoints=f"{name}=stop@{hit or 1}")
    first = subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 90
        while not stopped(first.pid):
            assert first.poll() is None and time.monotonic() < deadline, f"{place} not reached"
            time.sleep(0.05)
        last = label_words(corpus / "clips", out, LAST)
        assert call(last) == 0
        first.send_signal(signal.SIGCONT)
        said = first.communicate(timeout=120)[1]
    finally:
        first.kill()
    assert first.returncode in (1, 4) and "Traceback" not in said, said
    assert_is_clean_run_of_the_last(corpus, out, tmp_path / "rows")


def call(words):
    arguments, environment = command(*words)
    return subprocess.run(arguments, env=environment, timeout=120, check=False).returncode
