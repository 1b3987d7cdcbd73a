"""Who is who: tracks against the truth's objects, frame by frame."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vis_core.formats.model import TruthTracks, VideoTracks, make_tracks
from vis_core.masks import rle
from vis_core.types import FramePrediction

_LEAST_IOU = 0.5


class Followed(NamedTuple):
    """Objects seen at both ends of a stretch, by what became of their ids."""

    same: int
    switched: int
    lost: int  # without a track at one end or at both


def followed(
    truth: VideoTracks,
    found: VideoTracks,
    stretches: Iterable[tuple[int, int]],
    frame_of_truth: Mapping[int, int] | None = None,
) -> Followed:
    """Whether an object has one id before and after; `frame_of_truth` where a truth is repeated."""
    objects, tracks = _by_frame(truth), _by_frame(found)
    size, same, switched, lost = truth.video.size, 0, 0, 0
    for stretch in stretches:
        ids: list[dict[int, int]] = []
        present: list[set[int]] = []
        for frame in stretch:
            there = frame if frame_of_truth is None else frame_of_truth[frame]
            mine, theirs = objects[there], tracks[frame]
            present.append({owner for owner, _ in mine})
            ids.append(_matched(mine, theirs, size))
        for owner in present[0] & present[1]:
            before, after = ids[0].get(owner), ids[1].get(owner)
            if before is None or after is None:
                lost += 1
            elif before == after:
                same += 1
            else:
                switched += 1
    return Followed(same, switched, lost)


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


def _by_frame(tracks: VideoTracks) -> Mapping[int, Sequence[tuple[int, bytes]]]:
    """(position of the track, mask) by frame."""
    found: dict[int, list[tuple[int, bytes]]] = collections.defaultdict(list)
    owners = tracks.owner.tolist()
    for owner, frame, mask in zip(owners, tracks.frame_index.tolist(), tracks.masks, strict=True):
        found[frame].append((owner, mask))
    return found


def _matched(
    objects: Sequence[tuple[int, bytes]], found: Sequence[tuple[int, bytes]], size: rle.Size
) -> dict[int, int]:
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
