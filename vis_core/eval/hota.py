"""Identity on masks: HOTA, CLEAR and ID figures of TrackEval, labels ignored.

TrackEval computes the figures; here its input is made, one video at a time.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from vis_core.errors import UsageError
from vis_core.eval.overlap import Overlaps
from vis_core.formats.model import TruthTracks, VideoTracks, select_tracks

KEYS = ("HOTA", "DetA", "AssA", "IDF1", "MOTA", "IDSW")


class Identity:
    """Collects TrackEval's results by video."""

    def __init__(self) -> None:
        try:
            metrics: Any = importlib.import_module("trackeval.metrics")
        except ImportError as error:
            raise UsageError(
                "metric 'hota' is computed by TrackEval, which is not installed here:"
                " `pip install 'reelmask[hota]'`"
            ) from error
        quiet = {"THRESHOLD": 0.5, "PRINT_CONFIG": False}
        self._metrics = {
            "HOTA": metrics.HOTA(),
            "CLEAR": metrics.CLEAR(quiet),
            "Identity": metrics.Identity(quiet),
        }
        self._videos: dict[int, dict[str, Any]] = {}

    def add(self, rank: int, truth: TruthTracks, found: VideoTracks) -> None:
        data = sequence(select_tracks(truth.tracks, ~truth.crowd), found)
        self._videos[rank] = {
            name: metric.eval_sequence(data) for name, metric in self._metrics.items()
        }

    def result(self) -> dict[str, float | None]:
        """Shares from 0 to 100, and how often the identity of an object switched."""
        total = {
            name: metric.combine_sequences(
                {str(rank): self._videos[rank][name] for rank in sorted(self._videos)}
            )
            for name, metric in self._metrics.items()
        }
        clear = total["CLEAR"]
        if not clear["CLR_TP"] + clear["CLR_FN"]:
            return dict.fromkeys(KEYS)
        shares = {key: float(np.mean(total["HOTA"][key])) for key in ("HOTA", "DetA", "AssA")}
        shares |= {"IDF1": float(total["Identity"]["IDF1"]), "MOTA": float(clear["MOTA"])}
        return {**{key: 100 * value for key, value in shares.items()}, "IDSW": int(clear["IDSW"])}


def sequence(truth: VideoTracks, found: VideoTracks) -> dict[str, Any]:
    """One video as TrackEval takes it: per frame the ids of both sides, and their overlaps."""
    num_frames = truth.video.num_frames
    truth, found = (select_tracks(side, np.diff(side.offsets) > 0) for side in (truth, found))
    sides = [_by_frame(tracks, num_frames) for tracks in (truth, found)]
    overlaps = [np.zeros((len(ours), len(theirs))) for ours, theirs in zip(*sides, strict=True)]
    pairs = Overlaps(truth, found)
    for frame, mine, other in pairs.frames():
        common = pairs.common(mine, other)
        union = truth.areas[mine, None] + found.areas[None, other] - common
        overlaps[frame] = common / union
    (truth_ids, found_ids) = sides
    return {
        "num_timesteps": num_frames,
        "num_gt_ids": len(truth),
        "num_tracker_ids": len(found),
        "num_gt_dets": len(truth.masks),
        "num_tracker_dets": len(found.masks),
        "gt_ids": truth_ids,
        "tracker_ids": found_ids,
        "similarity_scores": overlaps,
    }


def _by_frame(tracks: VideoTracks, num_frames: int) -> list[np.ndarray]:
    """Positions of the tracks seen in each frame, ascending."""
    order = np.argsort(tracks.frame_index, kind="stable")
    bounds = np.searchsorted(tracks.frame_index[order], np.arange(1, num_frames))
    return np.split(tracks.owner[order], bounds)
