"""The lease: one run at a time, free when released or dead, and never a reason to stop a run."""

import functools
import itertools
import json
import subprocess
import sys
import threading
from pathlib import Path

import fsspec
import pytest

from vis_core.errors import BusyError, ReelmaskError, UsageError
from vis_core.store.folder import ObjectFolder, open_folder
from vis_core.store.lease import (
    STALE_VARIABLE,
    LocalLease,
    ObjectLease,
    acquire,
    stale_from_environment,
)

REPO = Path(__file__).parents[2]


class Clock:
    """Time that only passes when somebody sleeps; `on_sleep` is what the others do meanwhile."""

    def __init__(self):
        self.now = 0.0
        self.on_sleep = lambda: None

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.on_sleep()


@pytest.fixture(params=[True, False], ids=["exclusive", "overwriting"])
def folder(request, tmp_path):
    """An object store that can, or cannot, create exclusively."""
    found = ObjectFolder(f"memory://lease-{tmp_path.name}")
    found.creates_exclusively = request.param
    yield found
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def clock():
    return Clock()


def take(folder, clock, run_id, **options):
    """A lease whose thread beats once and then not for an hour."""
    options = {"stale_seconds": 21600.0, **options}
    return ObjectLease(folder, run_id, clock=clock, sleep=clock.sleep, **options)


def beat(folder, lease, count):
    folder.replace(f"manifest/lease/{lease._name.replace('epoch', 'beat')}", str(count).encode())


def die(folder, lease):
    """What SIGKILL leaves: a count that stands still."""
    lease._stop.set()
    lease._thread.join()
    beat(folder, lease, 7)


def test_a_released_lease_is_free_at_once(folder, clock):
    with take(folder, clock, "one"):
        pass
    spent = clock.now
    with take(folder, clock, "two") as lease:
        assert clock.now - spent <= 1 and lease._number == 1
        lease.check()


def test_a_living_holder_is_named(folder, clock):
    with take(folder, clock, "one") as first:
        counts = itertools.count(100)
        clock.on_sleep = lambda: beat(folder, first, next(counts))
        with pytest.raises(BusyError, match=r"another run holds .*run one, process \d+ on "):
            take(folder, clock, "two")
        first.check()


def test_a_dead_holder_is_followed_after_the_time_it_stated(folder, clock):
    die(folder, take(folder, clock, "one", stale_seconds=600))
    began = clock.now
    with take(folder, clock, "two", stale_seconds=5) as lease:
        assert 600 <= clock.now - began < 660
        lease.check()


def test_a_release_while_waiting_ends_the_wait(folder, clock):
    first = take(folder, clock, "one")
    die(folder, first)
    clock.on_sleep = first.release
    with take(folder, clock, "two"):
        assert clock.now < 10


def test_of_two_waiters_one_wins(folder, clock):
    """The second saw the same dead holder; by the time it claims, the first is there."""
    die(folder, take(folder, clock, "one", stale_seconds=600))
    taken = []

    def somebody_else():
        clock.on_sleep = lambda: None
        taken.append(take(folder, clock, "two"))

    clock.on_sleep = somebody_else
    with pytest.raises(BusyError, match="run two"):
        take(folder, clock, "three")
    taken[0].check()
    taken[0].release()


def test_of_two_threads_at_once_one_holds(folder):
    """Whoever wins the race to claim, exactly one may go on."""
    barrier, held, refused = threading.Barrier(4), [], []
    # One that comes late waits until it sees a beat, of which `stale_seconds` has a few.
    lease = functools.partial(ObjectLease, stale_seconds=3.0, settle_seconds=0.2)

    def run(name):
        barrier.wait()
        pause = threading.Event()
        try:
            held.append(lease(folder, name, sleep=pause.wait))
        except BusyError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=run, args=(f"run-{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1 and len(refused) == 3
    held[0].check()
    held[0].release()


def test_a_superseded_run_stops_at_its_next_check(folder, clock):
    first = take(folder, clock, "one", stale_seconds=600)
    first.check()
    second = take(folder, clock, "two")  # it saw no beat for ten minutes: a suspended machine
    with pytest.raises(ReelmaskError, match=r"another run took over .*run two"):
        first.check()
    second.release()
    first.release()
    with take(folder, clock, "three") as third:
        third.check()


def test_a_late_claim_with_a_smaller_name_takes_over(clock, tmp_path):
    folder = ObjectFolder(f"memory://late-{tmp_path.name}")
    folder.creates_exclusively = False
    with take(folder, clock, "one") as first:
        folder.replace("manifest/lease/epoch-00000000~", json.dumps({"run_id": "late"}).encode())
        with pytest.raises(ReelmaskError, match="took over"):
            first.check()


def test_an_answer_lost_on_the_way_is_no_defeat(clock, tmp_path, monkeypatch):
    """The claim came through, its answer did not: the second try finds our own claim."""
    folder = ObjectFolder(f"memory://lost-{tmp_path.name}")
    real = ObjectFolder.publish
    monkeypatch.setattr(ObjectFolder, "publish", lambda *args: real(*args) and False)
    with take(folder, clock, "one") as lease:
        lease.check()


def test_a_heartbeat_that_fails_does_not_end_the_run(folder, clock, monkeypatch, caplog):
    failed = threading.Event()
    real = ObjectFolder.replace

    def fail(self, name, data):
        if "beat" in name and not failed.is_set():
            failed.set()
            raise ConnectionResetError("the store is away")
        real(self, name, data)

    monkeypatch.setattr(ObjectFolder, "replace", fail)
    lease = take(folder, clock, "one", stale_seconds=0.06)
    assert failed.wait(120)
    for _ in range(1000):
        if folder.names("manifest/lease", "beat-"):
            break
        threading.Event().wait(0.01)
    assert folder.names("manifest/lease", "beat-"), "the next beat makes good"
    lease.check()
    monkeypatch.setattr(ObjectFolder, "replace", lambda *args: (_ for _ in ()).throw(OSError()))
    lease.release()
    assert "heartbeat of the lease failed" in caplog.text
    assert "releasing the lease failed" in caplog.text


def test_old_epochs_do_not_pile_up(folder, clock):
    for number in range(5):
        with take(folder, clock, f"run-{number}"):
            pass
    assert len(folder.names("manifest/lease")) == 2


def test_how_long_silence_may_last_is_read_from_the_environment(monkeypatch):
    assert stale_from_environment() == 30
    monkeypatch.setenv(STALE_VARIABLE, "2.5")
    assert stale_from_environment() == 2.5
    for bad in ("0", "soon", "nan", "-1"):
        monkeypatch.setenv(STALE_VARIABLE, bad)
        with pytest.raises(UsageError, match=STALE_VARIABLE):
            stale_from_environment()


def test_a_local_folder_is_free_the_moment_its_holder_dies(tmp_path):
    """A file lock: no waiting, and the holder is named while it lives."""
    code = (
        "import sys\n"
        "from vis_core.store.folder import open_folder\nfrom vis_core.store import lease\n"
        "held = lease.acquire(open_folder(sys.argv[1]), 'one'); print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    holder = subprocess.Popen(words, stdin=-1, stdout=-1, cwd=REPO)
    assert holder.stdout.readline() == b"held\n"
    folder = open_folder(str(tmp_path))
    with pytest.raises(BusyError, match=f"run one, process {holder.pid} on "):
        acquire(folder, "two")
    holder.kill()
    holder.communicate()
    with acquire(folder, "two") as lease:
        assert isinstance(lease, LocalLease)
        with pytest.raises(BusyError, match="run two"):
            acquire(folder, "three")
    acquire(folder, "four").release()


def test_a_file_system_without_locks_is_warned_about(tmp_path, monkeypatch, caplog):
    def refuse(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with acquire(open_folder(str(tmp_path)), "one"):
        assert "cannot be locked" in caplog.text
