"""What is left to predict: frames of every video minus committed ones, cut and packed into units.

All of it works on arrays over all videos at once: a plan over a million videos is made in seconds,
without a Python object per video. Positions are (video, frame) pairs folded into one int64, so
that one sorted array holds the frames of all videos.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vis_core import schema
from vis_core.video.sampling import Sampling, sampled_frames
from vis_core.windows import WindowSpec, window_ranges

SPAN = np.int64(1) << 32  # above any number of frames
MAX_SEGMENTS_PER_UNIT = 64
_VIDEOS_PER_BATCH = 512

Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """Frame ranges of videos, by row of the videos table; all arrays have one length."""

    video: Ints
    start: Ints
    stop: Ints
    window: Ints

    def __len__(self) -> int:
        return len(self.video)

    def take(self, where: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> Pieces:
        return Pieces(
            video=self.video[where],
            start=self.start[where],
            stop=self.stop[where],
            window=self.window[where],
        )

    def ordered(self) -> Pieces:
        return self.take(np.lexsort((self.start, self.window, self.video)))


def concat(parts: list[Pieces]) -> Pieces:
    """All pieces of several lists."""
    return Pieces(
        **{
            name: np.concatenate([getattr(part, name) for part in parts] or [np.zeros(0, np.int64)])
            for name in ("video", "start", "stop", "window")
        }
    )


class VideoColumns:
    """The columns of the videos table that planning needs, as arrays."""

    def __init__(self, videos: pa.Table) -> None:
        self.video_id = videos["video_id"].combine_chunks()
        self.version = videos["version"].combine_chunks()
        self.num_frames: Ints = _ints(videos["num_frames"])
        self.fps = videos["fps"].to_numpy(zero_copy_only=False)
        self.sequential = videos["sequential"].to_numpy(zero_copy_only=False).astype(bool)
        self.usable = self.num_frames > 0  # the index gives no frames to what it cannot read
        keys = videos["key_frames"].combine_chunks()
        lengths = np.asarray(pc.fill_null(pc.list_value_length(keys), 0), np.int64)
        owners = np.repeat(np.arange(len(videos), dtype=np.int64), lengths)
        self.key_positions: Ints = owners * SPAN + np.asarray(keys.flatten(), np.int64)

    def __len__(self) -> int:
        return len(self.num_frames)

    def locate(self, rows: pa.Table) -> Ints:
        """For each row with video_id and version, its video here; -1 if there is none."""
        found = pc.index_in(rows["video_id"].combine_chunks(), value_set=self.video_id)
        index = np.asarray(pc.fill_null(found, -1), np.int64)
        known = np.flatnonzero(index >= 0)
        same = pc.equal(
            self.version.take(pa.array(index[known])),
            rows["version"].combine_chunks().take(pa.array(known)),
        )
        index[known[~np.asarray(same, bool)]] = -1
        return index


def plan_pieces(
    columns: VideoColumns,
    videos: pa.Table,
    committed: pa.Table,
    *,
    spec: WindowSpec,
    sampling: Sampling,
    shard_frames: int,
) -> Pieces:
    """Every piece of the member's videos that is neither committed nor given up on.

    `committed` holds rows with KEY columns of this member's fingerprint only.
    """
    index = columns.locate(committed)
    done = Pieces(
        video=index,
        start=_ints(committed["start"]),
        stop=_ints(committed["stop"]),
        window=_ints(committed["window"]),
    ).take(index >= 0)
    if spec.whole_windows:
        return _without(_windows(columns, videos, spec, sampling), done)
    gaps = _gaps(columns, done)
    step = _source_frames_per_sample(columns, sampling)
    return _cut(columns, gaps, np.clip(np.rint(shard_frames * step), 1, SPAN // 2).astype(np.int64))


def pack(
    pieces: Pieces, weights: npt.NDArray[np.floating], alone: npt.NDArray[np.bool_], size: int
) -> Ints:
    """The unit of each piece: neighbours share one, up to `size` frames; `alone` never do."""
    units = np.zeros(len(pieces), np.int64)
    unit, frames, count = -1, float("inf"), 0
    previous_alone = False
    for position, (weight, single) in enumerate(zip(weights.tolist(), alone.tolist(), strict=True)):
        full = frames + weight > size or count >= MAX_SEGMENTS_PER_UNIT
        if full or single or previous_alone:
            unit, frames, count = unit + 1, 0.0, 0
        units[position] = unit
        frames, count, previous_alone = frames + weight, count + 1, single
    return units


def sampled_counts(
    columns: VideoColumns, pieces: Pieces, sampling: Sampling
) -> npt.NDArray[np.float64]:
    """About how many frames of each piece the run looks at."""
    step = _source_frames_per_sample(columns, sampling)[pieces.video]
    return np.asarray((pieces.stop - pieces.start) / step, np.float64)


def owned_rows(
    columns: VideoColumns, videos: pa.Table, spec: WindowSpec, sampling: Sampling
) -> Ints:
    """Per video, how many rows a member has if nothing is lost; windows that overlap share none."""
    if not spec.whole_windows and sampling.fps is None:
        return -(-columns.num_frames // sampling.every)
    counts = np.zeros(len(columns), np.int64)
    for video, frames in _sampled(columns, videos, sampling):
        counts[video] = sum(stop - start for start, stop in window_ranges(len(frames), spec))
    return counts


def _sampled(
    columns: VideoColumns, videos: pa.Table, sampling: Sampling
) -> Iterator[tuple[int, npt.NDArray[np.integer]]]:
    """Every usable video with the frames the run looks at."""
    usable = np.flatnonzero(columns.usable)
    if sampling.fps is None:
        for video in usable.tolist():
            yield video, np.arange(0, int(columns.num_frames[video]), sampling.every)
        return
    for start in range(0, len(usable), _VIDEOS_PER_BATCH):
        batch = usable[start : start + _VIDEOS_PER_BATCH]
        infos = schema.table_to_videos(videos.take(pa.array(batch)))
        for video, info in zip(batch.tolist(), infos, strict=True):
            yield video, sampled_frames(info, sampling)


def _ints(column: pa.ChunkedArray) -> Ints:
    return np.asarray(column.to_numpy(zero_copy_only=False), np.int64)


def _source_frames_per_sample(columns: VideoColumns, sampling: Sampling) -> npt.NDArray[np.float64]:
    if sampling.fps is None:
        return np.full(len(columns), float(sampling.every))
    return np.maximum(1.0, np.nan_to_num(columns.fps, nan=1.0) / sampling.fps)


def _gaps(columns: VideoColumns, done: Pieces) -> Pieces:
    """Interval subtraction over all videos at once: [0, num_frames) minus the done ranges."""
    usable = np.flatnonzero(columns.usable)
    # A closing mark per video, a zero-length range at its end, makes the last gap like the others.
    video = np.concatenate([done.video, usable])
    start = np.concatenate([done.start, columns.num_frames[usable]])
    stop = np.concatenate([done.stop, columns.num_frames[usable]])
    order = np.lexsort((stop, start, video))
    video, start, stop = video[order], start[order], stop[order]
    reached = np.maximum.accumulate(video * SPAN + stop) if len(video) else video
    before = np.concatenate([[np.int64(-1)], reached[:-1]])
    gap_start = np.maximum(before - video * SPAN, 0)  # another video's reach is below zero
    gap_stop = np.minimum(start, columns.num_frames[video])
    open_gaps = (gap_stop > gap_start) & columns.usable[video]
    return Pieces(
        video=video, start=gap_start, stop=gap_stop, window=np.zeros(len(video), np.int64)
    ).take(open_gaps)


def _cut(columns: VideoColumns, gaps: Pieces, size: Ints) -> Pieces:
    """Pieces of at most `size` frames, ending at the last key frame of their second half.

    Without a key frame there, the cut is at `size`. Sequential videos stay whole.
    """
    finished: list[Pieces] = []
    left = gaps
    while len(left):
        limit = np.where(columns.sequential[left.video], SPAN, size[left.video])
        last = left.stop - left.start <= limit
        finished.append(left.take(last))
        left, limit = left.take(~last), limit[~last]
        position = left.video * SPAN + left.start
        at = np.searchsorted(columns.key_positions, position + limit, side="right") - 1
        key = columns.key_positions[np.maximum(at, 0)] if len(columns.key_positions) else position
        at_key = (at >= 0) & (key > position + limit // 2)
        border = np.where(at_key, key - left.video * SPAN, left.start + limit)
        finished.append(dataclasses.replace(left, stop=border))
        left = dataclasses.replace(left, start=border)
    return concat(finished).ordered()


def _windows(
    columns: VideoColumns, videos: pa.Table, spec: WindowSpec, sampling: Sampling
) -> Pieces:
    """The whole windows of every usable video, in source frames."""
    rows: list[tuple[int, int, int, int]] = []
    for video, frames in _sampled(columns, videos, sampling):
        count = int(columns.num_frames[video])
        for number, (start, stop) in enumerate(window_ranges(len(frames), spec)):
            last = count if stop == len(frames) else int(frames[stop])
            rows.append((video, 0 if number == 0 else int(frames[start]), last, number))
    table = np.asarray(rows, np.int64).reshape(-1, 4)
    return Pieces(video=table[:, 0], start=table[:, 1], stop=table[:, 2], window=table[:, 3])


def _without(wanted: Pieces, done: Pieces) -> Pieces:
    """Windows are computed whole: one that is not committed as such is computed again."""
    names = ["video", "start", "stop", "window"]
    left = pa.table({name: getattr(wanted, name) for name in names})
    right = pa.table({name: getattr(done, name) for name in names})
    rest = left.join(right, keys=names, join_type="left anti")
    return Pieces(**{name: _ints(rest[name]) for name in names}).ordered()
