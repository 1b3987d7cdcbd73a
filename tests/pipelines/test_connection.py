"""A cluster that cannot be used is one clear line: nobody there, a token, another Ray, no CPUs."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from tests.support.clips import write_clips
from tests.support.nodes import REPO

pytestmark = pytest.mark.xdist_group("ray")

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "more-than-a-few-characters"}
OTHER_RAY = (
    "import ray; ray.__version__ = '2.0.1'; from jobs.cli import main; raise SystemExit(main())"
)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "clips"
    write_clips(folder, 1, num_frames=4)
    return folder


def label(clips, out, address, *, program=("-m", "jobs.cli"), **environment):
    words = ["label", clips, "--out", out, "--system", "oracle", "--set", "truth=formula:2"]
    command = [sys.executable, *program, *words, "--runner", "ray", "--address", address]
    quiet = {key: value for key, value in os.environ.items() if not key.startswith("RAY_AUTH")}
    done = subprocess.run(
        [str(word) for word in command],
        env={**quiet, "PYTHONPATH": str(REPO), **environment},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert "Traceback" not in done.stderr and done.stdout == ""
    return done.returncode, done.stderr


def test_nobody_at_the_address(clips, tmp_path):
    code, said = label(clips, tmp_path / "out", "127.0.0.1:1")
    assert code == 2 and "no Ray cluster answers at '127.0.0.1:1'" in said


@pytest.fixture
def guarded(tmp_path):
    """The address of a cluster with a token and without CPUs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    words = [f"--port={port}", "--num-cpus=0", "--include-dashboard=false"]
    process = subprocess.Popen(
        [*ray, *words],
        env={**os.environ, **TOKEN},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for_port(process, port)
        yield f"127.0.0.1:{port}"
    finally:
        everyone = [process.pid, *(c.pid for c in psutil.Process(process.pid).children(True))]
        for pid in everyone:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def wait_for_port(process, port):
    while process.poll() is None:
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        time.sleep(0.1)
    raise AssertionError(f"`ray start` ended with {process.returncode}")


def test_a_cluster_that_cannot_be_used(clips, tmp_path, guarded):
    """No token, another version of Ray, no CPUs."""
    code, said = label(clips, tmp_path / "out", guarded)
    assert code == 2 and "RAY_AUTH_TOKEN" in said
    code, said = label(clips, tmp_path / "out", guarded, program=("-c", OTHER_RAY), **TOKEN)
    assert code == 2 and "other versions of Ray or Python" in said
    code, said = label(clips, tmp_path / "out", guarded, **TOKEN)
    assert code == 2 and "at least 1 is needed" in said
