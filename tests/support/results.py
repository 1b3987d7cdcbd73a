"""Runs the command line as a person does, and reads what it wrote as a person would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vis_core import schema

REELMASK = [sys.executable, "-m", "jobs.cli"]
KEYS = {
    "tracks": ["video_id", "track_id"],
    "masks": ["video_id", "track_id", "frame_index"],
    "frames": ["fingerprint", "member", "video_id", "window", "frame_index"],
}
REPO = Path(__file__).parents[2]


def command(*arguments, failpoints=None):
    """Argument list and environment of one call of the console script."""
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    environment.pop("REELMASK_FAILPOINTS", None)
    if failpoints:
        environment["REELMASK_FAILPOINTS"] = failpoints
    return [*REELMASK, *map(str, arguments)], environment


def reelmask(*arguments, failpoints=None, timeout=600):
    """Runs the console script to its end."""
    words, environment = command(*arguments, failpoints=failpoints)
    return subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def start(*arguments, failpoints=None):
    """Starts the console script."""
    words, environment = command(*arguments, failpoints=failpoints)
    return subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def table(out, name) -> pa.Table:
    """All rows of a result table, sorted by key."""
    tables = [pq.read_table(file) for file in sorted(Path(out, name).glob("*.parquet"))]
    rows = pa.concat_tables([t.replace_schema_metadata(None) for t in tables])
    return rows.sort_by([(key, "ascending") for key in KEYS[name]]) if name in KEYS else rows


def result_digest(out) -> str:
    """One hash over every byte of the rows of `tracks` and `masks`."""
    digests = []
    for name in ("tracks", "masks"):
        rows = table(out, name)
        keys = rows.group_by(KEYS[name]).aggregate([])
        assert len(keys) == len(rows), f"{name}: {len(rows)} rows, {len(keys)} keys"
        digests.append(schema.content_digest(rows)[:16])
    return "-".join(digests)


def run_record(out) -> dict:
    return json.loads(Path(out, "run.json").read_text())


def open_failures(out) -> list[dict]:
    return [row for row in table(out, "failures").to_pylist() if row["state"] == "open"]
