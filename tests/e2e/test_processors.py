"""Rows depend on nothing but the frame, on processors that nobody here has."""

import json
import os
import subprocess
import sys

import pytest

# What a lesser processor would run, of each library that has kernels of its own.
PROCESSORS = {
    "as it is": {},
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
    "none": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    },
}
SYSTEMS = {"tiny_net", "motion", "detector", "idol", "propose_reduce"}


def compared(processor, *arguments):
    """In a process of its own, because libraries look at the processor once."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.exactness", *arguments],
        env={**os.environ, **PROCESSORS[processor]},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_every_predictor_gives_the_same_rows_in_any_shards():
    """With noise in the other slots, and with threads around it, on vectors of eight numbers."""
    found = compared("avx2", "--quick")
    assert found["capability"] in ("AVX2", "DEFAULT")
    assert found["differing"] == []
    assert found["instances"].keys() == SYSTEMS and min(found["instances"].values()) > 20


@pytest.mark.chaos
@pytest.mark.endless
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("processor", PROCESSORS)
def test_every_predictor_every_batch_size_every_processor(processor):
    found = compared(processor)
    assert found["differing"] == [] and found["checked"] == 75


@pytest.mark.chaos
@pytest.mark.endless
@pytest.mark.timeout(900)
@pytest.mark.parametrize("processor", ["avx2", "none"])
def test_runs_are_the_same_on_every_processor(processor):
    """Through the store at any shard size, and through Ray on two actors."""
    chosen = "real_network or same_rows or whole_windows"
    files = ("e2e/test_determinism", "pipelines/test_ray_runner", "pipelines/test_idol")
    files = [f"tests/{name}.py" for name in (*files, "pipelines/test_propose_reduce")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", chosen, "-m", "not chaos", *files],
        env={**os.environ, **PROCESSORS[processor]},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
