"""Results folders: first writer wins, listings are true, errors say what to do."""

import errno
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from vis_core.errors import StorageFullError, UsageError
from vis_core.store import object_file
from vis_core.store.folder import STAGING_PREFIX, LocalFolder, ObjectFolder, open_folder
from vis_core.store.object_file import ObjectFile
from vis_core.store.patience import Patience, StorageError, is_transient


@pytest.fixture
def memory(tmp_path):
    """An empty folder of fsspec's in-memory store."""
    yield f"memory://{tmp_path.name}"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture(params=["local", "no_links", "memory"])
def folder(request, tmp_path, monkeypatch):
    """Every kind of folder; `no_links` is a file system without hard links."""
    if request.param == "memory":
        name = f"memory://{tmp_path.name}"
        yield open_folder(name)
        fsspec.filesystem("memory").store.clear()
        return
    if request.param == "no_links":
        monkeypatch.setattr(os, "link", _refuse_links)
    yield open_folder(str(tmp_path / "out"))


def _refuse_links(*args, **kwargs):
    raise OSError(errno.EPERM, "Operation not permitted")


def put(folder, name, data):
    with folder.staging(name) as staged:
        staged.write_bytes(data)
        return folder.publish(staged, name)


def test_the_first_writer_wins(folder):
    assert put(folder, "frames/a", b"one")
    assert not put(folder, "frames/a", b"two")
    assert folder.read("frames/a") == b"one"


def test_names_are_files_of_one_level_without_hidden_ones(folder):
    for name in ("frames/b", "frames/a", "frames/.hidden", "frames/deeper/c", "framesx/d"):
        folder.replace(name, b"1")
    assert folder.names("frames") == ["a", "b"]
    assert folder.names("frames", "b") == ["b"]
    assert folder.names("frames", "deeper") == folder.names("nothing") == []
    folder.delete("frames/a")
    folder.delete("frames/a")
    assert folder.names("frames") == ["b"]


def test_files_are_replaced_and_looked_up(folder):
    assert not folder.exists("job.yaml")
    with pytest.raises(FileNotFoundError):
        folder.read("job.yaml")
    with pytest.raises(FileNotFoundError):
        folder.open("job.yaml")
    folder.replace("job.yaml", b"a")
    folder.replace("job.yaml", b"bcd")
    assert (folder.exists("job.yaml"), folder.size("job.yaml")) == (True, 3)
    assert folder.read("job.yaml") == b"bcd"
    assert not folder.exists("job")


def test_parquet_is_read_through_open(folder):
    rows = pa.table({"a": range(1000)})
    buffer = io.BytesIO()
    pq.write_table(rows, buffer, row_group_size=100)
    folder.replace("tracks/t.parquet", buffer.getvalue())
    with folder.open("tracks/t.parquet") as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        assert parquet.num_row_groups == 10
        assert parquet.read_row_group(3)["a"].to_pylist() == list(range(300, 400))
    with folder.open("tracks/t.parquet") as file:
        assert pq.read_table(file, schema=rows.schema).equals(rows)
    folder.replace("tracks/empty", b"")
    with folder.open("tracks/empty") as file, pytest.raises(pa.ArrowInvalid):
        pq.ParquetFile(file)


def test_staging_leaves_nothing_behind(folder, tmp_path):
    with pytest.raises(RuntimeError), folder.staging("frames/x") as staged:
        staged.write_bytes(b"half")
        raise RuntimeError
    assert folder.names("frames") == [] and not staged.exists()


def test_a_folder_travels_to_other_processes(folder):
    put(folder, "frames/a", b"1")
    there = pickle.loads(pickle.dumps(folder))  # noqa: S301 - our own bytes
    assert there.read("frames/a") == b"1"
    assert there.creates_exclusively == folder.creates_exclusively


# --- local ---------------------------------------------------------------------------------


def test_without_hard_links_names_need_a_nonce(tmp_path, monkeypatch):
    assert LocalFolder(tmp_path).creates_exclusively
    monkeypatch.setattr(os, "link", _refuse_links)
    assert not LocalFolder(tmp_path).creates_exclusively
    assert list(tmp_path.glob("manifest/*")) == []


def test_names_that_are_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"out-\xff")
    folder = open_folder(str(path))
    folder.replace("a", b"hello")
    with folder.open("a") as file:
        assert file.read() == b"hello"


def test_a_full_disk_is_named_and_other_errors_stay(tmp_path, monkeypatch):
    folder = LocalFolder(tmp_path)
    for code, expected in ((errno.ENOSPC, StorageFullError), (errno.EIO, OSError)):

        def fail(*args, code=code):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(expected):
            folder.replace("a", b"1")


def test_a_folder_that_cannot_be_synced_is_fine_but_a_file_is_not(tmp_path, monkeypatch):
    folder, real = LocalFolder(tmp_path), os.fsync

    def refuse_folders(handle):
        if Path(f"/proc/self/fd/{handle}").is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    assert put(folder, "frames/a", b"1")
    folder.replace("job.yaml", b"1")


def test_only_dead_processes_of_this_host_lose_their_half_written_files(tmp_path):
    folder = LocalFolder(tmp_path)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = os.uname().nodename
    for name in (f"{host}-{dead.pid}-ab", f"{host}-{os.getpid()}-ab", "elsewhere-1-ab", "odd"):
        (tmp_path / f"{STAGING_PREFIX}{name}").touch()
    assert folder.remove_stale_staging() == 1
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_is_no_results_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        open_folder(str(tmp_path / "file"))
    with pytest.raises(UsageError, match="no results folder"):
        open_folder(str(tmp_path / "nothing"), create=False)


# --- object storage ------------------------------------------------------------------------


def test_exclusive_creation_is_tried_not_believed(memory, monkeypatch):
    assert ObjectFolder(memory).creates_exclusively
    real = MemoryFileSystem.pipe_file

    def ignores(self, path, value, mode="overwrite", **kwargs):
        return real(self, path, value)

    def not_known(self, path, value, **kwargs):
        raise OSError(errno.ENOSYS, "Conditional object PUTs are not supported.")

    def broken(self, path, value, **kwargs):
        raise PermissionError("Access Denied")

    for method, expected in ((ignores, False), (not_known, False)):
        monkeypatch.setattr(MemoryFileSystem, "pipe_file", method)
        assert ObjectFolder(memory).creates_exclusively is expected
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", fsspec.AbstractFileSystem.pipe_file)
    assert not ObjectFolder(memory).creates_exclusively  # looks, then writes: not atomic
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", broken)
    with pytest.raises(UsageError, match="refuses access"):
        _ = ObjectFolder(memory).creates_exclusively
    assert ObjectFolder(memory).names("manifest") == []  # the probe is hidden


def test_without_exclusive_creation_the_last_writer_wins(memory, monkeypatch):
    folder = ObjectFolder(memory)
    folder.creates_exclusively = False
    assert put(folder, "tracks/a", b"1") and put(folder, "tracks/a", b"1")


def test_a_hundred_thousand_names(memory):
    folder = ObjectFolder(memory)
    store = fsspec.filesystem("memory").store
    one = next(iter(_with(folder, "frames/part-000000").values()))
    root = folder._full("frames")
    store.update({f"{root}/part-{i:06d}": one for i in range(100_000)})
    assert len(folder.names("frames")) == 100_000


def _with(folder, name):
    folder.replace(name, b"1")
    return fsspec.filesystem("memory").store


def test_addresses_that_cannot_work_are_usage_errors(monkeypatch):
    for root, says in (("nosuch://x/y", "nosuch"), ("memory://", "names no bucket")):
        with pytest.raises(UsageError, match=says):
            open_folder(root)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(UsageError, match=r"reelmask\[s3\]"):
        open_folder("s3://bucket/run")


def client_error(status, code):
    """What botocore raises, as seen from here."""
    error = Exception(code)
    error.response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return error


class Flaky:
    """An operation that fails so many times before it answers."""

    def __init__(self, *errors):
        self.errors = list(errors)

    def __call__(self):
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset"),
        TimeoutError("slow"),
        OSError(errno.EBUSY, "SlowDown"),
        client_error(503, "SlowDown"),
        client_error(409, "ConditionalRequestConflict"),
        type("EndpointConnectionError", (type("ConnectionError", (Exception,), {}),), {})("x"),
    ],
)
def test_transient_errors_are_tried_again_with_back_off(error):
    waits = []
    patiently = Patience("s3://b/r", delays=(1, 5, 20), sleep=waits.append)
    assert patiently(Flaky()) == "answer"
    assert patiently(Flaky(error, error)) == "answer"
    assert len(waits) == 2 and 0.5 <= waits[0] <= 1.5 and 2.5 <= waits[1] <= 7.5
    with pytest.raises(StorageError, match="run the same command again") as caught:
        patiently(Flaky(*[error] * 9))
    assert len(waits) == 5 and isinstance(caught.value, OSError)


def test_a_store_that_never_answered_gets_no_second_minute():
    waits = []
    with pytest.raises(UsageError, match="AWS_ENDPOINT_URL"):
        Patience("s3://b/r", sleep=waits.append)(Flaky(*[ConnectionRefusedError("no")] * 9))
    assert waits == []


@pytest.mark.parametrize(
    ("error", "expected", "says"),
    [
        (PermissionError("SignatureDoesNotMatch"), UsageError, "AWS_ACCESS_KEY_ID"),
        (type("NoCredentialsError", (Exception,), {})("none"), UsageError, "AWS_ACCESS_KEY_ID"),
        (client_error(404, "NoSuchBucket"), UsageError, "bucket 'b' of s3://b/r does not exist"),
        (FileNotFoundError("gone"), FileNotFoundError, "gone"),
        (FileExistsError("there"), FileExistsError, "there"),
        (OSError(errno.EINVAL, "odd"), OSError, "odd"),
    ],
)
def test_other_errors_are_explained_at_once(error, expected, says):
    waits = []
    with pytest.raises(expected, match=says):
        Patience("s3://b/r", sleep=waits.append)(Flaky(error))
    assert waits == [] and not is_transient(error)


def test_reads_of_an_object_are_right_and_few(monkeypatch):
    """Against a plain buffer, at random places; a footer and its neighbours cost one request."""
    monkeypatch.setattr(object_file, "TAIL_BYTES", 100)
    monkeypatch.setattr(object_file, "BLOCK_BYTES", 64)
    data = os.urandom(5000)
    asked = []

    def fetch(start, stop):
        assert 0 <= start < stop <= len(data)
        asked.append((start, stop))
        return data[start:stop]

    file, truth = ObjectFile(fetch, len(data)), io.BytesIO(data)
    for position, size in ((4990, 10), (4905, 50), (4900, 100), (4999, 50), (5000, 1)):
        assert file.seek(position) == truth.seek(position)
        assert file.read(size) == truth.read(size)
    assert asked == [(4900, 5000)]
    for position in (*range(0, 5200, 37), *range(5000, 0, -501)):
        for size in (0, 1, 63, 64, 65, 500, -1):
            file.seek(position)
            truth.seek(position)
            assert file.read(size) == truth.read(size)
            assert file.tell() == truth.tell() or position > len(data)
    assert file.seek(-8, io.SEEK_END) == 4992 and file.seek(3, io.SEEK_CUR) == 4995


def test_a_short_answer_is_an_error(memory, monkeypatch):
    folder = ObjectFolder(memory, patience=Patience(memory, delays=()))
    folder.replace("frames/a", b"0123456789")
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *args, **kwargs: b"0123")
    with pytest.raises(StorageError, match="4 bytes came"):
        folder.open("frames/a")
