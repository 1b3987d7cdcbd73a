"""The tracks of one video as columns: what every reader yields, every writer and metric takes.

N tracks, M masks sorted by (track, frame), E result lines. Masks are validated COCO run lengths of
the video's size and never empty: a frame in which a track has no pixel has no mask.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.columns import offsets_of
from vis_core.errors import UsageError
from vis_core.formats.untrusted import check_masks
from vis_core.masks import rle

MOST_FRAMES = 100_000_000  # of a video; at 25 a second, 46 days

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoHeader:
    """What is known of a video before any mask is read."""

    video_id: str
    height: int
    width: int
    num_frames: int

    @property
    def size(self) -> rle.Size:
        return self.height, self.width


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Entries:
    """The result lines of a video: a track may stand under several labels, or under none."""

    track: IntArray  # (E,) position of the track
    labels: IntArray  # (E,)
    scores: FloatArray  # (E,)

    def __len__(self) -> int:
        return len(self.track)

    def where(self, keep: BoolArray | IntArray) -> Entries:
        return Entries(track=self.track[keep], labels=self.labels[keep], scores=self.scores[keep])


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoTracks:
    """All tracks of one video."""

    video: VideoHeader
    track_ids: IntArray  # (N,)
    labels: IntArray  # (N,)
    scores: FloatArray  # (N,)
    offsets: IntArray  # (N + 1,): track i owns masks offsets[i]:offsets[i + 1]
    frame_index: IntArray  # (M,)
    masks: Sequence[bytes]  # (M,)
    areas: IntArray  # (M,) pixels, all above 0
    mask_scores: FloatArray  # (M,) NaN: the mask was carried, or the format has no such score
    entries: Entries
    members: tuple[str, ...]  # (N,) whose names the labels have; empty where nobody says

    def __len__(self) -> int:
        return len(self.track_ids)

    @property
    def owner(self) -> IntArray:
        """(M,) position of the track that each mask belongs to."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def of_track(self, position: int) -> slice:
        """Where a track's masks are."""
        return slice(int(self.offsets[position]), int(self.offsets[position + 1]))

    def __repr__(self) -> str:
        return f"VideoTracks({self.video.video_id!r}, {len(self)} tracks, {len(self.masks)} masks)"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TruthTracks:
    """The truth about one video: its tracks, and what only a truth says of them."""

    tracks: VideoTracks
    crowd: BoolArray  # (N,) ignored where missed, and may be matched several times
    mean_areas: FloatArray  # (N,) over the frames it is seen in; decides small, medium, large


def make_tracks(
    video: VideoHeader,
    *,
    track_ids: npt.ArrayLike,
    labels: npt.ArrayLike,
    scores: npt.ArrayLike,
    owner: npt.ArrayLike,
    frame_index: npt.ArrayLike,
    masks: Sequence[bytes],
    mask_scores: npt.ArrayLike | None = None,
    entries: Entries | None = None,
    members: tuple[str, ...] | None = None,
) -> VideoTracks:
    """Tracks from untrusted masks in any order; `owner` is the position of each mask's track.

    Without `entries` each track is one result line under its own label and score.
    """
    ids = np.asarray(track_ids, np.int64).reshape(-1)
    own_labels = np.asarray(labels, np.int64).reshape(-1)
    own_scores = np.asarray(scores, np.float64).reshape(-1)
    owners = np.asarray(owner, np.int64).reshape(-1)
    frames = np.asarray(frame_index, np.int64).reshape(-1)
    extra = np.full(len(frames), np.nan) if mask_scores is None else np.asarray(mask_scores, float)
    if entries is None:
        entries = Entries(track=np.arange(len(ids)), labels=own_labels, scores=own_scores)
    if not (np.isfinite(own_scores).all() and np.isfinite(entries.scores).all()):
        raise UsageError(f"video {video.video_id!r}: a score is no number")
    _check_frames(video, frames)
    checked, areas = _checked(masks, video, lambda i: f"track {ids[owners[i]]}, frame {frames[i]}")
    order = np.lexsort((frames, owners))
    order = order[areas[order] > 0]
    owners, frames = owners[order], frames[order]
    twice = np.flatnonzero((owners[1:] == owners[:-1]) & (frames[1:] == frames[:-1]))
    if len(twice):
        raise UsageError(
            f"video {video.video_id!r}: track {ids[owners[twice[0]]]} has two masks in frame"
            f" {frames[twice[0]]}; expected one"
        )
    return VideoTracks(
        video=video,
        track_ids=ids,
        labels=own_labels,
        scores=own_scores,
        offsets=offsets_of(np.bincount(owners, minlength=len(ids))),
        frame_index=frames,
        masks=[checked[i] for i in order.tolist()],
        areas=areas[order],
        mask_scores=extra[order],
        entries=entries,
        members=members or ("",) * len(ids),
    )


def no_tracks(video: VideoHeader) -> VideoTracks:
    """A video in which nothing was found."""
    return make_tracks(
        video, track_ids=[], labels=[], scores=[], owner=[], frame_index=[], masks=[]
    )


def _check_frames(video: VideoHeader, frames: IntArray) -> None:
    if not 0 <= video.num_frames <= MOST_FRAMES:
        raise UsageError(
            f"video {video.video_id!r} has {video.num_frames} frames, expected 0 to {MOST_FRAMES}"
        )
    outside = np.flatnonzero((frames < 0) | (frames >= video.num_frames))
    if len(outside):
        raise UsageError(
            f"video {video.video_id!r} has {video.num_frames} frames, but a mask is in frame"
            f" {frames[outside[0]]}; frames count from 0"
        )


def _checked(
    masks: Sequence[bytes], video: VideoHeader, names: Callable[[int], str]
) -> tuple[list[bytes], IntArray]:
    try:
        return check_masks(masks, video.size)
    except ValueError as error:
        for index, mask in enumerate(masks):
            try:
                check_masks([mask], video.size)
            except ValueError as its_own:
                reason = str(its_own).removeprefix("mask 0: ")
                message = f"video {video.video_id!r}, {names(index)}: {reason}"
                raise UsageError(message) from its_own
        raise UsageError(f"video {video.video_id!r}: {error}") from error


def select_tracks(tracks: VideoTracks, keep: BoolArray) -> VideoTracks:
    """The chosen tracks with their masks and lines; the others are as if never there."""
    mine = keep[tracks.owner] if len(tracks.masks) else np.zeros(0, bool)
    lines = tracks.entries.where(keep[tracks.entries.track])
    renumbered = np.cumsum(keep) - 1
    return dataclasses.replace(
        tracks,
        track_ids=tracks.track_ids[keep],
        labels=tracks.labels[keep],
        scores=tracks.scores[keep],
        entries=dataclasses.replace(lines, track=renumbered[lines.track]),
        members=tuple(name for name, kept in zip(tracks.members, keep, strict=True) if kept),
        **_masks_where(tracks, mine, np.diff(tracks.offsets)[keep]),
    )


def only_frames(tracks: VideoTracks, frames: IntArray) -> VideoTracks:
    """The video as if it had only these frames, numbered anew; a track may be left without any."""
    mine = np.isin(tracks.frame_index, frames)
    lengths = np.bincount(tracks.owner[mine], minlength=len(tracks))
    shorter = dataclasses.replace(tracks, **_masks_where(tracks, mine, lengths))
    return dataclasses.replace(
        shorter,
        video=dataclasses.replace(tracks.video, num_frames=len(frames)),
        frame_index=np.searchsorted(frames, shorter.frame_index),
    )


def _masks_where(tracks: VideoTracks, mine: BoolArray, lengths: IntArray) -> dict[str, Any]:
    return {
        "offsets": offsets_of(lengths),
        "frame_index": tracks.frame_index[mine],
        "masks": [tracks.masks[i] for i in np.flatnonzero(mine).tolist()],
        "areas": tracks.areas[mine],
        "mask_scores": tracks.mask_scores[mine],
    }


def one_line_each(tracks: VideoTracks) -> VideoTracks:
    """Each track once, with the label and score of its best line (of equals the first).

    For formats and metrics in which an object is one thing. Tracks without a line go.
    """
    lines = tracks.entries
    order = np.lexsort((np.arange(len(lines)), -lines.scores, lines.track))
    _, first = np.unique(lines.track[order], return_index=True)
    best = order[first]
    keep = np.zeros(len(tracks), bool)
    keep[lines.track[best]] = True
    labels, scores = tracks.labels.copy(), tracks.scores.copy()
    labels[lines.track[best]] = lines.labels[best]
    scores[lines.track[best]] = lines.scores[best]
    single = Entries(track=lines.track[best], labels=lines.labels[best], scores=lines.scores[best])
    return select_tracks(
        dataclasses.replace(tracks, labels=labels, scores=scores, entries=single), keep
    )


def boxes_xywh(tracks: VideoTracks) -> npt.NDArray[np.float32]:
    """(M, 4) x, y, width, height of each mask, as COCO's formats write boxes."""
    boxes = rle.boxes(tracks.masks, tracks.video.size)
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
