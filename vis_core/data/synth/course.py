"""The course of one object: its path, and when it is to be out of sight."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from vis_core.data.synth import cast, paths
from vis_core.data.synth.cast import Role
from vis_core.data.synth.exact import Dice
from vis_core.data.synth.motion import Pose
from vis_core.data.synth.players import Player, Stage

FloatArray = npt.NDArray[np.float64]
Span = tuple[int, int]  # frames [start, stop)

_CREEP = 55.0  # longest way while hidden
_MEETING_MARGIN = 4  # frames from birth and end within which nobody meets


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """A path, and the frames in which the object is away."""

    x: FloatArray  # (T,)
    y: FloatArray
    hidden: Span | None = None  # behind something
    outside: Span | None = None  # out of the picture


def plan_course(
    stage: Stage, role: Role, leader: Player | None, far: float, dice: Dice
) -> Course | None:
    """One try; None where the times of two who are to meet do not fit.

    `leader` is the look-alike cast before, `far` how far the outline reaches, in sizes.
    """
    if leader is not None and role.relation == "touch":
        return _beside(stage, role, leader, far, dice)
    meeting: int | None = None
    if leader is not None and role.relation in ("cross", "cross_hidden"):
        meeting = _meeting_frame(role, leader, dice)
        if meeting is None:
            return None
    hidden = None if role.hidden is None else _hidden_span(role, meeting, dice)
    if role.hidden is not None and hidden is None:
        return None
    outside = None
    if role.returns:
        first = dice.whole(role.born + 6, role.dies - role.returns - 7)
        outside = (first, first + role.returns)
    steps, turns = _steps(stage.num_frames, role, hidden, outside, dice)
    beyond = far * role.size * 1.12
    if meeting is not None and leader is not None:
        anchor = _crossing_anchor(leader.bodies[0].pose, meeting, role.size, dice)
    else:
        anchor = _anchor(stage, role, outside, beyond, dice)
    x, y = paths.wander(dice, anchor, steps, turns, stage.windows, 0.6 * role.size)
    return Course(x=x, y=y, hidden=hidden, outside=outside)


# --- times ----------------------------------------------------------------------------------------


def _meeting_frame(role: Role, leader: Player, dice: Dice) -> int | None:
    """When two look-alikes meet: in the open, or while the first one is hidden."""
    first = max(role.born, leader.bodies[0].start) + _MEETING_MARGIN
    stop = min(role.dies, leader.bodies[0].stop) - _MEETING_MARGIN
    visible, whole = leader.visible[first:stop], leader.prints[0].areas[first:stop]
    seen = leader.seen[first:stop]
    fit = ~seen if role.relation == "cross_hidden" else seen & (visible * 4 >= whole * 3)
    frames = np.flatnonzero(fit) + first
    return dice.choice(frames.tolist()) if len(frames) else None


def _hidden_span(role: Role, meeting: int | None, dice: Dice) -> Span | None:
    """Frames to be hidden in, with time to be seen before and after."""
    assert role.hidden is not None
    shortest, longest = role.hidden
    length = dice.whole(shortest, longest - 1)  # slivers may add a frame
    low, high = role.born + 5, role.dies - 5 - length
    if role.relation == "cross_hidden" and meeting is not None:
        low, high = max(low, meeting - length + 1), min(high, meeting)
    if high < low:
        return None
    start = (dice.whole(low, high) + dice.whole(low, high)) // 2  # early or late breaks little
    in_the_open = role.relation == "cross" and meeting is not None
    if in_the_open and start - 2 <= (meeting or 0) < start + length + 2:
        return None
    return start, start + length


# --- paths ----------------------------------------------------------------------------------------


def _steps(
    num_frames: int, role: Role, hidden: Span | None, outside: Span | None, dice: Dice
) -> tuple[FloatArray, FloatArray]:
    """(T - 1,) distances from frame to frame, and (T,) sudden turns, which nobody sees."""
    steps = np.full(num_frames - 1, 0.0 if role.pace == "resting" else role.speed)
    turns = np.zeros(num_frames)
    passage, hurry = cast.passage(role), cast.passing_speed(role)
    spans = [span for span in (hidden, outside) if span is not None]
    if role.entrance != "stays":
        spans.append((role.born, role.born))
    if role.leaving != "stays":
        spans.append((role.dies, role.dies))
    for start, stop in spans:
        around = slice(max(start - passage, 0), stop + passage)
        steps[around] = np.maximum(steps[around], hurry)
    steps *= np.array([dice.between(0.9, 1.1) for _ in steps])
    if hidden is not None:
        _creep_through(hidden, steps, turns, dice)
    if outside is not None:
        steps[outside[0] : outside[1] - 1] = 0
    steps[role.dies :] = 0
    return steps, turns


def _creep_through(hidden: Span, steps: FloatArray, turns: FloatArray, dice: Dice) -> None:
    """Slow while hidden, so that the cover stays small; it may come out another way."""
    first, last = hidden[0], hidden[1] - 1
    if last > first:
        way = float(steps[first]) * (last - first)
        steps[first:last] *= min(dice.between(0.25, 0.8), _CREEP / way)
    if hidden[1] - hidden[0] >= 4 and dice.chance(0.55):
        turns[(hidden[0] + hidden[1]) // 2] = dice.between(0.15, 0.5) * dice.sign()


def _anchor(
    stage: Stage, role: Role, outside: Span | None, beyond: float, dice: Dice
) -> paths.Anchor:
    """The one place of a path that is not left to chance: where it crosses the edge, if it does."""
    frame = None
    if outside is not None:
        frame = outside[0]
    elif role.entrance == "border":
        frame = role.born
    elif role.leaving == "border":
        frame = role.dies - 1
    if frame is not None:
        return paths.border_anchor(dice, stage.windows, frame, beyond)
    frame = dice.whole(role.born, role.dies - 1)
    return paths.free_anchor(dice, stage.windows, frame, 0.6 * role.size)


def _crossing_anchor(other: Pose, frame: int, size: float, dice: Dice) -> paths.Anchor:
    """Nearly where the other one is, on another course."""
    before, after = max(frame - 1, 0), min(frame + 1, len(other.x) - 1)
    course = (float(other.x[after] - other.x[before]), float(other.y[after] - other.y[before]))
    length = math.sqrt(course[0] * course[0] + course[1] * course[1])
    unit = (course[0] / length, course[1] / length) if length > 0.5 else (1.0, 0.0)
    way = paths.turned(unit, dice.between(0.2, 0.8))
    aside = dice.sign() * dice.between(0.12, 0.4) * size
    place = (float(other.x[frame]) - way[1] * aside, float(other.y[frame]) + way[0] * aside)
    return paths.Anchor(frame=frame, place=place, forwards=way, backwards=paths.reverse(way))


def _beside(stage: Stage, role: Role, leader: Player, far: float, dice: Dice) -> Course:
    """At the side of the other one: all the time, or coming together and parting."""
    other = leader.bodies[0]
    distance = np.full(
        stage.num_frames, dice.between(0.66, 0.84) * far * (role.size + leader.role.size)
    )
    if dice.chance(0.6):
        frames = np.arange(stage.num_frames)
        middle = dice.whole(other.start + 2, max(other.stop - 3, other.start + 2))
        apart = np.maximum(np.abs(frames - middle) - dice.whole(3, 7), 0)
        distance = distance + apart * dice.between(1.0, 3.5)
    way = paths.heading(dice.unit())
    return Course(x=other.pose.x + way[0] * distance, y=other.pose.y + way[1] * distance)
