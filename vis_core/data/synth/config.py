"""Settings of synthetic clips: the presets as data, the picture, and the ranges of seeds.

Lengths are in scene units: pixels of a picture of 360 x 640. A preset names *quotas*. They are
dealt to the clips, not drawn, so that a few clips hold them as well as many do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

from vis_core.config import unknown_name

UNIT_AREA = 360 * 640  # pixels of the picture whose pixels are scene units
FRAME_COUNTS = (36, 72)
MIN_SIDE_PX, MAX_SIDE_PX = 96, 4096
MAX_FPS = 240.0

# First seed and the first beyond, by what the clips may be used for.
SEED_RANGES: Mapping[str, tuple[int, int]] = {
    "training": (0, 1_000_000),
    "validation": (1_000_000, 2_000_000),
    "test": (2_000_000, 2**31),
}

# Neighbours are the pairs that are easily taken for each other: 0 and 1, 2 and 3, …
CLOSED_FAMILIES = (
    *("hexagon", "octagon", "star5", "star6"),
    *("crescent", "horseshoe", "heart", "drop"),
)
OPEN_FAMILIES = ("arrow", "bolt", "gear", "fish", "dumbbell", "trident", "leaf", "blob")

Relation = Literal["cross", "cross_hidden", "touch", "apart"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Preset:
    """What happens in the clips of a preset; shares are of all objects unless they say more."""

    # Shapes of the objects, in confusable pairs.
    families: tuple[str, ...]
    # Category names, one per family; or a single one, where truth tells no classes apart.
    categories: tuple[str, ...]
    # Objects that appear after the first frame. High: few tracks start together.
    late_share: float
    # Objects that vanish for good before the last frame.
    gone_share: float
    # Objects that something hides completely once. High: linkers without memory break tracks.
    hidden_share: float
    # Shares of those absences, each with its shortest and longest length in frames.
    hidden_lengths: tuple[tuple[float, int, int], ...]
    # Objects of the first frame that leave the picture for 5 frames or more and come back.
    return_share: float
    # Objects that move a third of their size or more in two frames. High: overlap fails as a cue.
    fast_share: float
    # Objects that rest for most of their life. High: motion fails as a cue.
    resting_share: float
    # Objects with a look-alike in the clip: same category and colours, other markings.
    twin_share: float
    # What two look-alikes do, as shares of the pairs.
    relations: tuple[tuple[Relation, float], ...]
    # Crossings of other objects allowed for each planned crossing of look-alikes.
    other_crossings: float
    # Unannotated flakes that drift through the picture: at most this many. High: motion misleads.
    max_flakes: int

    def __post_init__(self) -> None:
        if len(self.categories) not in (1, len(self.families)):
            raise ValueError(
                f"categories: expected 1 or one per family ({len(self.families)}), "
                f"got {len(self.categories)}"
            )
        for field in dataclasses.fields(self):
            if field.name.endswith("_share") and not 0 <= getattr(self, field.name) <= 1:
                raise ValueError(f"{field.name}: expected 0 to 1, got {getattr(self, field.name)}")
        for name, shares in (
            ("hidden_lengths", [row[0] for row in self.hidden_lengths]),
            ("relations", [share for _, share in self.relations]),
        ):
            if abs(math.fsum(shares) - 1) > 1e-9:
                raise ValueError(f"{name}: expected shares that add up to 1, got {shares}")


PRESETS: Mapping[str, Preset] = {
    "plain": Preset(
        families=CLOSED_FAMILIES,
        categories=CLOSED_FAMILIES,
        late_share=0.52,
        gone_share=0.4,
        hidden_share=0.12,
        hidden_lengths=((1.0, 1, 3),),
        return_share=0.1,
        fast_share=0.36,
        resting_share=0.2,
        twin_share=0.6,
        relations=(("cross", 0.45), ("touch", 0.35), ("apart", 0.2)),
        other_crossings=2.0,
        max_flakes=4,
    ),
    "occluded": Preset(
        families=CLOSED_FAMILIES,
        categories=CLOSED_FAMILIES,
        late_share=0.52,
        gone_share=0.3,
        hidden_share=0.56,
        hidden_lengths=((0.3, 1, 3), (0.5, 4, 9), (0.2, 11, 16)),
        return_share=0.08,
        fast_share=0.36,
        resting_share=0.08,
        twin_share=0.88,
        relations=(("cross", 0.5), ("cross_hidden", 0.42), ("touch", 0.08)),
        other_crossings=1.0,
        max_flakes=2,
    ),
    "open_world": Preset(
        families=OPEN_FAMILIES,
        categories=("object",),
        late_share=0.52,
        gone_share=0.4,
        hidden_share=0.2,
        hidden_lengths=((0.5, 1, 3), (0.5, 4, 9)),
        return_share=0.1,
        fast_share=0.36,
        resting_share=0.2,
        twin_share=0.5,
        relations=(("cross", 0.5), ("touch", 0.3), ("apart", 0.2)),
        other_crossings=2.0,
        max_flakes=0,  # without classes, a thing that moves cannot be called a distractor
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SynthConfig:
    """One kind of clip. Clips of one seed show the same scene at any size."""

    # What happens; see `PRESETS`.
    preset: str = "plain"
    # Length of a clip. Longer clips have longer lives, not more objects.
    num_frames: int = 36
    # Size of the picture in pixels, even for the sake of H.264. Below 180 small objects are lost.
    height: int = 360
    width: int = 640
    # Frames per second written to the file; motion per frame does not depend on it.
    fps: float = 12.0

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(unknown_name("preset", self.preset, sorted(PRESETS)))
        if self.num_frames not in FRAME_COUNTS:
            choices = " or ".join(map(str, FRAME_COUNTS))
            raise ValueError(f"frames: expected {choices}, got {self.num_frames}")
        for name in ("height", "width"):
            side = getattr(self, name)
            if side % 2 or not MIN_SIDE_PX <= side <= MAX_SIDE_PX:
                raise ValueError(
                    f"{name}: expected an even number from {MIN_SIDE_PX} to {MAX_SIDE_PX}, "
                    f"got {side}"
                )
        if not max(self.height, self.width) <= 3 * min(self.height, self.width):
            raise ValueError(
                f"height and width: expected at most 3 to 1, got {self.height} x {self.width}"
            )
        if not (math.isfinite(self.fps) and 1 <= self.fps <= MAX_FPS):
            raise ValueError(f"fps: expected a rate from 1 to {MAX_FPS:.0f}, got {self.fps}")

    def key(self, seed: int) -> str:
        """What chance hangs on: clips of two presets have nothing in common."""
        return f"{self.preset}/{seed}"

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def px_per_unit(self) -> float:
        """Pixels per scene unit; 1 at 360 x 640."""
        return math.sqrt(self.height * self.width / UNIT_AREA)


def use_of_seed(seed: int) -> str:
    """What clips of this seed may be used for: `training`, `validation` or `test`."""
    for use, (first, stop) in SEED_RANGES.items():
        if first <= seed < stop:
            return use
    last = max(stop for _, stop in SEED_RANGES.values()) - 1
    raise ValueError(f"seed: expected a whole number from 0 to {last}, got {seed}")


def check_seeds(seed: int, num_videos: int) -> str:
    """The one use of clips `seed`, `seed` + 1, …; an error where they belong to two."""
    if num_videos < 1:
        raise ValueError(f"videos: expected 1 or more, got {num_videos}")
    use = use_of_seed(seed)
    stop = SEED_RANGES[use][1]
    if seed + num_videos > stop:
        raise ValueError(
            f"videos {num_videos} from seed {seed}: clip i has seed + i, and {use} seeds end at "
            f"{stop - 1}; ask for at most {stop - seed} videos, or start lower"
        )
    return use
