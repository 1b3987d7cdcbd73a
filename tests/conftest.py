"""Fixtures shared by all tests; unit tests can neither sleep nor open sockets."""

import os
import socket
import time
from pathlib import Path

import pytest

from tests.support.clips import write_clips
from vis_core import addresses

REPO = Path(__file__).parents[1]

# Tests run side by side, and start programs that compute: with a thread per core in each, they
# wait for each other several times as long as they work.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real clips and golden fixtures, which live outside the repository."""
    folder = Path(os.environ.get("REELMASK_SHARED", REPO.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("no shared fixtures: set REELMASK_SHARED to their folder")
    return folder


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> Path:
    """Eight small videos with their truth."""
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, 8, num_frames=20, seed=1)
    return folder


@pytest.fixture(autouse=True)
def _unit_tests_are_quick(request, monkeypatch):
    """A unit test that sleeps or talks to the network is no unit test."""
    if "unit" not in request.path.parts:
        return

    def refuse(*args, **kwargs):
        raise AssertionError("unit tests neither sleep nor open sockets")

    monkeypatch.setattr(time, "sleep", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def _memory_addresses(monkeypatch):
    """Lets a test name `memory://…`, the store in its own process; no job can."""
    monkeypatch.setattr(addresses, "SCHEMES", addresses.SCHEMES | {"memory"})
