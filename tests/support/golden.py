"""The golden fixtures of association: what goes in, what must come out, and when the two are equal.

A case is a folder `golden/<system>/<case>` with `meta.json`, `input.parquet`, `expected.parquet`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.fakes import fake_video
from tests.support.results import table
from vis_core.config import build
from vis_core.masks import rle
from vis_core.schema import table_to_predictions
from vis_core.system import System, link
from vis_core.types import FramePrediction, TrackPlan, VideoInfo

SCORE_TOLERANCE = 1e-4  # of a score, relative where the score exceeds 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoldenTrack:
    """A track with its masks decoded; `track_id` is None where none was given yet."""

    masks: Mapping[int, np.ndarray]  # by frame, (H, W), none of them empty
    label: int
    score: float
    class_scores: np.ndarray | None  # (K,)
    track_id: int | None = None

    @property
    def masks_digest(self) -> str:
        """Equal for tracks with the same masks in the same frames."""
        digest = hashlib.sha256()
        for frame in sorted(self.masks):
            digest.update(f"{frame}:".encode() + np.packbits(self.masks[frame]).tobytes())
        return digest.hexdigest()

    def __repr__(self) -> str:
        pixels = sum(int(mask.sum()) for mask in self.masks.values())
        return (
            f"GoldenTrack(frames {sorted(self.masks)}, {pixels} px, label {self.label},"
            f" score {self.score:.6g})"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoldenCase:
    """One fixture. `predictions` keep the file's shuffled order: `link` sorts them."""

    folder: Path
    meta: Mapping[str, Any]
    video: VideoInfo
    predictions: list[FramePrediction]
    expected: list[GoldenTrack]

    @property
    def settings(self) -> Mapping[str, Any]:
        """What to pass to our linker, as `--set` does."""
        return self.meta["set"]

    def link(self, system: System, **more: Any) -> list[GoldenTrack]:
        """The tracks of a system's linker with the case's settings, through the functions."""
        config = build(system.link_config, {**self.settings, **more})
        plans = link(system.make_linker(config), self.video, self.predictions)
        return tracks_of_plans(plans, self.predictions, self.video)


def read_case(shared: Path, system: str, case: str) -> GoldenCase:
    """Reads a fixture; `shared` is the test fixture of that name."""
    folder = shared / "golden" / system / case
    meta = json.loads((folder / "meta.json").read_text())
    predictions = table_to_predictions(pq.read_table(folder / "input.parquet"))
    first = predictions[0]
    video = fake_video(first.video_id, meta["frames"], height=meta["height"], width=meta["width"])
    expected = [
        _track(row, row["segments"], (row["height"], row["width"]))
        for row in pq.read_table(folder / "expected.parquet").to_pylist()
    ]
    return GoldenCase(
        folder=folder, meta=meta, video=video, predictions=predictions, expected=expected
    )


def tracks_of_plans(
    plans: Sequence[TrackPlan], predictions: Sequence[FramePrediction], video: VideoInfo
) -> list[GoldenTrack]:
    """What `link` would write for these plans, in their order; tracks without a mask left out."""
    rows = {(item.window, item.frame_index): item for item in predictions}
    size = (video.height, video.width)
    found = []
    for plan in plans:
        windows = np.zeros(len(plan.frame_index), int) if plan.window is None else plan.window
        taken = zip(
            windows.tolist(), plan.frame_index.tolist(), plan.instance.tolist(), strict=True
        )
        masks = [(frame, rows[window, frame].masks[i]) for window, frame, i in taken]
        masks += [(carried.frame_index, carried.mask) for carried in plan.carried]
        frames = [frame for frame, _ in masks]
        assert len(set(frames)) == len(frames), f"two masks in one frame: {sorted(frames)}"
        track = GoldenTrack(
            masks=_decoded(masks, size),
            label=plan.label,
            score=plan.score,
            class_scores=plan.class_scores,
        )
        found += [track] if track.masks else []
    return found


def tracks_of_results(out: str | Path, video_id: str) -> list[GoldenTrack]:
    """The tracks of one video of a results folder, in order of their ids."""
    masks: dict[int, list[dict[str, Any]]] = {}
    for row in _rows_of(table(out, "masks"), video_id):
        masks.setdefault(row["track_id"], []).append(row)
    return [
        _track(row, masks[row["track_id"]], (row["height"], row["width"]))
        for row in _rows_of(table(out, "tracks"), video_id)
    ]


def assert_same_tracks(
    found: Sequence[GoldenTrack], expected: Sequence[GoldenTrack]
) -> list[tuple[GoldenTrack, GoldenTrack]]:
    """The golden README's rule; returns the pairs (found, expected), to compare more of them.

    Pairs by mask sequence, and among equal ones by score. Ids, where there are any, must be dense
    in descending order of score.
    """
    open_by_masks: dict[str, list[GoldenTrack]] = {}
    for track in found:
        open_by_masks.setdefault(track.masks_digest, []).append(track)
    pairs, missing = [], []
    for track in expected:
        candidates = open_by_masks.get(track.masks_digest, [])
        if not candidates:
            missing.append(track)
            continue
        best = min(candidates, key=lambda other: _distance(other, track))
        candidates.remove(best)
        pairs.append((best, track))
    left = [track for tracks in open_by_masks.values() for track in tracks]
    assert not missing and not left, _mismatch(left, missing)
    for mine, theirs in pairs:
        _assert_same_values(mine, theirs)
    _assert_dense_ids(found)
    return pairs


def _distance(found: GoldenTrack, expected: GoldenTrack) -> tuple[bool, bool, float]:
    """Of tracks with equal masks, the one with this score, and of those the one with this label."""
    difference = abs(found.score - expected.score)
    return not _close(found.score, expected.score), found.label != expected.label, difference


def _close(found: Any, expected: Any) -> bool:
    tolerance = SCORE_TOLERANCE * np.maximum(1, np.abs(expected))
    return bool((np.abs(np.asarray(found, np.float64) - expected) <= tolerance).all())


def _assert_same_values(found: GoldenTrack, expected: GoldenTrack) -> None:
    assert found.label == expected.label, f"{found} has another label than {expected}"
    assert _close(found.score, expected.score), f"{found} has another score than {expected}"
    if expected.class_scores is not None:
        assert found.class_scores is not None, f"{found} has no class scores, {expected} has"
        assert _close(found.class_scores, expected.class_scores), (
            f"class scores of {found}: {found.class_scores}, expected {expected.class_scores}"
        )


def _assert_dense_ids(found: Sequence[GoldenTrack]) -> None:
    given = [track for track in found if track.track_id is not None]
    order = sorted(given, key=lambda track: track.track_id)
    assert [track.track_id for track in order] == list(range(len(given)))
    scores = [track.score for track in order]
    assert scores == sorted(scores, reverse=True), f"ids are not in order of score: {scores}"


def _mismatch(left: Sequence[GoldenTrack], missing: Sequence[GoldenTrack]) -> str:
    """What is there and should not be, what is not, and how far the two are apart."""
    lines = [f"{len(missing)} expected tracks not found, {len(left)} found that are not expected"]
    for track in missing:
        lines.append(f"not found: {track}")
        lines += [f"    {_difference(other, track)} from {other}" for other in left]
    return "\n".join([*lines, *(f"not expected: {track}" for track in left)])


def _difference(found: GoldenTrack, expected: GoldenTrack) -> str:
    frames = sorted({*found.masks} ^ {*expected.masks})
    common = {*found.masks} & {*expected.masks}
    pixels = sum(int((found.masks[t] ^ expected.masks[t]).sum()) for t in common)
    return f"{pixels} px in {len(common)} common frames, and frames {frames},"


def _track(
    row: Mapping[str, Any], masks: Sequence[Mapping[str, Any]], size: rle.Size
) -> GoldenTrack:
    scores = row["class_scores"]
    return GoldenTrack(
        masks=_decoded([(mask["frame_index"], mask["mask"]) for mask in masks], size),
        label=row["label"],
        score=row["score"],
        class_scores=None if scores is None else np.array(scores, np.float64),
        track_id=row["track_id"],
    )


def _decoded(masks: Sequence[tuple[int, bytes]], size: rle.Size) -> dict[int, np.ndarray]:
    dense = rle.decode([mask for _, mask in masks], size)
    return {frame: mask for (frame, _), mask in zip(masks, dense, strict=True) if mask.any()}


def _rows_of(rows: pa.Table, video_id: str) -> list[dict[str, Any]]:
    return [row for row in rows.to_pylist() if row["video_id"] == video_id]
