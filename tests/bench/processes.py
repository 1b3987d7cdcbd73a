"""Labels with the test program and watches all of its processes: CPU, memory, the trace.

Reads /proc itself: a sample of a hundred processes takes 2 ms, so ten a second disturb nothing.
"""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.support.results import REPO, result_digest, table
from vis_core.schema import content_digest

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_EVERY_SECONDS = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """One unit or link in a trace."""

    lane: str
    start: float  # unix seconds, like `stop`
    stop: float
    frames: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Steady:
    """From the last worker's first receipt to the first idle worker."""

    start: float
    stop: float
    frames: float

    @property
    def seconds(self) -> float:
        return self.stop - self.start

    @property
    def fps(self) -> float:
        return self.frames / self.seconds


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """What every process of a program has used when it was looked at."""

    at: float  # unix seconds
    cpu: dict[tuple[int, int], float]  # seconds by process: its id, and when it was started
    driver_bytes: int  # resident


@dataclasses.dataclass(frozen=True, kw_only=True)
class Observed:
    """A run that has ended."""

    report: dict[str, Any]
    begun: float  # unix seconds: the session was there, the index had not begun
    spans: list[Span]
    samples: list[Sample]
    driver: tuple[int, int]

    @property
    def steady(self) -> Steady:
        return steady([span for span in self.spans if span.lane != "link"])

    def cpu_seconds(self, window: Steady, *, driver_only: bool = False) -> float:
        """CPU time within the window: of all processes, or of the one that runs the loop."""
        first, last = (self._cpu_at(at, driver_only) for at in (window.start, window.stop))
        return last - first

    def _cpu_at(self, at: float, driver_only: bool) -> float:
        """Between the samples before and after."""
        times = [sample.at for sample in self.samples]
        index = min(max(1, bisect.bisect(times, at)), len(times) - 1)
        (t0, c0), (t1, c1) = (
            (times[i], self._cpu_until(i, driver_only)) for i in (index - 1, index)
        )
        return c0 + (c1 - c0) * (at - t0) / (t1 - t0)

    def _cpu_until(self, index: int, driver_only: bool) -> float:
        """A process that has ended stays at what was last seen of it."""
        used: dict[tuple[int, int], float] = {}
        for sample in self.samples[: index + 1]:
            used |= sample.cpu
        return used[self.driver] if driver_only else sum(used.values())


def label(
    clips: Path,
    out: Path,
    *words: object,
    look: Callable[[list[int]], None] = lambda processes: None,
) -> Observed:
    """Runs the test program to its end; `look` sees its processes about once a second."""
    with tempfile.TemporaryDirectory() as scratch:
        trace, errors = Path(scratch, "trace.json"), Path(scratch, "errors.txt")
        command = [sys.executable, "-m", "tests.support.program", clips, out, *words]
        with errors.open("w") as complaints:
            process = subprocess.Popen(
                [*map(str, command), "--set", f"trace={trace}"],
                env={**os.environ, "PYTHONPATH": str(REPO)},
                cwd=REPO,
                text=True,
                stdout=subprocess.PIPE,
                stderr=complaints,
                start_new_session=True,  # a share of the CPUs of its own, as Ray's workers have
            )
        try:
            samples = _samples(process, look)
            output, _ = process.communicate()
        except BaseException:
            _end(process)
            raise
        if process.returncode != 0:
            raise SystemExit(f"the run ended with {process.returncode}: {errors.read_text()}")
        begun, spans = read_trace(trace)
        return Observed(
            report=json.loads(output.splitlines()[-1]),  # Ray may have had warnings to print
            begun=begun,
            spans=spans,
            samples=samples,
            driver=next(iter(samples[0].cpu)),
        )


def _samples(process: subprocess.Popen[str], look: Callable[[list[int]], None]) -> list[Sample]:
    samples, next_look = [], 0.0
    while process.poll() is None:
        started = time.monotonic()
        found = _tree(process.pid)
        if process.pid not in found:  # it ended between the two
            break
        driver_bytes = found[process.pid][2]
        cpu = {(pid, since): seconds for pid, (since, seconds, _) in found.items()}
        samples.append(Sample(at=time.time(), cpu=cpu, driver_bytes=driver_bytes))
        if started >= next_look:
            next_look = started + 1.0
            look(list(found))
        time.sleep(max(0.0, _EVERY_SECONDS - (time.monotonic() - started)))
    return samples


def _tree(root: int) -> dict[int, tuple[int, float, int]]:
    """Start time, CPU seconds and resident bytes of a process and all below it; it comes first."""
    seen, children = {}, {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - ten times a second
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
                # Fields after the name, which may hold spaces: state, parent, ...
                fields = file.read().rpartition(")")[2].split()
                ticks = int(fields[11]) + int(fields[12])
                pid, parent = int(name), int(fields[1])
                seen[pid] = (int(fields[19]), ticks / _TICKS, int(fields[21]) * _PAGE)
                children.setdefault(parent, []).append(pid)
    found, rest = {}, [root]
    while rest:
        pid = rest.pop()
        if pid in seen:
            found[pid] = seen[pid]
            rest += children.get(pid, [])
    return found


def _end(process: subprocess.Popen[str]) -> None:
    """Ends the program and whatever it started."""
    for pid in reversed(_tree(process.pid)):
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).kill()
    process.communicate()


def pss_bytes(processes: Sequence[int]) -> int:
    """Memory of these processes together, shared pages counted once."""
    total = 0
    for pid in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
            total += psutil.Process(pid).memory_full_info().pss
    return total


def read_trace(path: Path) -> tuple[float, list[Span]]:
    """When a run began and what it did then; the format leaves the last bracket out."""
    rows = json.loads(path.read_text().rstrip().rstrip(",") + "]")
    begun = next(row["args"]["unix_seconds"] for row in rows if row["name"] == "start")
    lanes = {row["tid"]: row["args"]["name"] for row in rows if row["ph"] == "M"}
    return begun, [
        Span(
            lane=lanes[row["tid"]],
            start=begun + row["ts"] / 1e6,
            stop=begun + (row["ts"] + row["dur"]) / 1e6,
            frames=row["args"].get("frames", 0),
        )
        for row in rows
        if row["ph"] == "X"
    ]


def steady(spans: Sequence[Span]) -> Steady:
    """The window in which all workers are busy; of spans across its ends, the part inside."""
    lanes = {span.lane for span in spans}
    ends = [[span.stop for span in spans if span.lane == lane] for lane in lanes]
    start, stop = max(map(min, ends)), min(map(max, ends))
    if stop <= start:
        raise SystemExit("the run is too short: one worker was idle before another had begun")
    frames = 0.0
    for span in spans:
        inside = min(span.stop, stop) - max(span.start, start)
        if inside > 0:
            frames += span.frames * inside / (span.stop - span.start)
    return Steady(start=start, stop=stop, frames=frames)


def ratio(mine: Iterable[float], others: Iterable[float]) -> dict[str, Any]:
    """Median and range over the pairs of an interleaved measurement."""
    found = sorted(a / b for a, b in zip(mine, others, strict=True))
    return {
        "ratio": round(statistics.median(found), 3),
        "ratio_range": [round(found[0], 3), round(found[-1], 3)],
    }


def outcome(out: Path) -> tuple[str, str]:
    """Hashes of all rows: of `frames`, and of `tracks` and `masks`."""
    return content_digest(table(out, "frames")), result_digest(out)
