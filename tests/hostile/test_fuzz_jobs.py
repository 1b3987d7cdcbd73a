"""A minute of mutated job files and weights each: refused in words, in bounded time and memory."""

import json
import random
import struct
import subprocess
import sys
import time
import zipfile

import pytest
import yaml

from tests.support.fuzzing import SECONDS
from tests.support.results import REPO
from vis_core.errors import ReelmaskError

MOST_MEGABYTES = 600  # beyond what the libraries take by themselves

YAML_SEEDS = [
    "inputs: clips\nout: out\nsystem: oracle\nsettings: {truth: 'formula:2', shard_frames: 3}\n",
    "inputs: [a, b]\nout: o\nmembers:\n  - &m {name: a, system: oracle, weight: 2}\n  - *m\n",
    "a: &a {x: y}\nb: &b {<<: [*a, *a], k: v}\nc: {<<: [*b, *b, *b]}\nevery: 2\nfps: 1.5\n",
    "recipe: idol\nout: o\ndata: [{path: x}]\nschedule: {steps: 3}\nnetwork: {width: 32}\n",
]
YAML_WORDS = [
    *(
        "&a ",
        "*a",
        "<<: ",
        "- ",
        "? ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "|\n",
        ">\n",
        "!!binary ",
        "!!set ",
    ),
    *(
        "!!python/name:os.system ",
        "!!timestamp ",
        "0x" + "f" * 99,
        "1:1:1",
        ".inf",
        ".nan",
        "~",
        "\t",
    ),
    *(
        "\n",
        "  ",
        "#",
        "---\n",
        "...\n",
        "%YAML 9.9\n",
        "'",
        '"',
        "\\x00",
        "\ufeff",
        "\x85",
        "1e999",
    ),
    *("9" * 50, "inputs", "members:", "settings:", "versions: {}\n", "sampling: {}\n"),
]


def mutated_text(rng, text):
    for _ in range(rng.randint(1, 8)):
        at, kind = rng.randrange(len(text) + 1), rng.randrange(5)
        if kind == 0:
            text = text[:at] + rng.choice(YAML_WORDS) * rng.choice([1, 1, 1, 3, 2000]) + text[at:]
        elif kind == 1:
            text = text[:at] + text[at + rng.randint(1, 20) :]
        elif kind == 2:
            text = text[:at] + chr(rng.choice([*range(1, 300), 0x202E, 0x10FFFF])) + text[at:]
        elif kind == 3:
            text = text[: len(text) // 2 + at // 2] + text[at // 2 :]
        elif len(text) < 100_000:
            text += text[at:]
    return text


def fuzz_yaml(folder, seconds, seed):
    """Job files of all commands, through what reads them."""
    from jobs.spec import load_yaml, read_job_file
    from vis_core.training.job import make_train_job

    rng, path, number = random.Random(seed), folder / "job.yaml", 0
    (folder / "manifest").mkdir()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = mutated_text(rng, rng.choice(YAML_SEEDS))
        path.write_text(text, encoding="utf-8", errors="replace")
        for read in (read_job_file, lambda p: make_train_job(load_yaml(p))):
            _refused_or_fine(read, path, text.encode("utf-8", "replace"))
        number += 1
    return number


def fuzz_records(folder, seconds, seed):
    """Records of runs: values of every kind at every place."""
    from jobs.spec import read_job_file
    from vis_core.job import MemberSpec, job_record, make_job
    from vis_core.systems import SYSTEMS

    rng, path, number = random.Random(seed), folder / "job.yaml", 0
    (folder / "manifest").mkdir()
    spec = MemberSpec(system=SYSTEMS["oracle"], settings={"truth": "formula:2"})
    whole = json.dumps(job_record(make_job(["a"], "out", [spec])))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        record = json.loads(whole)
        for _ in range(rng.randint(1, 3)):
            _spoil(rng, record)
        path.write_text(yaml.safe_dump(record))
        _refused_or_fine(read_job_file, path, path.read_bytes())
        number += 1
    return number


VALUES = (
    None,
    True,
    -1,
    0,
    1.5,
    1e300,
    float("nan"),
    10**30,
    "",
    "x",
    "a\0b",
    [],
    {},
    [[]],
    {"a": 1},
)


def _spoil(rng, tree):
    """Replaces or removes something somewhere in nested values."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(tree[key], dict | list) and rng.random() < 0.7:
            tree = tree[key]
        else:
            break
    if rng.random() < 0.2:
        del tree[key]
    else:
        tree[key] = rng.choice(VALUES)


def fuzz_weights(folder, seconds, seed):
    """safetensors headers, descriptions, zip directories and pickles, through all networks."""
    import torch

    from tests.support.idol import write_weights
    from vis_core.models import mask_rcnn
    from vis_core.models.about import read_about
    from vis_core.models.idol import files as idol
    from vis_core.models.seq_mask_rcnn import files as seq_mask_rcnn
    from vis_core.models.weights import read_weights

    rng, number = random.Random(seed), 0
    whole = write_weights(folder / "whole.safetensors").read_bytes()
    tensors = {f"module.{i}": torch.arange(float(i + 3)) for i in range(4)}
    torch.save({"state_dict": tensors, "step": 3}, folder / "zip.pth")
    torch.save(tensors, folder / "old.pth", _use_new_zipfile_serialization=False)
    pickles = [(folder / name).read_bytes() for name in ("zip.pth", "old.pth")]

    def networks(path):
        weights = read_weights(str(path))
        _refused_or_fine(lambda p: idol.from_weights(weights, str(p)), path, b"")
        _refused_or_fine(lambda p: seq_mask_rcnn.from_weights(weights, str(p), None), path, b"")
        _refused_or_fine(lambda p: mask_rcnn.from_weights("maskrcnn_small", weights, p), path, b"")

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if rng.random() < 0.5:
            path, data = folder / "w.safetensors", mutated_header(rng, whole)
        elif rng.random() < 0.5:
            path, data = folder / "w.pth", mutated_bytes(rng, rng.choice(pickles))
        else:
            path, data = folder / "w.pth", mutated_pickle(rng, folder / "zip.pth")
        path.write_bytes(data)
        _refused_or_fine(networks, path, data)
        _refused_or_fine(lambda p: read_about(str(p)), path, data)
        number += 1
    return number


def mutated_header(rng, whole):
    (length,) = struct.unpack("<Q", whole[:8])
    if rng.random() < 0.4:
        return mutated_bytes(rng, whole[: 8 + length]) + whole[8 + length :]
    header = json.loads(whole[8 : 8 + length])
    if rng.random() < 0.6:
        about = json.loads(header["__metadata__"]["reelmask"])
        for _ in range(rng.randint(1, 3)):
            _spoil(rng, about)
        if rng.random() < 0.3 and isinstance(about.get("settings"), dict):
            about["settings"][rng.choice([*about["settings"], "x"])] = 10 ** rng.randint(2, 12)
        header["__metadata__"]["reelmask"] = json.dumps(about)
    else:
        _spoil(rng, header)
    data = json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + whole[8 + length :]


def mutated_bytes(rng, data):
    data = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at, kind = rng.randrange(len(data)), rng.randrange(4)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 8] = struct.pack("<Q", rng.choice([0, 1, 2**31, 2**63, 2**64 - 1]))
        elif kind == 2:
            data = data[:at] or data
        else:
            data[at:at] = rng.randbytes(rng.randint(1, 9))
    return bytes(data)


def mutated_pickle(rng, file):
    """The pickle within the archive, whose directory stays right."""
    out = file.with_name("mutated.pth")
    with zipfile.ZipFile(file) as before, zipfile.ZipFile(out, "w") as after:
        for name in before.namelist():
            data = before.read(name)
            after.writestr(name, mutated_bytes(rng, data) if name.endswith("data.pkl") else data)
    return out.read_bytes()


def _refused_or_fine(read, path, data):
    try:
        read(path)
    except ReelmaskError as error:
        said = str(error)
        assert len(said) < 2000 and "weights_only" not in said, (said, data[:2000])
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error} of {data[:4000]!r}") from error


FUZZERS = {"yaml": fuzz_yaml, "records": fuzz_records, "weights": fuzz_weights}


@pytest.mark.parametrize(
    "seconds",
    [1, pytest.param(SECONDS, marks=[pytest.mark.chaos, pytest.mark.endless])],
    ids=["short", "long"],
)
@pytest.mark.parametrize("what", FUZZERS)
def test_mutated_files_are_refused_in_words(tmp_path, what, seconds):
    """In a process of its own, whose memory is measured; a file that hangs ends with the test."""
    seed = 1 if seconds == 1 else random.randrange(1 << 30)
    code = (
        "import pathlib\n"
        "from tests.hostile import test_fuzz_jobs as fuzz\n"
        "from tests.support.fuzzing import most_kilobytes\n"
        f"number = fuzz.FUZZERS[{what!r}](pathlib.Path({str(tmp_path)!r}), {seconds}, {seed})\n"
        "print(number, most_kilobytes())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"seed {seed}: {done.stderr[-5000:]}"
    number, kilobytes = map(int, done.stdout.split())
    print(f"{what}: {number} files, seed {seed}, {kilobytes // 1024} MB at most")
    assert number > 0
    assert kilobytes // 1024 < MOST_MEGABYTES + 600, f"seed {seed}"
