"""Parquet tables and manifest files with bytes changed at random: errors of ours, no more."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs import cli
from tests.support.clips import write_clips
from tests.support.fuzzing import SECONDS, most_kilobytes

REPO = Path(__file__).parents[2]
TARGETS = ("manifest/*/*.parquet", "frames/*", "tracks/*", "masks/*", "videos/*", "failures/*")
TARGETS += ("manifest/lease/fence-*", "manifest/in_flight/*")
ROUNDS = 40  # of one process
# One process a batch: a crash of a library must be seen, and memory must be bounded.
CODE = """
import random, resource, sys, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.hostile import test_fuzz_store as fuzz
resource.setrlimit(resource.RLIMIT_AS, (fuzz.LIMIT_BYTES, fuzz.LIMIT_BYTES))
fuzz.rounds(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
"""
LIMIT_BYTES = 4 << 30  # with what libraries map and never touch


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    write_clips(folder / "clips", 2, num_frames=4)
    words = ["label", f"{folder}/clips", "--out", f"{folder}/out", "--system", "oracle"]
    words += ["--set", f"truth={folder}/clips/truth.json", "--set", "shard_frames=2"]
    assert cli.main(words) == 0
    note = {"run_id": "x", "node": "", "reason": "", "keys": [dict.fromkeys(KEY, "a")]}
    (folder / "out/manifest/in_flight").mkdir(exist_ok=True)
    (folder / "out/manifest/in_flight/inline.json").write_text(json.dumps(note))
    return folder


KEY = ("fingerprint", "video_id", "version", "window", "start", "stop")


def mutated(data, rng):
    """A few bytes changed, some cut out, some doubled: mostly near the ends, where headers are."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        span = len(data) if rng.random() < 0.5 else min(len(data), 600)
        place = len(data) - 1 - rng.randrange(span)
        kind = rng.randrange(4)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place] = rng.randrange(256)
        elif kind == 2:
            del data[place : place + rng.randint(1, 40)]
        else:
            data[place:place] = data[place : place + rng.randint(1, 40)]
    return bytes(data)


def read_everything(out):
    """What verify, explain, gc and the start of a run read; errors of ours are fine."""
    from vis_core.errors import ReelmaskError
    from vis_core.job import new_run_id
    from vis_core.stages import audit
    from vis_core.store import in_flight
    from vis_core.store.folder import open_folder
    from vis_core.store.store import holding, open_store
    from vis_core.systems import SYSTEMS

    store = open_store(str(out), create=False)
    for call in (
        lambda: audit.verify(store, SYSTEMS, deep=True),
        lambda: audit.explain(store, SYSTEMS, "clip_0000"),
        lambda: in_flight.everything(store.folder),
    ):
        try:
            call()
        except ReelmaskError as error:
            assert str(error)
    with holding(open_folder(str(out)), new_run_id()) as (held, _):
        held.manifest.ids.load()
        held.videos()
        held.adopt_orphans("run")


def rounds(out, target, seed, count):
    """So many mutations of files of one kind, each read by everything that reads."""
    files = sorted(path for path in out.glob(target) if path.is_file())
    rng = random.Random(seed)
    work = out.parent / f"work-{os.getpid()}"
    for _ in range(count):
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(out, work)
        chosen = rng.choice(files)
        (work / chosen.relative_to(out)).write_bytes(mutated(chosen.read_bytes(), rng))
        read_everything(work)
    shutil.rmtree(work, ignore_errors=True)
    print(most_kilobytes())


@pytest.mark.chaos
@pytest.mark.endless
@pytest.mark.timeout(400)
@pytest.mark.parametrize("target", [name for name in TARGETS if "lease" not in name])
def test_mutated_files_are_errors_of_ours(labelled, tmp_path, target):
    """No traceback, no crash, no hang, and memory of a few hundred megabytes."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    out = shutil.copytree(labelled / "out", tmp_path / "out")
    deadline, batches = time.monotonic() + SECONDS, 0
    while time.monotonic() < deadline:
        words = [str(REPO), str(out), target, str(seed + batches), str(ROUNDS)]
        done = subprocess.run(
            [sys.executable, "-c", CODE, *words],
            capture_output=True,
            text=True,
            timeout=240,
            cwd=REPO,
            check=False,
        )
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stderr[-3000:]}"
        assert int(done.stdout.split()[-1]) < 800_000, "kB at the most"
        batches += 1
    print(f"{batches * ROUNDS} mutations")


def test_some_mutated_files_are_errors_of_ours(labelled, tmp_path):
    """A few of each kind; the long form runs in `make chaos`."""
    out = shutil.copytree(labelled / "out", tmp_path / "out")
    for target in TARGETS:
        if any(path.is_file() for path in out.glob(target)):
            rounds(out, target, seed=7, count=2)
