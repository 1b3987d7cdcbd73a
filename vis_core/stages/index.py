"""Inputs to the `videos` table: find, name and probe every video, once.

A video that has not changed (same bytes, same modification time) keeps its row and is not
opened again. One that cannot be used becomes a row with status "failed", never an exception.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from vis_core import schema
from vis_core.errors import ReelmaskError, SourceError
from vis_core.types import VideoInfo
from vis_core.video.sources import Source, expand_inputs, failed_video

Probe: TypeAlias = Callable[[Source], VideoInfo]
# One per thread: a probe may own a child process that answers one question at a time.
MakeProbe: TypeAlias = Callable[[], AbstractContextManager[Probe]]
Progress: TypeAlias = Callable[[int, int], None]  # videos done, videos to probe

_Result: TypeAlias = VideoInfo | BaseException | None  # None: a thread has ended

_ROWS_PER_BATCH = 1024


def index_videos(
    inputs: Sequence[str],
    known: pa.Table | None,
    *,
    make_probe: MakeProbe,
    ids: Mapping[str, str] | None = None,
    workers: int = 1,
    limit: int | None = None,
    progress: Progress | None = None,
) -> pa.Table:
    """The `videos` table of these inputs, sorted by video_id.

    `known` is the table of an earlier run: its ids hold, and its rows where nothing changed; `ids`
    are by uri, also of videos that are gone for now.
    Videos that are gone lose their row. `limit`: only the first videos, in order of id.
    """
    known = schema.VIDEOS.empty_table() if known is None else known
    uris = known["uri"].to_pylist()
    row_of = {uri: row for row, uri in enumerate(uris)}
    given = {**(ids or {}), **dict(zip(uris, known["video_id"].to_pylist(), strict=True))}
    sources = expand_inputs(inputs, given)
    sources = sorted([*sources, *_not_listed_now(sources, known)], key=lambda s: s.video_id)[:limit]
    kept = _unchanged(sources, known, row_of)
    stale = [source for source in sources if source.uri not in kept]
    tables = [known.take(pa.array(list(kept.values()), pa.int64())).select(schema.VIDEOS.names)]
    known_rows = {uri: row for uri, row in row_of.items() if known["num_frames"][row].as_py()}
    unreachable = {s.uri for s in stale if not (s.bytes or s.mtime_ns)} & known_rows.keys()
    for table in _probed(stale, make_probe, max(1, min(workers, len(stale))), progress):
        tables += _kept_if_unreachable(table, known, known_rows, unreachable)
    return pa.concat_tables(tables).sort_by("video_id")


def _not_listed_now(sources: Sequence[Source], known: pa.Table) -> Iterator[Source]:
    """Videos of earlier runs below a folder that cannot be listed: not gone, as far as we know."""
    unknown = [source for source in sources if source.kind in ("folder", "link")]
    folders = tuple(f"{source.uri.rstrip('/')}/" for source in unknown)
    if not folders:
        return
    listed = {source.uri for source in sources}
    columns = [known[name].to_pylist() for name in ("video_id", "uri", "bytes", "mtime_ns")]
    for video_id, uri, size, mtime_ns in zip(*columns, strict=True):
        if uri.startswith(folders) and uri not in listed:
            yield Source(video_id=video_id, uri=uri, kind="video", bytes=size, mtime_ns=mtime_ns)


def _kept_if_unreachable(
    probed: pa.Table, known: pa.Table, row_of: Mapping[str, int], unreachable: AbstractSet[str]
) -> Iterator[pa.Table]:
    """New rows; of a video that cannot even be looked at the old one, with the reason.

    Its status is "failed" until the run ends, and it has frames: what was found in them stays.
    """
    uris, status = probed["uri"].to_pylist(), probed["status"].to_pylist()
    lost = [u in unreachable and s == "failed" for u, s in zip(uris, status, strict=True)]
    yield probed.filter(pa.array([not one for one in lost], pa.bool_()))
    reasons = probed.filter(pa.array(lost, pa.bool_())).select(["uri", "status", "error"])
    if len(reasons):
        rows = pa.array([row_of[uri] for uri in reasons["uri"].to_pylist()], pa.int64())
        old = known.take(rows).select(schema.VIDEOS.names)
        for name in ("status", "error"):
            old = old.set_column(schema.VIDEOS.get_field_index(name), name, reasons[name])
        yield old


def _unchanged(
    sources: Sequence[Source], known: pa.Table, row_of: Mapping[str, int]
) -> dict[str, int]:
    """Row of each source that needs no new probe.

    A failure is tried again: its reason may have been the machine and not the file.
    """
    sizes = known["bytes"].to_numpy()
    times = known["mtime_ns"].to_numpy()
    usable = np.array([status != "failed" for status in known["status"].to_pylist()], bool)
    kept = {}
    for source in sources:
        row = row_of.get(source.uri)
        if row is None or not usable[row] or source.problem:
            continue
        if sizes[row] == source.bytes and times[row] == source.mtime_ns:
            kept[source.uri] = row
    return kept


def _probed(
    sources: Sequence[Source], make_probe: MakeProbe, workers: int, progress: Progress | None
) -> Iterator[pa.Table]:
    """Tables of new rows, a batch at a time, so that few rows exist as Python objects."""
    batch: list[VideoInfo] = []
    for done, video in enumerate(_probe_all(sources, make_probe, workers), 1):
        batch.append(video)
        if len(batch) == _ROWS_PER_BATCH:
            yield schema.videos_to_table(batch)
            batch = []
        if progress is not None:
            progress(done, len(sources))
    if batch:
        yield schema.videos_to_table(batch)


def _probe_all(
    sources: Sequence[Source], make_probe: MakeProbe, workers: int
) -> Iterator[VideoInfo]:
    """Rows in the order they are ready. A probe that cannot be made at all is an error."""
    pool = _ProbePool(sources, make_probe)
    for _ in range(workers if sources else 0):
        threading.Thread(target=pool.work, daemon=True).start()
    try:
        yield from pool.results(workers if sources else 0)
    finally:
        pool.stop.set()


class _ProbePool:
    """Threads that take sources and give rows; each owns one probe."""

    def __init__(self, sources: Sequence[Source], make_probe: MakeProbe) -> None:
        self.stop = threading.Event()
        self._todo = iter(sources)
        self._lock = threading.Lock()
        self._make_probe = make_probe
        # Bounded, so that threads wait for a slow consumer instead of filling memory.
        self._ready: queue.Queue[_Result] = queue.Queue(2 * _ROWS_PER_BATCH)

    def work(self) -> None:
        try:
            with self._make_probe() as probe:
                while (source := self._take()) is not None:
                    self._give(_probe_one(probe, source))
            self._give(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer
            self._give(error)

    def _take(self) -> Source | None:
        with self._lock:
            return None if self.stop.is_set() else next(self._todo, None)

    def _give(self, result: _Result) -> None:
        while not self.stop.is_set():  # a consumer that left must not keep this thread
            try:
                return self._ready.put(result, timeout=1.0)
            except queue.Full:
                continue

    def results(self, running: int) -> Iterator[VideoInfo]:
        while running:
            result = self._ready.get()
            if result is None:
                running -= 1
            elif isinstance(result, BaseException):
                raise result
            else:
                yield result


def _probe_one(probe: Probe, source: Source) -> VideoInfo:
    if source.problem:
        return failed_video(source, source.problem)
    try:
        return probe(source)
    except SourceError as error:
        return failed_video(source, str(error))
    except ReelmaskError:
        raise  # no decoder at all: the machine's fault, not the video's
    except Exception as error:  # noqa: BLE001 - one bad video never ends an index of millions
        return failed_video(source, f"{type(error).__name__}: {error}")
