"""100,000 receipts through the driver: how many a second, and what memory they leave behind.

    python -m tests.bench.ray_receipts [--units 100000]

Everything of the Ray runner is real but three things: probing invents the videos, the actors
invent receipts instead of decoding, and videos that are complete are not linked. The driver is a
process of its own, which looks at its memory every percent of the way.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil
import pyarrow as pa

from cluster.profile import Profile
from pipelines import label
from pipelines.actor import RECEIPTS
from pipelines.units import unit_from_row
from pipelines.wave import Wave
from tests.support.fakes import FAKE, fake_video
from vis_core.job import Job, MemberSpec, make_job
from vis_core.progress import Silence
from vis_core.stages.run import Run
from vis_core.store.segments import Receipt, SegmentReceipt, receipt_to_json
from vis_core.types import VideoInfo
from vis_core.video.limits import Limits
from vis_core.video.sources import Source

NUM_UNITS = 100_000
UNITS_PER_VIDEO, UNIT_FRAMES = 10, 512


class ReceiptActor:
    """Answers every unit at once, as if it had been computed."""

    def __init__(self, job: Job, member: str, run_id: str, secrets: object) -> None:
        pass

    def __call__(self, row: pa.Table) -> pa.Table:
        unit = unit_from_row(row)
        segments = tuple(
            SegmentReceipt(
                key=key,
                part=unit.part,
                row_group=index,
                num_row_groups=1,
                num_rows=key.stop - key.start,
                digest=hashlib.sha256(str(key).encode()).hexdigest(),
            )
            for index, key in enumerate(unit.keys)
        )
        receipt = Receipt(member=unit.member, segments=segments, part=unit.part, part_bytes=1 << 20)
        answer = {"part": unit.part, "worker": "w", "seconds": 0.0}
        answer["receipt"] = receipt_to_json(receipt)
        return pa.Table.from_pylist([answer], schema=RECEIPTS)


class NoLinking:
    """In place of `Linking`: takes what is ready, and leaves it there."""

    def __init__(self, run: Run, profile: Profile) -> None:
        self._run = run

    def resize(self, profile: Profile) -> None:
        pass

    def start(self, *, everything: bool = False) -> None:
        for _ in self._run.ready(everything=everything):
            pass

    def collect(self, timeout: float | None = 0) -> None:
        pass

    def wait(self) -> None:
        pass


@contextlib.contextmanager
def _inventing(limits: Limits) -> Iterator[Callable[[Source], VideoInfo]]:
    yield _invent


def _invent(source: Source) -> VideoInfo:
    num_frames = UNITS_PER_VIDEO * UNIT_FRAMES
    return fake_video(
        source.video_id,
        num_frames,
        uri=source.uri,
        bytes=source.bytes,
        mtime_ns=source.mtime_ns,
        key_frames=np.arange(0, num_frames, UNIT_FRAMES // 2, dtype=np.int32),
    )


class _Watch(Silence):
    """Counts receipts and looks at this process now and then."""

    def __init__(self, num_units: int) -> None:
        self._every = max(1, num_units // 100)
        self._process = psutil.Process()
        self._predicting = False
        self.count = 0
        self.seen: list[tuple[int, float, int]] = []  # receipts, seconds, bytes

    def begin(self, stage: str, total: float, unit: str) -> None:
        self._predicting = stage == "predict"
        if self._predicting:
            self._look()

    def advance(self, amount: float) -> None:
        self.count += self._predicting
        if self._predicting and self.count % self._every == 0:
            self._look()

    def _look(self) -> None:
        bytes_now = self._process.memory_info().rss
        self.seen.append((self.count, time.perf_counter(), bytes_now))


def drive(root: Path, num_units: int) -> dict[str, Any]:
    """What the driver's process does; returns what it took."""
    clips = root / "clips"
    clips.mkdir()
    for number in range(-(-num_units // UNITS_PER_VIDEO)):
        (clips / f"clip_{number:06d}.mp4").touch()
    member = MemberSpec(system=FAKE)
    job = make_job(
        [str(clips)], str(root / "out"), [member], settings={"shard_frames": UNIT_FRAMES}
    )
    watch = _Watch(num_units)
    fakes = {
        "probing": _inventing,
        "Linking": NoLinking,
        "Wave": functools.partial(Wave, actor=ReceiptActor),
    }
    with mock.patch.multiple(label, **fakes):
        report = label.run_ray(job, watch)
    counts, seconds, rss = np.array(watch.seen).T
    assert report.num_units == watch.count == num_units, "a unit was not answered"
    late = counts >= 0.2 * counts[-1]
    return {
        "receipts": report.num_units,
        "receipts_per_second": round((counts[-1] - counts[1]) / (seconds[-1] - seconds[1]), 1),
        "predict_seconds": round(seconds[-1] - seconds[0], 1),
        "plan_seconds": round(report.plan_seconds, 1),
        "finish_seconds": round(report.finish_seconds, 1),
        "start_mb": round(rss[0] / 1e6, 1),
        "max_mb": round(rss.max() / 1e6, 1),
        "bytes_per_receipt": round(float(np.polyfit(counts[late], rss[late], 1)[0])),
    }


def measure(num_units: int = NUM_UNITS) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as root:
        words = ["--units", str(num_units), "--root", root]
        output = subprocess.run(
            [sys.executable, "-m", "tests.bench.ray_receipts", *words],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    found: dict[str, Any] = json.loads(output)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=NUM_UNITS)
    parser.add_argument("--root", type=Path)
    given = parser.parse_args()
    print(json.dumps(drive(given.root, given.units) if given.root else measure(given.units)))


if __name__ == "__main__":
    # Workers import this module by its name; here it would be `__main__`.
    from tests.bench.ray_receipts import main as main_by_name

    main_by_name()
