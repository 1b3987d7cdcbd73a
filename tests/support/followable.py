"""Which objects each linker's rules can follow if its front end makes no mistake, and why not all.

A predicate looks at the truth, and at what the front end says about it. It gives for each object
the frames that its track must have, or the name of the rule that keeps the linker from following.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from tests.support.on_truth import Rows, key_frames, objects_of_masks
from vis_core.association import idol
from vis_core.association.warp import warp_crops
from vis_core.flow.field import FlowReader
from vis_core.formats.model import TruthTracks
from vis_core.masks import rle
from vis_core.systems.flow_match.config import FlowMatchLinkConfig
from vis_core.systems.idol import IdolLinkConfig
from vis_core.systems.instance_flow import InstanceFlowLinkConfig

Frames = list[int]
Verdict = dict[int, Frames | str]  # by object: its track's frames, or the rule

IN_PIECES = "its mask, moved by the flow, is not half of the next one"
NO_SLIVER = "more than a sliver of it is lost that way where it enters or leaves"
UNDER_ANOTHER = "its mask, moved by the flow, lies on another's"
AWAY_TOO_LONG = "away for longer than the memory"
TAKEN_FOR_ANOTHER = "came in and was taken for one that was gone"
TRACK_TAKEN = "its track went to one that came in when it was gone"
NO_KEY_FRAME = "seen in no key frame"

RULES = (
    *(IN_PIECES, NO_SLIVER, UNDER_ANOTHER, AWAY_TOO_LONG),
    *(TAKEN_FOR_ANOTHER, TRACK_TAKEN, NO_KEY_FRAME),
)

NUM_KEYS = 3  # so few that some objects are in none
_SLIVER = 0.2  # of an object's pixels, over all of its frames


def frames_of(truth: TruthTracks) -> list[Frames]:
    """Of each object, the frames it is seen in."""
    tracks = truth.tracks
    return [tracks.frame_index[tracks.of_track(k)].tolist() for k in range(len(tracks))]


def _objects(rows: Rows, truth: TruthTracks) -> Iterator[tuple[int, list[int]]]:
    """Number of each row, and which object each of its instances is."""
    object_of = objects_of_masks(truth)
    for number, row in enumerate(rows):
        yield number, [object_of[row.frame_index, mask] for mask in row.masks]


def by_propose_reduce(rows: Rows, truth: TruthTracks) -> Verdict:
    """An object must be seen in a key frame, or nothing proposes it."""
    keys = key_frames(truth.tracks.video.num_frames, NUM_KEYS)
    return {
        k: frames if set(keys) & set(frames) else NO_KEY_FRAME
        for k, frames in enumerate(frames_of(truth))
    }


def by_instance_flow(rows: Rows, truth: TruthTracks) -> Verdict:
    """Each time an object is seen, it must be known from the first row or one of the last three."""
    memory = InstanceFlowLinkConfig().references
    return {
        k: frames if frames[0] == 0 or np.diff(frames).max(initial=1) <= memory else AWAY_TOO_LONG
        for k, frames in enumerate(frames_of(truth))
    }


def by_idol(rows: Rows, truth: TruthTracks) -> Verdict:
    """No absence may outlast the memory, and nobody may come in as the best that a track has left.

    Bi-softmax knows no stranger: a newcomer and a track whose object is gone may each be the best
    that the other can choose, however different they look.
    """
    config = IdolLinkConfig()
    verdict: Verdict = dict(enumerate(frames_of(truth)))
    looks: dict[int, np.ndarray] = {}  # of each remembered track, by the object it follows
    last_row: dict[int, int] = {}
    num_seen: collections.Counter[int] = collections.Counter()
    for number, objects in _objects(rows, truth):
        embeddings = _embeddings(rows, number)
        looks = {k: v for k, v in looks.items() if number - last_row[k] <= config.forget}
        tracks = list(looks)
        if tracks and objects:
            alike = idol.similarity(embeddings, np.stack([looks[k] for k in tracks]))
            worth = np.where(alike > config.match, alike * [num_seen[k] for k in tracks], 0)
            for i, j in enumerate(worth.argmax(axis=1).tolist()):
                if worth[i, j] and objects[i] != tracks[j]:
                    verdict[objects[i]], verdict[tracks[j]] = TAKEN_FOR_ANOTHER, TRACK_TAKEN
                    looks.pop(tracks[j], None)
        for k, embedding in zip(objects, embeddings, strict=True):
            if k in last_row and k not in tracks and not isinstance(verdict[k], str):
                verdict[k] = AWAY_TOO_LONG
            looks[k], last_row[k] = embedding, number
        num_seen.update(objects)
    return verdict


def by_minvis(rows: Rows, truth: TruthTracks) -> Verdict:
    """Nobody may come in while a track waits: every query is matched, whatever it looks like."""
    verdict: Verdict = dict(enumerate(frames_of(truth)))
    looks: dict[int, np.ndarray] = {}  # of each track, by the object it follows
    for number, objects in _objects(rows, truth):
        here = dict(zip(objects, _embeddings(rows, number), strict=True))
        waiting = [k for k in looks if k not in here]
        strangers = [k for k in here if k not in looks]
        cosines = np.array([[_cosine(looks[a], here[b]) for b in strangers] for a in waiting])
        if cosines.size:
            for i, j in zip(*linear_sum_assignment(-cosines), strict=True):
                verdict[strangers[j]], verdict[waiting[i]] = TAKEN_FOR_ANOTHER, TRACK_TAKEN
                del looks[waiting[i]]
        looks |= here
    return verdict


def _embeddings(rows: Rows, number: int) -> np.ndarray:
    embeddings = rows[number].embeddings
    assert embeddings is not None
    return embeddings.astype(np.float64)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def by_flow_match(rows: Rows, truth: TruthTracks) -> Verdict:
    """Each mask, moved by the flow, must be more than half of the next one, and of no other's.

    Where that fails an object falls into stretches. If one alone is long enough for a track, that
    is the object's track, and the others are slivers at its border.
    """
    config = FlowMatchLinkConfig()
    verdict: Verdict = {}
    met: set[int] = set()
    for k in range(len(truth.tracks)):
        stretches, others = _stretches(rows, truth, k, config)
        met |= others
        long = [frames for frames in stretches if frames[-1] - frames[0] + 1 >= config.min_len]
        if len(long) != 1:
            verdict[k] = IN_PIECES
        elif _share_outside(truth, k, long[0]) >= _SLIVER:
            verdict[k] = NO_SLIVER
        else:
            verdict[k] = long[0]
    return verdict | dict.fromkeys(met, UNDER_ANOTHER)


def _stretches(
    rows: Rows, truth: TruthTracks, k: int, config: FlowMatchLinkConfig
) -> tuple[list[Frames], set[int]]:
    """The tracks of an object if nothing disturbs them; and who would disturb: itself and others.

    A moved mask disturbs where it is half of another's, or a second one half of its own object's.
    """
    size = truth.tracks.video.size
    tracks: list[Frames] = []
    crops: list[rle.Crop] = []
    met: set[int] = set()
    for number, objects in _objects(rows, truth):
        masks, flow = rows[number].masks, rows[number - 1].flow if number else None
        crops = warp_crops(crops, None if flow is None else FlowReader.of(flow, size))
        overlap = rle.iou_matrix(rle.encode_crops(crops, size), masks, size)
        heirs = []
        for i, j in np.argwhere(overlap > config.match).tolist():
            if number - tracks[i][-1] > config.patience + 1:
                continue
            if objects[j] == k:
                heirs.append(i)
            else:
                met |= {k, objects[j]}
        if len(heirs) > 1:
            met.add(k)
        if k in objects:
            crop = rle.crops([masks[objects.index(k)]], size)[0]
            if not heirs:
                heirs = [len(tracks)]
                tracks.append([])
                crops.append(crop)
            for i in heirs:
                tracks[i].append(number)
                crops[i] = crop
    return tracks, met


def _share_outside(truth: TruthTracks, k: int, frames: Sequence[int]) -> float:
    """Of an object's pixels, those that lie in other frames."""
    mine = truth.tracks.of_track(k)
    areas = truth.tracks.areas[mine]
    inside = np.isin(truth.tracks.frame_index[mine], frames)
    return float(areas[~inside].sum() / areas.sum())


FOLLOWABLE: Mapping[str, Callable[[Rows, TruthTracks], Verdict]] = {
    "flow_match": by_flow_match,
    "instance_flow": by_instance_flow,
    "propose_reduce": by_propose_reduce,
    "idol": by_idol,
    "minvis": by_minvis,
}
