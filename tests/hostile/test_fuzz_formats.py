"""Readers of foreign bytes, given mutations of good files: an answer or a reason, nothing else."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import resource
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.e2e.test_mutations import mutate
from tests.support.fuzzing import SECONDS
from tests.support.linkable import SIZE, linkable_table, runs
from tests.support.random_tracks import (
    random_tracks,
    results_json,
    truth_json,
    without_empty,
    write_results,
)
from vis_core.errors import ReelmaskError
from vis_core.formats.cocovid import CocoVideoFile
from vis_core.formats.cvat import read_cvat
from vis_core.formats.davis import read_davis
from vis_core.formats.export import export
from vis_core.formats.mots import read_mots
from vis_core.formats.results import Results
from vis_core.formats.sav import read_sav
from vis_core.formats.untrusted import check_masks
from vis_core.formats.ytvis import ResultsFile, TruthFile
from vis_core.masks import rle
from vis_core.stages.frames_table import FramesTable
from vis_core.store.patience import StorageError
from vis_core.video.lists import read_list

QUICK_FILES = 25  # of each reader in `make test`
MAX_GROWTH_BYTES = 768 << 20  # over what good files take; Arrow keeps pools of its own
REPO = Path(__file__).parents[2]

# What JSON and text may hold instead of what is expected.
WORDS = (
    *(b"1e400", b"-1e400", b"NaN", b"Infinity", b"1" * 5000, b"-1", b"0", b"1.5", b"null"),
    *(b"true", b'""', b"[]", b"{}", b"[" * 3000, b'{"a":' * 3000, b'"\\ud800"', b'"\\u0000"'),
    *(b"99999999999", b"2147483648", b"\xff\xfe", b"<!--", b"&x;", b"]]>", b"<", b",,", b"\r"),
)


def spoiled(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed anyhow, or a value replaced by one that is legal and out of place."""
    if rng.random() < 0.4:
        return mutate(data, rng)
    borders = [i for i, byte in enumerate(data) if byte in b'[]{}:,"= \n<>;']
    if len(borders) < 2:
        return rng.choice(WORDS) + data
    start = rng.randrange(len(borders) - 1)
    stop = min(len(borders) - 1, start + rng.choice([1, 1, 1, 2, 5]))
    return data[: borders[start] + 1] + rng.choice(WORDS) + data[borders[stop] :]


ODD = (
    *(None, -1, 0, 1, 99, 2**31 - 1, -(2**31), 2**40, float("nan"), float("inf"), -0.5, True),
    *("", "x", "\0\x1b[31m", "v" * 5000, b"", b"0", b"\xff" * 40, b"P" * 4000),
    *([], [None], [1.0] * 3, {}, [{}]),
)


def spoiled_rows(data: bytes, rng: random.Random) -> bytes:
    """Parquet that is whole, with a value out of place in some rows."""
    table = pq.read_table(pa.BufferReader(data))
    for _ in range(100):
        rows = table.to_pylist()
        for _ in range(rng.choice([1, 1, 3])):
            _spoil_value(rng.choice(rows), rng)
        try:
            made = pa.Table.from_pylist(rows, schema=table.schema)
        except (pa.ArrowException, TypeError, OverflowError):
            continue
        out = pa.BufferOutputStream()
        pq.write_table(made, out, row_group_size=2)
        return out.getvalue().to_pybytes()
    return data


def _spoil_value(holder, rng: random.Random) -> None:
    """Goes down into lists and structs by chance, and changes what is there."""
    while True:
        key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        inner = holder[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.8:
            holder = inner
            continue
        holder[key] = rng.choice(ODD)
        return


# --- readers: how a good file is made, and what reads a bad one ---------------------------------


def _videos():
    return [without_empty(random_tracks(seed, video_id=f"v{seed}")) for seed in (1, 2)]


def _results(folder):
    return str(write_results(folder / "r", _videos(), categories={1: "a", 2: "b"}))


def _exported(folder, kind, out):
    export(_results(folder), kind, str(folder / out))
    path = folder / out
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _truth(folder):
    path = folder / "truth.json"
    path.write_text(json.dumps(truth_json(_videos())))
    return [path]


def _read_truth(path):
    truth = TruthFile(str(path))
    for name in truth.videos:
        truth.video(name)


def _lines(folder):
    path = folder / "lines.json"
    path.write_text(json.dumps(results_json(_videos())))
    return [path]


def _read_lines(path):
    (truth,) = _truth(path.parent)
    lines = ResultsFile(str(path), TruthFile(str(truth)), skip_strangers=True)
    list(lines.tracks(lines.headers()))


def _coco(folder):
    return _exported(folder, "coco", "coco.json")


def _sav(folder):
    masks = [{"size": list(SIZE), "counts": runs(40, 6, SIZE[0] * SIZE[1] - 46).decode()}] * 2
    content = {
        "video_id": "v",
        "video_height": SIZE[0],
        "video_width": SIZE[1],
        "video_frame_count": 8,
        "masklet_id": [0, 1],
        "masklet": [masks, masks],
    }
    path = folder / "sav.json"
    path.write_text(json.dumps(content))
    return [path]


def _runs(folder):
    path = folder / "runs.json"
    texts = [runs(40, 6, SIZE[0] * SIZE[1] - 46).decode(), runs(0, SIZE[0] * SIZE[1]).decode()]
    lists = [[40, 6, SIZE[0] * SIZE[1] - 46], [0, 1, 575]]
    path.write_text(json.dumps({"text": texts, "lists": lists}))
    return [path]


def _read_runs(path):
    """Compressed and uncompressed counts; a reason is a ValueError here, which readers name."""
    data = path.read_bytes()
    texts = [text for text in data.split(b'"') if len(text) > 3]
    lists = [part.split(b",") for part in data.split(b"[") if b"," in part]
    for text in texts:
        _or_reason(check_masks, [text], SIZE)
    for numbers in lists:
        _or_reason(rle.encode_runs, [[_number(word) for word in numbers]], SIZE)


def _or_reason(call, *arguments):
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        call(*arguments)


def _number(word):
    try:
        return json.loads(word.strip(b"]} \n").decode("latin-1"))
    except (ValueError, RecursionError):
        return 0


def _davis(folder):
    return _exported(folder, "davis", "davis")


def _mots(folder):
    return _exported(folder, "mots", "mots")


def _cvat(folder):
    return _exported(folder, "cvat", "cvat")


def _parquet_list(folder):
    path = folder / "list.parquet"
    pq.write_table(pa.table({"uri": ["a.mp4", "b c.mp4"], "video_id": ["a", None]}), path)
    return [path]


def _text_list(folder):
    (folder / "list.txt").write_text("a.mp4\n# no\n../b.mp4\nfile:///c.mp4\n")
    (folder / "list.jsonl").write_text('{"uri": "a.mp4"}\n{"path": "b.mp4", "video_id": "b"}\n')
    with (folder / "list.csv").open("w") as file:
        csv.writer(file).writerows([["uri", "video_id"], ["a.mp4", "a"], ["b,c.mp4", '"']])
    return sorted(folder.glob("list.*"))


def _read_list(path):
    for _ in read_list(path.as_uri()):
        pass


def _frames(folder):
    path = folder / "frames.parquet"
    pq.write_table(linkable_table(), path, row_group_size=2)
    return [path]


def _read_frames(path):
    found = FramesTable.open(str(path))
    for name in found.video_ids:
        found.cuts(name)
        for _ in found.tables(name, None):
            pass


def _result_files(folder):
    root = Path(_results(folder))
    return sorted(root.rglob("*.parquet"))


def _read_results(path):
    found = Results(str(path.parents[1]))
    found.headers()
    found.labels()
    for _ in found.tracks():
        pass


READERS = {
    "truth": (_truth, _read_truth),
    "results_json": (_lines, _read_lines),
    "coco": (_coco, lambda path: list(CocoVideoFile(str(path)).tracks())),
    "sav": (_sav, lambda path: read_sav(str(path))),
    "runs": (_runs, _read_runs),
    "davis": (_davis, lambda path: list(read_davis(str(path.parents[1])))),
    "mots": (_mots, lambda path: list(read_mots(str(path.parent)))),
    "cvat": (_cvat, lambda path: read_cvat(str(path))),
    "lists": (_text_list, _read_list),
    "parquet_list": (_parquet_list, _read_list),
    "frames": (_frames, _read_frames),
    "results": (_result_files, _read_results),
}


def fuzz(name: str, folder: Path, *, seconds: float | None, seed: int = 11) -> int:
    """Spoils one file at a time and reads it; returns how many gave a reason."""
    make, read = READERS[name]
    files = make(folder)
    good = {path: path.read_bytes() for path in files}
    for path in files:
        read(path)
    rng = random.Random(seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    end = None if seconds is None else time.monotonic() + seconds
    number = refused = 0
    while number < QUICK_FILES if end is None else time.monotonic() < end:
        path = rng.choice(files)
        data = good[path]
        if path.suffix == ".parquet" and rng.random() < 0.6:
            data = spoiled_rows(data, rng)
        else:
            for _ in range(rng.choice([1, 1, 2])):
                data = spoiled(data, rng) if len(data) > 1 else data
        path.write_bytes(data)
        number += 1
        try:
            read(path)
        except StorageError:
            raise
        except ReelmaskError as error:
            refused += 1
            assert str(error), f"file {number}: no reason"
        except Exception as error:
            raise AssertionError(
                f"{name}, file {number} of seed {seed}: {traceback.format_exc()}\n{data[:3000]!r}"
            ) from error
        path.write_bytes(good[path])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    assert grown < MAX_GROWTH_BYTES, f"{name}: {grown >> 20} MiB more than good files take"
    return refused


@pytest.mark.parametrize("name", READERS)
def test_spoiled_files_are_read_or_refused_with_a_reason(name, tmp_path):
    """A few of each kind; `make chaos` has a minute for each."""
    refused = fuzz(name, tmp_path, seconds=None)
    assert refused > 0 or name in ("runs", "lists")


@pytest.mark.chaos
@pytest.mark.endless
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("name", READERS)
def test_a_minute_of_spoiled_files(name, tmp_path):
    """In a process of its own, whose memory has a limit: no crash, no hang, no flood."""
    words = [sys.executable, "-m", "tests.hostile.test_fuzz_formats", name, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*words, str(time.time_ns() % 100_000)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS + 100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]


def main(name: str, folder: str, seed: str) -> None:
    limit = 8 << 30
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    fuzz(name, Path(folder), seconds=SECONDS, seed=int(seed))


# --- what a mutation would take long to find ----------------------------------------------------

DEEP = "[" * 200_000
HUGE = "1" * 10_000


def _json_with(value: str, **keys: str) -> str:
    """A truth file with one text put in as it is."""
    content = truth_json(_videos())
    text = json.dumps(content)
    for old, new in keys.items():
        text = text.replace(old, new)
    return text.replace('"iscrowd": 0', f'"iscrowd": 0, "extra": {value}', 1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_json_with(DEEP), "nested too deeply"),
        (_json_with('{"a":' * 200_000), "nested too deeply"),
        (_json_with("0").replace('"height": 9', '"height": 1e400', 1), "a whole number"),
        (_json_with("0").replace('"height": 9', '"height": NaN', 1), "a whole number"),
        (_json_with("0").replace('"height": 9', f'"height": {HUGE}', 1), "not JSON as expected"),
        (_json_with("0").replace('"height": 9', '"height": 99999999', 1), "its size is"),
        (_json_with("0").replace('"id": 2,', '"id": 1,', 1), "same id"),
        (_json_with("0").replace('"name": "kind 2"', '"name": "kind 2"}, {"id": 2', 1), "same id"),
    ],
)
def test_depth_bombs_huge_numbers_and_ids_given_twice(tmp_path, text, says):
    """One reason each, and no stack of the interpreter is used up."""
    path = tmp_path / "truth.json"
    path.write_text(text)
    with pytest.raises(ReelmaskError, match=says):
        _read_truth(path)


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f'<!DOCTYPE a [<!ENTITY e0 "ha">{ENTITIES}]><annotations>&e11;</annotations>', "DOCTYPE"),
        (f'<!DOCTYPE a [<!ENTITY e "{"x" * 100_000}">]><a>{"&e;" * 1000}</a>', "DOCTYPE"),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd"><annotations/>', "DOCTYPE"),
        ('<?xml version="1.0"?><a>' + "<b>" * 100_000, "not XML"),
    ],
)
def test_entity_bombs_are_refused_unread(tmp_path, text, says):
    """A declaration is enough: CVAT writes none."""
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(ReelmaskError, match=says):
        read_cvat(str(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
