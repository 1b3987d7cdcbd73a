"""Puts the roles of a clip on stage: paths and covers, tried out until every promise holds.

An object is tried alone first (does it appear, vanish and come back when it should?), then among
those already there (does anything hide them that should not?). All tries are made on a small
picture; truth and pixels come later, from the same scene.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vis_core.data.synth import cast, paths
from vis_core.data.synth.cast import Role
from vis_core.data.synth.config import PRESETS, SynthConfig
from vis_core.data.synth.course import Course, plan_course
from vis_core.data.synth.covers import cover_of
from vis_core.data.synth.exact import Dice
from vis_core.data.synth.motion import Pose, lively, make_camera
from vis_core.data.synth.players import Player, Stage
from vis_core.data.synth.scene import (
    Body,
    Footprint,
    Look,
    Scene,
    crossings,
    footprint,
    overlaps,
    paint,
    patches_of,
    runs,
    seen_areas,
)
from vis_core.data.synth.shapes import outline_of, reach

_TRIALS = 40  # per role, before the clip is cast anew
_CASTS_AT_EASE = 8  # before the next casts leave out some events
_CASTS = 80  # before giving up, which thousands of seeds never came near
_TRIAL_UNITS = 0.34  # pixels per scene unit of the small picture
_MIN_RUN = 3  # frames an object is seen at a stretch
_MIN_RETURN = 5  # frames outside the picture
_MIN_TOUCH = 5  # frames in which two that are to touch do so
_MOST_HIDDEN = 0.3  # share of its frames in which half of an object may be covered


def make_scene(config: SynthConfig, seed: int) -> Scene:
    """The scene of a seed; a pure function of seed, preset, number of frames and aspect."""
    for attempt in range(_CASTS):
        stage = _make_stage(config, seed, attempt)
        players = _fill(stage, attempt)
        if players is not None:
            bodies = [body for player in players for body in player.bodies]
            bodies += _flakes(stage, Dice(stage.key, attempt, "flakes"))
            return Scene(
                config=config,
                seed=seed,
                camera=stage.camera,
                bodies=sorted(bodies, key=lambda body: body.depth),
            )
    raise RuntimeError(f"no arrangement of clip {seed} keeps its promises: {config}")


def _make_stage(config: SynthConfig, seed: int, attempt: int) -> Stage:
    dice = Dice(config.key(seed), attempt, "camera")
    camera = make_camera(dice, config.num_frames, config.size, config.px_per_unit)
    small = camera.scaled(_TRIAL_UNITS / config.px_per_unit)
    return Stage(
        config=config,
        seed=seed,
        preset=PRESETS[config.preset],
        camera=camera,
        small=small,
        windows=paths.windows_of(camera),
        scratch=np.zeros(config.num_frames * small.height * small.width, bool),
    )


def _fill(stage: Stage, attempt: int) -> list[Player] | None:
    """One player per role, or None where a role found no place."""
    dice = Dice(stage.key, attempt, "cast")
    ease = attempt // _CASTS_AT_EASE
    roles = cast.cast_clip(stage.preset, stage.seed, stage.num_frames, dice, ease=ease)
    depths = _depths(roles, dice)
    planned = sum(role.relation in ("cross", "cross_hidden") for role in roles)
    allowed = int(stage.preset.other_crossings * max(planned, 1)) + ease
    players: list[Player] = []
    for role in roles:
        for trial in range(_TRIALS):
            chance = Dice(stage.key, attempt, "role", role.number, trial)
            player = _try_alone(stage, role, players, depths[role.number], chance)
            if player is None:
                continue
            others = _try_together(stage, player, players, allowed)
            if others is not None:
                allowed -= others
                players.append(player)
                break
        else:
            return None
    return players


def _depths(roles: Sequence[Role], dice: Dice) -> list[float]:
    """Larger objects tend to lie below, so that they do not hide the small ones."""
    ranks = {role.number: rank for rank, role in enumerate(sorted(roles, key=lambda r: -r.size))}
    return [dice.unit() + 1.6 * ranks[role.number] / len(roles) for role in roles]


# --- one object alone -----------------------------------------------------------------------------


def _try_alone(
    stage: Stage, role: Role, players: Sequence[Player], depth: float, dice: Dice
) -> Player | None:
    leader = next((p for p in players if p.role.number == role.twin), None)
    outline = outline_of(stage.preset.families[role.family], dice)
    if leader is not None:
        outline = leader.bodies[0].outline  # look-alikes have the very same proportions
    course = plan_course(stage, role, leader, reach(outline), dice)
    if course is None:
        return None
    pose = lively(dice, role.size, course.x, course.y)
    if not _stays_in_view(stage, role, pose, course):
        return None
    body = Body(
        kind="object",
        outline=outline,
        pose=pose,
        start=role.born,
        stop=role.dies,
        depth=depth,
        look=Look(colors=f"{stage.key}/{role.group}", marking=role.marking),
        number=role.number,
        label=role.family % len(stage.preset.categories) + 1,
        family=stage.preset.families[role.family],
        group=role.group,
    )
    bodies = [body, *_covers(stage, role, body, course, dice)]
    prints = [_small_print(stage, item) for item in bodies]
    canvas = paint(prints, stage.num_frames, stage.size)  # the covers lie above
    visible = seen_areas(canvas, 0, prints[0])
    if not _keeps_promise(stage, role, visible, prints[0]):
        return None
    seen = visible >= stage.sliver
    return _trimmed(Player(role=role, bodies=bodies, prints=prints, seen=seen, visible=visible))


def _small_print(stage: Stage, body: Body) -> Footprint:
    patches = patches_of(body, stage.small, rows=1)
    return footprint(patches, body.start, stage.num_frames, stage.size)


def _stays_in_view(stage: Stage, role: Role, pose: Pose, course: Course) -> bool:
    """Whether the middle is in view except on the way in and out: a cheap test before drawing."""
    inside = stage.windows.inside(pose.x, pose.y, 0.3 * role.size)
    way_in = cast.passage(role) + 2
    needed = np.zeros(stage.num_frames, bool)
    first = role.born + (way_in if role.entrance == "border" else 0)
    needed[first : role.dies - (way_in if role.leaving == "border" else 0)] = True
    if course.outside is not None:
        needed[max(course.outside[0] - way_in, 0) : course.outside[1] + way_in] = False
    return bool(inside[needed].all())


def _covers(stage: Stage, role: Role, body: Body, course: Course, dice: Dice) -> list[Body]:
    """The things it hides behind: where it is during its absence, birth and end."""
    spans = [] if course.hidden is None else [course.hidden]
    if role.entrance == "cover":
        spans.append((role.born, role.born + 1))
    if role.leaving == "cover":
        spans.append((role.dies - 1, role.dies))
    made = []
    for index, span in enumerate(spans, 1):
        outline, pose = cover_of(body, span, dice)
        made.append(
            Body(
                kind="cover",
                outline=outline,
                pose=pose,
                start=0,
                stop=stage.num_frames,
                depth=body.depth + index * 1e-3,
                look=Look(colors=f"{stage.key}/cover", marking=dice.whole(0, 5)),
            )
        )
    return made


def _keeps_promise(
    stage: Stage, role: Role, visible: npt.NDArray[np.int64], print_: Footprint
) -> bool:
    """Whether the object appears, vanishes and comes back as its role says."""
    seen = visible >= stage.sliver
    stretches = runs(seen)
    if len(stretches) != 1 + (role.hidden is not None or role.returns > 0):
        return False
    first, stop = stretches[0][0], stretches[-1][1]
    if (first > 0) != (role.entrance != "stays") or (
        (stop < stage.num_frames) != (role.leaving != "stays")
    ):
        return False
    slips = 2 * (role.hidden is not None) + [role.entrance, role.leaving].count("cover")
    if (visible[seen] * 2 < print_.areas[seen]).sum() > 0.15 * seen.sum() + 3 * slips:
        return False
    if stop - first < cast.MIN_LIFE or min(b - a for a, b in stretches) < _MIN_RUN:
        return False
    if len(stretches) == 1:
        return True
    absence = stretches[1][0] - stretches[0][1]
    away = print_.areas[stretches[0][1] : stretches[1][0]] < stage.sliver
    if role.hidden is None:
        return bool(away.all()) and absence >= _MIN_RETURN
    return not away.any() and role.hidden[0] <= absence <= role.hidden[1]


def _trimmed(player: Player) -> Player:
    """The object exists from the first to the last frame it is seen in."""
    frames = np.flatnonzero(player.seen)
    start, stop = int(frames[0]), int(frames[-1]) + 1
    player.bodies[0] = dataclasses.replace(player.bodies[0], start=start, stop=stop)
    print_ = player.prints[0]
    kept = (print_.frames >= start) & (print_.frames < stop)
    player.prints[0] = Footprint(
        pixels=print_.pixels[kept],
        frames=print_.frames[kept],
        areas=np.bincount(print_.frames[kept], minlength=len(print_.areas)),
    )
    player.visible = np.where(player.seen, player.visible, 0)
    return player


# --- among the others -----------------------------------------------------------------------------


def _try_together(
    stage: Stage, player: Player, players: Sequence[Player], allowed: int
) -> int | None:
    """How many unplanned crossings it adds; None where it breaks a promise."""
    others = 0
    for other in players:
        found = crossings(player.prints[0], other.prints[0], stage.scratch)
        twins = player.role.twin == other.role.number
        if twins and player.role.relation in ("cross", "cross_hidden"):
            if not found:
                return None
        elif twins and player.role.relation == "touch":
            if found or not _touch(stage, player, other):
                return None
        else:
            others += len(found)
    if others > allowed:
        return None
    return others if _all_keep_promises(stage, [*players, player]) else None


def _all_keep_promises(stage: Stage, players: Sequence[Player]) -> bool:
    """Whether everyone is seen in the same frames as alone, and mostly as much of them."""
    bodies = [body for player in players for body in player.bodies]
    prints = [print_ for player in players for print_ in player.prints]
    order = sorted(range(len(bodies)), key=lambda i: bodies[i].depth)
    canvas = paint([prints[i] for i in order], stage.num_frames, stage.size)
    index_of = {id(bodies[i]): rank for rank, i in enumerate(order)}
    for player in players:
        visible = seen_areas(canvas, index_of[id(player.bodies[0])], player.prints[0])
        if ((visible >= stage.sliver) != player.seen).any():
            return False
        if (visible[player.seen] * 2 < player.visible[player.seen]).mean() > _MOST_HIDDEN:
            return False
    return True


def _touch(stage: Stage, a: Player, b: Player) -> bool:
    """Whether two objects are next to each other in several frames, a pixel or two apart."""
    height, last = stage.size[0], len(stage.scratch) - 1
    near = np.zeros(stage.num_frames, bool)
    for shift in (0, 2, -2, 2 * height, -2 * height):
        moved = dataclasses.replace(
            a.prints[0], pixels=np.clip(a.prints[0].pixels + shift, 0, last)
        )
        near |= overlaps(moved, b.prints[0], stage.scratch) > 0
    return int(near.sum()) >= _MIN_TOUCH


def _flakes(stage: Stage, dice: Dice) -> list[Body]:
    """Small things that drift by below all objects; nobody asks for them."""
    count = dice.whole(0, stage.preset.max_flakes)
    made = []
    for number in range(count):
        size = dice.between(7, 15)
        frame = dice.whole(0, stage.num_frames - 1)
        anchor = paths.free_anchor(dice, stage.windows, frame, 0.0)
        steps = np.full(stage.num_frames - 1, dice.between(2.0, 8.0))
        turns = np.zeros(stage.num_frames)
        x, y = paths.wander(dice, anchor, steps, turns, stage.windows, -1e6)
        made.append(
            Body(
                kind="flake",
                outline=outline_of(dice.choice(("polygon", "ellipse")), dice),
                pose=lively(dice, size, x, y),
                start=0,
                stop=stage.num_frames,
                depth=-1.0 - number,
                look=Look(colors=f"{stage.key}/flake{number}", marking=0),
            )
        )
    return made
