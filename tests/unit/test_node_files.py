"""Files that settings name: the same content on every machine, fetched or checked once."""

import dataclasses
import hashlib
from pathlib import Path

import fsspec
import pytest

from vis_core import node_files
from vis_core.errors import UsageError
from vis_core.fingerprints import file_digests


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
    monkeypatch.setattr(node_files, "digest_of_file", lambda path: pytest.fail("read twice"))
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
