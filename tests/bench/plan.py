"""Planning over a million invented videos: from files on disk to the first wave of units.

    python -m tests.bench.plan [--videos 1000000]

Half of the videos are committed already, in one segment each or (every tenth) in two with a gap.
The plan runs in a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.fakes import fake_job
from vis_core import schema
from vis_core.stages.plan import plan_job
from vis_core.store.manifest import SEGMENTS
from vis_core.store.store import VIDEOS, open_store

WAVE = 20_000


def invent(root: Path, num_videos: int) -> None:
    """Writes a videos table and a snapshot of the manifest, as columns."""
    rng = np.random.default_rng(0)
    frames = rng.integers(24, 3000, num_videos).astype(np.int32)
    names = pa.array([f"archive/{i // 1000:04d}/clip_{i:07d}" for i in range(num_videos)])
    versions = pa.array([f"{i * 7919}-{i:016x}" for i in range(num_videos)])
    gops = -(-frames // 250)
    keys = np.concatenate([np.arange(0, n, 250, dtype=np.int32) for n in frames.tolist()])
    known = {
        "video_id": names,
        "uri": pa.array([f"s3://bucket/archive/clip_{i:07d}.mp4" for i in range(num_videos)]),
        "version": versions,
        "bytes": frames.astype(np.int64) * 9000,
        "num_frames": frames,
        "fps": np.full(num_videos, 25.0),
        "duration_seconds": frames / 25,
        "key_frames": pa.ListArray.from_arrays(
            pa.array(np.concatenate([[0], np.cumsum(gops)]).astype(np.int32)), pa.array(keys)
        ),
        "time_base": pa.array([[1, 12800]] * num_videos, pa.list_(pa.int64())),
        "status": pa.repeat("ok", num_videos),
        "sequential": pa.repeat(False, num_videos),
    }
    columns = [
        pa.array(known[f.name]).cast(f.type) if f.name in known else pa.nulls(num_videos, f.type)
        for f in schema.VIDEOS
    ]
    (root / "videos").mkdir(parents=True)
    pq.write_table(pa.table(columns, schema=schema.VIDEOS), root / VIDEOS, compression="zstd")
    _invent_manifest(root, names, versions, frames)


def _invent_manifest(root: Path, names: pa.Array, versions: pa.Array, frames: np.ndarray) -> None:
    done = np.arange(0, len(frames), 2)
    split = done[::10]
    video = np.concatenate([done, split])
    stop = np.concatenate([frames[done], frames[split]])
    stop[: len(done)][::10] = frames[split] // 3
    start = np.concatenate([np.zeros(len(done), np.int32), frames[split] * 2 // 3])
    member = fake_job(root).members[0]
    rows = len(video)
    known = {
        "fingerprint": pa.repeat(member.fingerprint, rows),
        "video_id": names.take(pa.array(video)),
        "version": versions.take(pa.array(video)),
        "window": np.zeros(rows, np.int32),
        "start": start,
        "stop": stop,
        "member": pa.repeat(member.name, rows),
        "part": pa.array([f"part-{i // 4:032x}.parquet" for i in range(rows)]),
        "part_bytes": np.full(rows, 1 << 20),
        "digest": pa.array([f"{i:064x}" for i in range(rows)]),
        "num_rows": stop - start,
    }
    columns = [
        pa.array(known[f.name]).cast(f.type) if f.name in known else pa.nulls(rows, f.type)
        for f in SEGMENTS
    ]
    (root / "manifest" / "segments").mkdir(parents=True)
    pq.write_table(
        pa.table(columns, schema=SEGMENTS), root / "manifest" / "segments" / "snapshot-x.parquet"
    )


def plan(root: Path) -> dict[str, float]:
    """The part a driver does; returns what it took."""
    started = time.perf_counter()
    job = fake_job(root, shard_frames=512)
    store = open_store(str(root))
    videos = store.videos()
    work = plan_job(job, store, videos)
    planned = time.perf_counter()
    wave = list(itertools.islice(work.units(job), WAVE))
    done = time.perf_counter()
    return {
        "videos": len(videos),
        "pieces": len(work.pieces),
        "units": work.num_units,
        "frames": work.num_frames,
        "first_wave_units": len(wave),
        "seconds_to_plan": round(planned - started, 2),
        "seconds_to_first_wave": round(done - started, 2),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def measure(num_videos: int) -> dict[str, float]:
    """Invents the archive here and plans over it in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "out"
        invent(root, num_videos)
        words = [sys.executable, "-m", "tests.bench.plan", "--root", str(root)]
        output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(output)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--root", type=Path)
    arguments = parser.parse_args()
    found = plan(arguments.root) if arguments.root else measure(arguments.videos)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
