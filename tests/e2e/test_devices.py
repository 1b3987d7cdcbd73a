"""tests/devices, in a process of its own: torch, told of a device, knows it to the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
CASES = sorted(path for path in (REPO / "tests" / "devices").glob("*.py") if path.stem[0] != "_")


def test_the_cases_are_there():
    assert {path.stem for path in CASES} == {"prediction", "strictness", "training"}


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_on_a_device(cases):
    words = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", cases)
    done = subprocess.run(words, cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
