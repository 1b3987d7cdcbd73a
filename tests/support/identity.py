"""Who is who: tracks against the truth's objects, frame by frame."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vis_core.formats.model import TruthTracks, VideoTracks, make_tracks
from vis_core.masks import rle
from vis_core.types import FramePrediction

_LEAST_IOU = 0.5
_Masks = Sequence[tuple[int, bytes]]  # (position of the track, mask)


class Followed(NamedTuple):
    """Objects by what became of their ids from one stretch of frames to another."""

    same: int
    switched: int
    lost: int  # without a track in one of the stretches


# Frames before something, frames it happens in, frames after it.
Passage = tuple[Iterable[int], Iterable[int], Iterable[int]]


def followed(
    truth: VideoTracks,
    found: VideoTracks,
    passages: Iterable[Passage],
    frame_of_truth: Callable[[int], int] = lambda frame: frame,
) -> Followed:
    """Whether objects that show in all three parts of a passage have one id before and after.

    Whose id: over a stretch, not in a frame, where two tracks may lie on one object alike.
    `frame_of_truth` where a truth is repeated.
    """
    objects, tracks = _by_frame(truth), _by_frame(found)
    size = truth.video.size

    def shown(frames: Iterable[int]) -> set[int]:
        return {owner for frame in frames for owner, _ in objects[frame_of_truth(frame)]}

    def ids(frames: Iterable[int]) -> dict[int, int]:
        pairs = ((objects[frame_of_truth(frame)], tracks[frame]) for frame in frames)
        return _best_over(pairs, size)

    counts: collections.Counter[str] = collections.Counter()
    for before, during, after in passages:
        earlier, later = ids(before), ids(after)
        for owner in shown(before) & shown(during) & shown(after):
            if owner not in earlier or owner not in later:
                counts["lost"] += 1
            else:
                counts["same" if earlier[owner] == later[owner] else "switched"] += 1
    return Followed(counts["same"], counts["switched"], counts["lost"])


def _best_over(frames: Iterable[tuple[_Masks, _Masks]], size: rle.Size) -> dict[int, int]:
    """For each object the track with the largest mean IoU where the object shows, if by half."""
    num_frames: collections.Counter[int] = collections.Counter()
    sums: dict[int, collections.Counter[int]] = collections.defaultdict(collections.Counter)
    for objects, tracks in frames:
        num_frames.update(owner for owner, _ in objects)
        if not objects or not tracks:
            continue
        iou = rle.iou_matrix([mask for _, mask in objects], [mask for _, mask in tracks], size)
        for (owner, _), row in zip(objects, iou.tolist(), strict=True):
            for (track, _), value in zip(tracks, row, strict=True):
                sums[owner][track] += value
    best = {owner: max(of_tracks.items(), key=lambda x: x[1]) for owner, of_tracks in sums.items()}
    return {
        owner: track
        for owner, (track, total) in best.items()
        if total >= _LEAST_IOU * num_frames[owner]
    }


def true_tracks(truth: TruthTracks, rows: Iterable[FramePrediction]) -> VideoTracks:
    """One track per object, of the predicted masks that fit it best: what perfect linking gives.

    Labels and scores are means of what was predicted.
    """
    objects, size = _by_frame(truth.tracks), truth.tracks.video.size
    masks: list[bytes] = []
    owners: list[int] = []
    frames: list[int] = []
    scores: dict[int, list[np.ndarray]] = collections.defaultdict(list)
    for row in rows:
        matched = _matched(objects[row.frame_index], list(enumerate(row.masks)), size)
        for owner, instance in matched.items():
            masks.append(row.masks[instance])
            owners.append(owner)
            frames.append(row.frame_index)
            assert row.class_scores is not None
            scores[owner].append(row.class_scores[instance])
    kept = sorted(scores)
    means = [np.mean(scores[owner], axis=0) for owner in kept]
    return make_tracks(
        truth.tracks.video,
        track_ids=kept,
        labels=[int(mean.argmax()) + 1 for mean in means],
        scores=[float(mean.max()) for mean in means],
        owner=[kept.index(owner) for owner in owners],
        frame_index=frames,
        masks=masks,
    )


def _by_frame(tracks: VideoTracks) -> Mapping[int, _Masks]:
    """What shows in each frame."""
    found: dict[int, list[tuple[int, bytes]]] = collections.defaultdict(list)
    owners = tracks.owner.tolist()
    for owner, frame, mask in zip(owners, tracks.frame_index.tolist(), tracks.masks, strict=True):
        found[frame].append((owner, mask))
    return found


def _matched(objects: _Masks, found: _Masks, size: rle.Size) -> dict[int, int]:
    """For each object what overlaps it most, if by half; the best pairs first, one to one."""
    if not objects or not found:
        return {}
    iou = rle.iou_matrix([mask for _, mask in objects], [mask for _, mask in found], size)
    pairs: dict[int, int] = {}
    used: set[int] = set()
    for place in np.argsort(-iou, axis=None, kind="stable").tolist():
        row, column = divmod(place, iou.shape[1])
        if iou[row, column] < _LEAST_IOU:
            break
        owner = objects[row][0]
        if owner not in pairs and column not in used:
            pairs[owner] = found[column][0]
            used.add(column)
    return pairs
