"""Files that settings name: the same content on every machine, fetched or checked once."""

import dataclasses
import hashlib
import os
import re
import shutil
from pathlib import Path

import fsspec
import pytest

from vis_core import fingerprints, node_files
from vis_core.errors import UsageError
from vis_core.fingerprints import file_digests
from vis_core.systems import get_system


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    weights: str | None = dataclasses.field(default=None, metadata={"file": True})
    other: int = 3


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(node_files.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_path_is_read_once_per_state_of_the_file(tmp_path, monkeypatch):
    path = tmp_path / "w.bin"
    path.write_bytes(b"abc")
    settings = Settings(weights=str(path))
    digests = file_digests(settings)
    assert digests == {"weights": hashlib.sha256(b"abc").hexdigest()}
    assert node_files.prepare(settings, digests) == settings
    monkeypatch.setattr(node_files, "digest_of_path", lambda path: pytest.fail("read twice"))
    assert node_files.prepare(settings, digests) == settings


def test_other_content_on_this_machine_is_refused(tmp_path):
    path = tmp_path / "w.bin"
    path.write_bytes(b"abc")
    digests = file_digests(Settings(weights=str(path)))
    path.write_bytes(b"abd-")
    with pytest.raises(UsageError, match="not the file the job was made with"):
        node_files.prepare(Settings(weights=str(path)), digests)
    path.unlink()
    with pytest.raises(UsageError, match="put it on every node"):
        node_files.prepare(Settings(weights=str(path)), digests)


def test_an_address_is_fetched_once_and_by_content(cache):
    files = fsspec.filesystem("memory")
    files.pipe("/w.bin", b"abc")
    settings = Settings(weights="memory://w.bin")
    digests = file_digests(settings)
    found = node_files.prepare(settings, digests)
    assert found.weights.startswith(str(cache)) and Path(found.weights).read_bytes() == b"abc"
    files.pipe("/w.bin", b"xyz")
    assert node_files.prepare(settings, digests) == found, "what was fetched is what was asked for"
    with pytest.raises(UsageError, match="has changed since the job was made"):
        node_files.prepare(settings, {"weights": "0" * 64})


def test_values_that_name_no_file_stay(tmp_path):
    assert node_files.prepare(Settings(), {}) == Settings()
    symbolic = Settings(weights="formula:3")
    assert file_digests(symbolic) == {} and node_files.prepare(symbolic, {}) == symbolic


# --- folders --------------------------------------------------------------------------------------


def folder_at(path: Path) -> Path:
    """Weights as Hugging Face lays them out."""
    (path / "vae").mkdir(parents=True)
    (path / "config.json").write_text('{"depth": 2}')
    (path / "model-1-of-2.safetensors").write_bytes(b"abc")
    (path / "model-2-of-2.safetensors").write_bytes(b"abd")
    (path / "vae" / "config.json").write_text("{}")
    return path


def digest(path: Path) -> str:
    return file_digests(Settings(weights=str(path)))["weights"]


def test_a_folder_is_what_it_holds(tmp_path):
    """A copy has the same digest, whoever wrote its files in which order."""
    original = folder_at(tmp_path / "original")
    copy = tmp_path / "copy"
    for name in sorted((p.relative_to(original) for p in original.rglob("*.*")), reverse=True):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original / name, copy / name)
    os.utime(copy / "config.json", (1, 1))
    (tmp_path / "link").symlink_to(copy)
    assert digest(original) == digest(copy) == digest(tmp_path / "link") == digest(f"{copy}/")


def rewrite(path: Path) -> None:
    (path / "model-1-of-2.safetensors").write_bytes(b"abX")


def rename(path: Path) -> None:
    (path / "config.json").rename(path / "config2.json")


def swap(path: Path) -> None:
    first, second = (path / f"model-{n}-of-2.safetensors" for n in (1, 2))
    first.write_bytes(b"abd")
    second.write_bytes(b"abc")


def move_down(path: Path) -> None:
    (path / "config.json").rename(path / "vae" / "other.json")


def add(path: Path) -> None:
    (path / "vae" / "empty").touch()


def remove(path: Path) -> None:
    (path / "vae" / "config.json").unlink()


@pytest.mark.parametrize("change", [rewrite, rename, swap, move_down, add, remove])
def test_a_changed_folder_is_another(tmp_path, change):
    """Its digest is another, and a node that holds it is refused."""
    path = folder_at(tmp_path / "weights")
    settings = Settings(weights=str(path))
    digests = file_digests(settings)
    assert node_files.prepare(settings, digests) == settings
    change(path)
    assert digest(path) != digests["weights"]
    with pytest.raises(UsageError, match="is not the folder the job was made with"):
        node_files.prepare(settings, digests)


def test_a_folder_is_read_once_per_state_of_its_files(tmp_path, monkeypatch):
    path = folder_at(tmp_path / "weights")
    settings = Settings(weights=str(path))
    digests = file_digests(settings)
    node_files.prepare(settings, digests)
    reads = []
    monkeypatch.setattr(node_files, "digest_of_path", lambda p: reads.append(p) or digest(Path(p)))
    assert node_files.prepare(settings, digests) == settings and not reads
    os.utime(path / "vae" / "config.json", (1, 1))
    assert node_files.prepare(settings, digests) == settings and len(reads) == 1


def link_out(path: Path) -> None:
    (path / "vae" / "secret").symlink_to("/etc/passwd")


def pipe(path: Path) -> None:
    os.mkfifo(path / "pipe")


def empty(path: Path) -> None:
    shutil.rmtree(path)
    (path / "below").mkdir(parents=True)


def crowd(path: Path) -> None:
    for number in range(8):
        (path / f"{number}").touch()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (link_out, "expected a folder without links, got the link 'vae/secret'; copy"),
        (pipe, "expected a regular file, got a device or pipe"),
        (empty, "expected a file or a folder of files, got none"),
        (crowd, "expected a folder of at most 10 files, got more"),
    ],
)
def test_folders_that_are_no_weights(tmp_path, monkeypatch, spoil, says):
    monkeypatch.setattr(fingerprints, "_MOST_FILES", 10)
    path = folder_at(tmp_path / "weights")
    spoil(path)
    with pytest.raises(UsageError, match=re.escape(says)):
        digest(path)


@pytest.mark.parametrize("address", ["memory://models/net", "memory://models/net/"])
def test_a_folder_at_an_address_is_refused(address):
    fsspec.filesystem("memory").pipe("/models/net/config.json", b"{}")
    with pytest.raises(UsageError, match="expected a file at an address, got a folder; copy the"):
        file_digests(Settings(weights=address))
    with pytest.raises(UsageError, match="cannot read memory://models/nothing"):
        file_digests(Settings(weights="memory://models/nothing"))


@pytest.mark.parametrize(
    ("system", "setting"), [("oracle", "truth"), ("idol", "weights"), ("propose_reduce", "weights")]
)
def test_a_system_that_wants_a_file_says_so(tmp_path, system, setting):
    path = folder_at(tmp_path / "weights")
    with pytest.raises(UsageError, match=r"weights'.*regular file, got a folder"):
        get_system(system).categories(get_system(system).predict_config(**{setting: str(path)}))
