"""How hard the clips are: measured on the truth, never taken from what was planned.

Lengths are scene units: pixels of a picture of 360 x 640.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vis_core.data.synth.config import PRESETS
from vis_core.data.synth.scene import SLIVER, crossings
from vis_core.data.synth.shapes import is_concave
from vis_core.data.synth.truth import ClipTruth, Drawing, ObjectTruth, absences

_FAST = 1 / 3  # of the size, in two frames
_RESTING = 1 / 40
_HALF_SEEN = 0.5
_GAP_EDGES = (1, 4, 10, 17)  # absences of 1-3, 4-9, 10-16 and more frames
_TOUCH_FRAMES = 3


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ObjectMeasures:
    """One object, in plain numbers that travel between processes."""

    label: int
    family: str
    concave: bool
    look_alike: bool
    start: int  # first frame with a mask
    stop: int  # after the last one
    sides: Sequence[float]  # square root of each visible area
    step: float  # median displacement in two frames, in sizes, as the picture shows it
    own_step: float  # the same without the camera's motion
    hidden: Sequence[int]  # lengths of its absences behind something
    away: Sequence[int]  # and outside the picture
    half_seen: int  # masks of which less than half is visible


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ClipMeasures:
    """One clip."""

    num_frames: int
    objects: Sequence[ObjectMeasures]
    crossings: int
    twin_crossings: int
    touching: int  # pairs that touch for some frames
    twin_touching: int
    overlap_frames: int  # frames in which an object lies over another
    present: Sequence[int]  # objects to be seen in each frame


def measure(drawing: Drawing, truth: ClipTruth) -> ClipMeasures:
    """What a clip demands of a system."""
    index = {b.number: i for i, b in enumerate(drawing.scene.bodies) if b.kind == "object"}
    pairs = [(a, b) for i, a in enumerate(truth.objects) for b in truth.objects[i + 1 :]]
    touching = _touching(drawing)
    scratch = np.zeros(drawing.canvas.size, bool)
    met: list[bool] = []  # one entry per crossing: whether it is one of look-alikes
    near: list[bool] = []
    overlapped = np.zeros(truth.config.num_frames, bool)
    for a, b in pairs:
        prints = (drawing.prints[index[a.number]], drawing.prints[index[b.number]])
        found = crossings(*prints, scratch)
        met += [a.group == b.group] * len(found)
        for start, stop in found:
            overlapped[start:stop] = True
        if touching[index[a.number], index[b.number]] >= _TOUCH_FRAMES:
            near.append(a.group == b.group)
    groups = Counter(item.group for item in truth.objects)
    seen = np.array([item.areas > 0 for item in truth.objects])
    concave = {b.number: is_concave(b.outline) for b in drawing.scene.objects}
    return ClipMeasures(
        num_frames=truth.config.num_frames,
        objects=[
            _object(truth, item, drawing, index[item.number], concave[item.number], groups)
            for item in truth.objects
        ],
        crossings=len(met),
        twin_crossings=sum(met),
        touching=len(near),
        twin_touching=sum(near),
        overlap_frames=int(overlapped.sum()),
        present=seen.sum(axis=0).tolist(),
    )


def _object(
    truth: ClipTruth,
    item: ObjectTruth,
    drawing: Drawing,
    index: int,
    concave: bool,
    groups: Counter[int],
) -> ObjectMeasures:
    frames = np.flatnonzero(item.areas)
    unit = truth.config.px_per_unit
    sliver = SLIVER * unit * unit
    within = drawing.prints[index].areas >= sliver  # in the picture, hidden or not
    gaps = absences(item)
    behind = [within[start:stop].mean() > 0.5 for start, stop in gaps]
    lengths = [stop - start for start, stop in gaps]
    areas = item.areas[frames]
    pose = drawing.scene.bodies[index].pose
    return ObjectMeasures(
        label=item.label,
        family=item.family,
        concave=concave,
        look_alike=groups[item.group] > 1,
        start=int(frames[0]),
        stop=int(frames[-1]) + 1,
        sides=np.round(np.sqrt(areas) / unit, 2).tolist(),
        step=_step(item, item.centers / unit, np.sqrt(item.whole_areas) / unit),
        own_step=_step(item, np.stack([pose.x, pose.y], axis=1), pose.size),
        hidden=[length for length, hid in zip(lengths, behind, strict=True) if hid],
        away=[length for length, hid in zip(lengths, behind, strict=True) if not hid],
        half_seen=int((areas < _HALF_SEEN * item.whole_areas[frames]).sum()),
    )


def _step(item: ObjectTruth, places: npt.NDArray, sizes: npt.NDArray) -> float:
    """Median displacement between frames t and t + 2 in which it is seen, in sizes."""
    seen = item.areas > 0
    both = np.flatnonzero(seen[:-2] & seen[2:])
    if not len(both):
        return 0.0
    moved = places[both + 2] - places[both]
    distance = np.sqrt(moved[:, 0] * moved[:, 0] + moved[:, 1] * moved[:, 1])
    return float(np.median(distance / sizes[both]))


def _touching(drawing: Drawing) -> Counter[tuple[int, int]]:
    """Frames in which two bodies have neighbouring visible pixels."""
    objects = np.array([body.kind == "object" for body in drawing.scene.bodies] + [False])
    num_bodies = len(objects)
    found: Counter[tuple[int, int]] = Counter()
    for canvas in drawing.canvas:
        codes: list[npt.NDArray] = []
        for a, b in ((canvas[1:], canvas[:-1]), (canvas[:, 1:], canvas[:, :-1])):
            edge = np.flatnonzero((a != b).reshape(-1))
            one, other = a.reshape(-1)[edge], b.reshape(-1)[edge]
            both = objects[one] & objects[other]  # nothing is -1: the False at the end
            one, other = one[both].astype(np.int64), other[both].astype(np.int64)
            codes.append(np.minimum(one, other) * num_bodies + np.maximum(one, other))
        for code in np.unique(np.concatenate(codes)).tolist():
            first, second = divmod(code, num_bodies)
            found[first, second] += 1
            found[second, first] += 1
    return found


# --- summary --------------------------------------------------------------------------------------


def summarize(preset: str, clips: Sequence[ClipMeasures]) -> dict[str, Any]:
    """The content of `difficulty.json`: every share is of all objects unless its name says more."""
    items = [item for clip in clips for item in clip.objects]
    counts = [len(clip.objects) for clip in clips]
    sides = np.array([side for item in items for side in item.sides])
    late = [item.start / clip.num_frames for clip in clips for item in clip.objects if item.start]
    hidden = [length for item in items for length in item.hidden]
    families = Counter(item.family for item in items)
    num_crossings = sum(clip.crossings for clip in clips)
    return {
        "preset": preset,
        "num_videos": len(clips),
        "num_objects": len(items),
        "num_masks": len(sides),
        "objects_per_video": _spread(counts),
        "objects_per_frame": _mean([n for clip in clips for n in clip.present]),
        "objects_by_family": {name: families[name] for name in PRESETS[preset].families},
        "sqrt_area": _percentiles(sides),
        "concave_share": _share(item.concave for item in items),
        "look_alike_share": _share(item.look_alike for item in items),
        "fast_share": _share(item.step >= _FAST for item in items),
        "resting_share": _share(item.own_step < _RESTING for item in items),
        "step_in_two_frames": _percentiles(np.array([item.step for item in items])),
        "late_birth_share": _share(item.start > 0 for item in items),
        "late_births_by_third": [
            _share(third / 3 <= when < (third + 1) / 3 for when in late) for third in range(3)
        ],
        "gone_early_share": _share(
            item.stop < clip.num_frames for clip in clips for item in clip.objects
        ),
        "lifetime": _spread([item.stop - item.start for item in items]),
        "hidden_share": _share(bool(item.hidden) for item in items),
        "hidden_lengths": _histogram(hidden),
        "hidden_length_counts": {str(k): n for k, n in sorted(Counter(hidden).items())},
        "return_share": _share(_returns(item) for item in items),
        "crossings": num_crossings,
        "crossings_per_video": num_crossings / len(clips),
        "look_alike_crossing_share": sum(c.twin_crossings for c in clips) / max(num_crossings, 1),
        "touching_pairs": sum(clip.touching for clip in clips),
        "touching_look_alike_pairs": sum(clip.twin_touching for clip in clips),
        "overlap_frame_share": sum(c.overlap_frames for c in clips)
        / sum(c.num_frames for c in clips),
        "half_seen_mask_share": sum(item.half_seen for item in items) / len(sides),
    }


def _returns(item: ObjectMeasures) -> bool:
    """There in the first frame, outside the picture for five frames or more, and back."""
    return item.start == 0 and any(length >= 5 for length in item.away)


def _share(flags: Any) -> float:
    return _mean([float(flag) for flag in flags])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else 0.0


def _spread(values: Sequence[int]) -> dict[str, float]:
    return {"min": min(values), "median": float(np.median(values)), "max": max(values)}


def _percentiles(values: npt.NDArray) -> dict[str, float]:
    named = {"min": 0, "p10": 10, "p50": 50, "p90": 90, "max": 100}
    return {name: float(np.percentile(values, q)) for name, q in named.items()}


def _histogram(lengths: Sequence[int]) -> dict[str, float]:
    """Shares of the classes of absences that presets speak of."""
    counts = np.bincount(np.searchsorted(_GAP_EDGES, lengths, side="right"), minlength=5)[1:]
    shares = counts / max(len(lengths), 1)
    return dict(zip(("1-3", "4-9", "10-16", "17-"), shares.tolist(), strict=True))
