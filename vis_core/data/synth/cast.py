"""Who plays in a clip: how many objects, their kinds, sizes and what is to happen to each.

Quotas are dealt over the seeds (`exact.deal`), so that any run of clips holds them; which object of
a clip gets which part is chance. Lengths are scene units, times are frames.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Literal

from vis_core.data.synth.config import Preset, Relation
from vis_core.data.synth.exact import Dice, deal, deal_count, pick

MAX_OBJECTS = 8
MIN_LIFE = 9  # frames; one may be lost to a sliver too small to count
MAX_HIDEABLE = 95.0  # largest object that something else may hide completely
MAX_FAST = 115.0
_MEETING = 13  # frames two look-alikes that meet have in common

_COUNTS = ((2, 0.14), (3, 0.2), (4, 0.27), (5, 0.16), (6, 0.11), (7, 0.07), (8, 0.05))
# Sizes at quantiles, for visible square-root areas of about 20, 45 and 90 at 10, 50 and 90 %.
_SIZES = ((0.0, 16.0), (0.1, 31.0), (0.5, 54.0), (0.9, 94.0), (0.97, 125.0), (1.0, 190.0))

Pace = Literal["fast", "steady", "resting"]
Way = Literal["stays", "border", "cover"]  # there from or to the end, over the edge, behind a thing


@dataclasses.dataclass(kw_only=True, slots=True)
class Role:
    """What one object is to do. Filled in step by step while a clip is cast."""

    number: int
    family: int = 0  # index into the preset's families
    group: int = 0  # objects of one group share family and colours
    marking: int = 0  # tells the members of a group apart
    size: float = 40.0
    pace: Pace = "steady"
    speed: float = 3.0  # per frame
    born: int = 0
    dies: int = 0  # first frame without it
    entrance: Way = "stays"
    leaving: Way = "stays"
    hidden: tuple[int, int] | None = None  # shortest and longest absence behind something
    returns: int = 0  # frames outside the picture before it comes back
    twin: int | None = None  # the look-alike that is cast before it
    relation: Relation | None = None  # what the two do together


def cast_clip(
    preset: Preset, seed: int, num_frames: int, dice: Dice, *, ease: int = 0
) -> list[Role]:
    """The roles of a clip, look-alikes behind the one they relate to.

    `ease` takes so many of each kind of event away: for the rare clip that is dealt too much.
    """
    num_objects = pick(_COUNTS, deal("count", seed))
    roles = [Role(number=number, dies=num_frames) for number in range(num_objects)]
    _pair_up(preset, roles, seed)
    _choose_kinds(preset, roles, seed, dice)
    _choose_paces(preset, roles, seed, dice)
    for role in roles:
        _choose_speed(role, dice)
    _choose_returns(preset, roles, seed, num_frames, dice)
    for role in roles[: 2 * ease]:
        role.relation = None
    _choose_hidden(preset, roles, seed, dice, ease)
    _choose_births(preset, roles, seed, num_frames, dice, ease)
    _choose_ends(preset, roles, seed, num_frames, dice, ease)
    for role in roles:
        if role.relation == "touch":
            _follow(role, roles[role.twin or 0])
    return roles


def _key(seed: int, number: int) -> int:
    return seed * MAX_OBJECTS + number


def _quota(roles: Iterable[Role], count: int, dice: Dice) -> list[Role]:
    """So many of the roles, by chance."""
    return dice.shuffled(list(roles))[:count]


def _pair_up(preset: Preset, roles: Sequence[Role], seed: int) -> None:
    """Makes the first roles pairs of look-alikes; gives every role its group."""
    num_pairs = min(deal_count("twins", seed, len(roles) * preset.twin_share / 2), len(roles) // 2)
    for pair in range(num_pairs):
        first, second = roles[2 * pair : 2 * pair + 2]
        second.twin, second.marking = first.number, 1
        relation = pick(preset.relations, deal("relation", seed * (MAX_OBJECTS // 2) + pair))
        second.relation = None if relation == "apart" else relation
        first.group = second.group = pair
    for number, role in enumerate(roles[2 * num_pairs :], num_pairs):
        role.group = number


def _choose_kinds(preset: Preset, roles: Sequence[Role], seed: int, dice: Dice) -> None:
    """Families and sizes; half of the later ones are of the family easily taken for another's."""
    num_families = len(preset.families)
    for role in roles:
        key = _key(seed, role.number)
        if role.twin is not None:
            other = roles[role.twin]
            role.family = other.family
            role.size = other.size * dice.between(0.94, 1.06)
            continue
        role.family = int(num_families * deal("family", key))
        if role.number and dice.chance(0.5):
            role.family = dice.choice(roles[: role.number]).family ^ 1
        role.size = size_at(deal("size", key))


def size_at(quantile: float) -> float:
    """The size at a quantile of all sizes."""
    for (low, small), (high, large) in itertools.pairwise(_SIZES):
        if quantile <= high:
            return small + (large - small) * (quantile - low) / (high - low)
    return _SIZES[-1][1]


def _choose_paces(preset: Preset, roles: Sequence[Role], seed: int, dice: Dice) -> None:
    able = [role for role in roles if role.size <= MAX_FAST]
    fast = _quota(able, deal_count("fast", seed, len(roles) * preset.fast_share), dice)
    for role in fast:
        role.pace = "fast"
    calm = [role for role in roles if role.pace != "fast" and role.relation is None]
    for role in _quota(calm, deal_count("resting", seed, len(roles) * preset.resting_share), dice):
        role.pace = "resting"


def _choose_hidden(preset: Preset, roles: Sequence[Role], seed: int, dice: Dice, ease: int) -> None:
    """Who vanishes behind something, and for how long."""
    count = max(deal_count("hidden", seed, len(roles) * preset.hidden_share) - ease, 0)
    able = [r for r in roles if r.size <= MAX_HIDEABLE and r.pace != "resting" and not r.returns]
    able = [r for r in able if r.relation != "touch" and not _is_touched(r, roles)]
    chosen: list[Role] = []
    for role in [r for r in roles if r.relation == "cross_hidden"]:
        pair = [roles[role.twin or 0], role]
        if all(r in able for r in pair) and len(chosen) + 2 <= count:
            chosen += pair
        else:
            role.relation = "cross"
    chosen += _quota([r for r in able if r not in chosen], count - len(chosen), dice)
    lengths = [((low, high), share) for share, low, high in preset.hidden_lengths]
    for rank, role in enumerate(chosen):
        role.hidden = pick(lengths, deal("length", _key(seed, rank)))


def _is_touched(role: Role, roles: Iterable[Role]) -> bool:
    return any(r.relation == "touch" and r.twin == role.number for r in roles)


def _can_use(way: Way, role: Role) -> bool:
    return way != "cover" or role.size <= MAX_HIDEABLE


def passage(role: Role) -> int:
    """Frames it takes to come in over the edge, or out from behind something."""
    return math.ceil(1.2 * role.size / passing_speed(role))


def passing_speed(role: Role) -> float:
    """Per frame while it comes in, goes out, or slips behind something: nobody lingers there."""
    return max(role.speed, role.size / 7.5)


def _needed_life(role: Role) -> int:
    """Frames to be seen long enough, and to be absent."""
    passages = (role.entrance != "stays") + (role.leaving != "stays")
    absence = 0 if role.hidden is None else role.hidden[1] + 6 + passage(role)
    return max(MIN_LIFE + 2, absence + 2 + passage(role) * passages)


def _choose_births(
    preset: Preset, roles: Sequence[Role], seed: int, num_frames: int, dice: Dice, ease: int
) -> None:
    """Who appears after the first frame, when and how; births are spread over the clip."""
    count = min(deal_count("late", seed, len(roles) * preset.late_share), len(roles) - 1) - ease
    able = [r for r in roles if r.relation != "touch" and not r.returns]
    for role in sorted(dice.shuffled(able), key=lambda r: (r.hidden or (0, 0))[1]):
        company = 1 + _is_touched(role, roles)  # who touches it comes with it
        free = role.relation is None
        by_border = role.pace == "resting" or dice.chance(0.75)
        role.entrance = "border" if free and by_border else "cover"
        last = num_frames - max(_needed_life(role), _MEETING if role.twin is not None else 0)
        if company > count or last < 2 or not _can_use(role.entrance, role):
            role.entrance = "stays"
            continue
        count -= company
        role.born = 2 + int((last - 1) * deal("birth", _key(seed, role.number)))


def _choose_returns(
    preset: Preset, roles: Sequence[Role], seed: int, num_frames: int, dice: Dice
) -> None:
    """Who of the first frame leaves the picture and comes back."""
    able = [
        role
        for role in roles
        if role.relation is None
        and role.pace != "resting"
        and role.size <= MAX_FAST
        and not _is_touched(role, roles)
    ]
    for role in _quota(able, deal_count("return", seed, len(roles) * preset.return_share), dice):
        role.returns = dice.whole(6, min(12, num_frames // 4))


def _choose_ends(
    preset: Preset, roles: Sequence[Role], seed: int, num_frames: int, dice: Dice, ease: int
) -> None:
    """Who is gone before the last frame, when and how."""
    count = deal_count("gone", seed, len(roles) * preset.gone_share) - ease
    able = [r for r in roles if r.relation != "touch" and not r.returns and r.pace != "resting"]
    for role in dice.shuffled(able):
        free = role.entrance == "stays" and role.relation is None
        role.leaving = "border" if free and dice.chance(0.8) else "cover"
        partners = [r for r in roles if role.number == r.twin or role.twin == r.number]
        meeting = max([r.born + _MEETING - role.born for r in partners], default=0)
        shortest = max(_needed_life(role), meeting)
        longest = num_frames - role.born - 2
        if count < 1 or shortest > longest or not _can_use(role.leaving, role):
            role.leaving = "stays"
            continue
        count -= 1
        life = deal("life", _key(seed, role.number))
        role.dies = role.born + shortest + int((longest - shortest + 1) * life)


def _choose_speed(role: Role, dice: Dice) -> None:
    """A sixth of the size per frame makes a third in two."""
    limit = role.size / 6
    if role.pace == "fast":
        role.speed = min(limit * dice.between(1.18, 1.2 + 0.7 * (1 - role.size / 130)), 27.0)
    else:
        role.speed = min(dice.between(3.4, 6.5), max(0.9 * limit, 3.4))


def _follow(role: Role, leader: Role) -> None:
    """Who touches another shares its times and speed."""
    role.born, role.dies = leader.born, leader.dies
    role.entrance, role.leaving = leader.entrance, leader.leaving
    role.pace, role.speed = leader.pace, leader.speed
