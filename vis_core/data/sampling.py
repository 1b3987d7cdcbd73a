"""Which clip a draw sees: a pure function of the seed and the draw's number.

Nothing depends on who loads it, or when. Data sets are mixed by weight, exactly so in every block
of draws; within a data set each epoch is a permutation: every base frame comes once per epoch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np

from vis_core.config import check, setting
from vis_core.data.datasets.model import DataSet
from vis_core.data.sample import BoolArray, IntArray, Sample
from vis_core.errors import UsageError
from vis_core.formats.model import TruthTracks
from vis_core.masks import rle

LabelMap: TypeAlias = Mapping[int, int]  # a data set's labels to positions in a recipe's list

Others: TypeAlias = Literal["near", "any", "next", "shared_classes", "same"]
Order: TypeAlias = Literal["ascending", "base_first"]

_BLOCK = 1000  # draws in which the mix of data sets is exact
_TRIES = 1000  # frames looked at for one with an instance


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """Which frames of a video make a clip."""

    num_frames: int = setting(
        1, low=1, high=1000, says="Frames of a clip: 1 for pictures, 2 for pairs."
    )
    others: Others = setting(
        "near",
        says="Where the other frames come from. `near`: up to `reach` annotated frames from the"
        " base frame; `any`: the whole video; `next`: those that follow; `shared_classes`:"
        " Propose-Reduce's rule, frames that show every instance of the classes that both have;"
        " `same`: the base frame again, as if the video were pictures without identities.",
    )
    reach: int = setting(
        10,
        low=1,
        high=1_000_000,
        says="Annotated frames that `near` may be away. Too low: nothing moves between frames; too"
        " high: nothing is the same.",
    )
    order: Order = setting(
        "ascending",
        says="`ascending`: by time, as in IDOL's pairs; `base_first`: the base frame, then the"
        " others.",
    )
    only_labelled: bool = setting(
        False,
        says="The base frame shows an instance; where it does not, another takes its turn. Off: a"
        " network also sees what is background. On: truth is read once more per draw.",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.others == "shared_classes" and self.num_frames > 2:
            raise ValueError(
                "others: shared_classes makes pairs; expected num_frames 1 or 2, got"
                f" {self.num_frames}"
            )
        if self.others == "shared_classes" and self.order != "base_first":
            raise ValueError(
                "order: expected base_first with others: shared_classes, whose two frames have"
                f" different parts, got {self.order}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """One clip: `index` is its place within the `epoch` of its data set."""

    data_set: int
    video: int
    frame_index: IntArray  # (L,)
    epoch: int
    index: int


class Draws:
    """All draws of a training; small to pickle, permutations are made again where needed."""

    def __init__(
        self,
        data_sets: Sequence[DataSet],
        weights: Sequence[float],
        config: SamplingConfig,
        seed: int,
    ) -> None:
        self._data_sets, self._config, self._seed = data_sets, config, seed
        self._starts = [_starts(data_set) for data_set in data_sets]
        self._shares = _shares(weights)
        self._kept: dict[int, tuple[int, IntArray]] = {}  # by data set: an epoch, its permutation

    def __getstate__(self) -> dict[str, Any]:
        """Without permutations: millions of numbers that a copy makes again."""
        return {**self.__dict__, "_kept": {}}

    def __len__(self) -> int:
        """Base frames of all data sets together."""
        return sum(int(starts[-1]) for starts in self._starts)

    def draw(self, number: int) -> Draw:
        """The draw of this number, from 0."""
        data_set, count = self._turn(number)
        size = int(self._starts[data_set][-1])
        epoch, index = divmod(count, size)
        base = int(self._permutation(data_set, epoch)[index])
        if self._config.only_labelled:
            base = self._labelled(data_set, base, [epoch, index])
        video, position = self._place(data_set, base)
        random = np.random.default_rng([self._seed, 1, data_set, epoch, index])
        return Draw(
            data_set=data_set,
            video=video,
            frame_index=self._frames(self._data_sets[data_set], video, position, random),
            epoch=epoch,
            index=index,
        )

    def _turn(self, number: int) -> tuple[int, int]:
        """The data set whose turn it is, and how often it was its turn before."""
        block, position = divmod(number, _BLOCK)
        order = _order(self._seed, block, self._shares)
        data_set = int(order[position])
        before = int(np.count_nonzero(order[:position] == data_set))
        return data_set, block * self._shares[data_set] + before

    def _permutation(self, data_set: int, epoch: int) -> IntArray:
        kept, permutation = self._kept.get(data_set, (-1, np.zeros(0, np.int64)))
        if kept != epoch:
            random = np.random.default_rng([self._seed, 3, data_set, epoch])
            permutation = random.permutation(int(self._starts[data_set][-1]))
            self._kept[data_set] = epoch, permutation
        return permutation

    def _place(self, data_set: int, base: int) -> tuple[int, int]:
        """The video of a base frame, and its position among the annotated frames."""
        starts = self._starts[data_set]
        video = int(np.searchsorted(starts, base, side="right")) - 1
        return video, base - int(starts[video])

    def _labelled(self, data_set: int, base: int, turn: Sequence[int]) -> int:
        """This base frame if it shows an instance, else one that does, at random.

        Nobody knows which frames do until truth is read, which takes too long for all at once.
        """
        random = np.random.default_rng([self._seed, 4, data_set, *turn])
        source = self._data_sets[data_set]
        for _ in range(_TRIES):
            video, position = self._place(data_set, base)
            if _shows_any(source.truth(video), int(source.videos[video].annotated[position])):
                return base
            base = int(random.integers(self._starts[data_set][-1]))
        raise UsageError(
            f"{source.name}: only_labelled: expected frames with instances, found none among"
            f" {_TRIES} at random"
        )

    def _frames(
        self, data_set: DataSet, video: int, position: int, random: np.random.Generator
    ) -> IntArray:
        """Frame indices of the clip whose base is the annotated frame at `position`."""
        config, annotated = self._config, data_set.videos[video].annotated
        wanted = config.num_frames - 1
        if config.others == "shared_classes":
            among = _with_shared_classes(data_set.truth(video), annotated, position)
        else:
            among = _candidates(config, len(annotated), position)
        if not len(among):
            others = np.full(wanted, position)  # no other: the same again
        elif config.others == "next":
            others = among[np.minimum(np.arange(wanted), len(among) - 1)]  # the last one again
        else:
            others = random.choice(among, wanted, replace=len(among) < wanted)
        chosen = np.concatenate([[position], others]).astype(np.int64)
        if config.order == "ascending":
            chosen.sort()
        return np.asarray(annotated[chosen], np.int64)


def _starts(data_set: DataSet) -> IntArray:
    """Where each video's base frames begin in the list of all; one more entry for the end."""
    lengths = [len(video.annotated) for video in data_set.videos]
    starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    if starts[-1] == 0:
        raise UsageError(f"{data_set.name}: no frame is annotated")
    return starts


def _shares(weights: Sequence[float]) -> tuple[int, ...]:
    """Draws of each data set in a block: by largest remainders, one at least."""
    exact = np.asarray(weights, np.float64) * _BLOCK / sum(weights)
    shares = np.maximum(1, np.floor(exact).astype(np.int64))
    order = np.argsort(shares - exact, kind="stable")
    for position in range(_BLOCK - int(shares.sum())):
        shares[order[position % len(order)]] += 1
    while shares.sum() > _BLOCK:
        shares[shares.argmax()] -= 1
    return tuple(shares.tolist())


@functools.lru_cache(maxsize=2)  # the block at hand and the one it follows
def _order(seed: int, block: int, shares: tuple[int, ...]) -> IntArray:
    turns = np.repeat(np.arange(len(shares)), shares)
    return np.random.default_rng([seed, 2, block]).permutation(turns)


def _shows_any(truth: TruthTracks, frame: int) -> bool:
    """Whether a frame has an instance that is not to be ignored."""
    owners = truth.tracks.owner[truth.tracks.frame_index == frame]
    return bool((~truth.crowd[owners]).any())


def _candidates(config: SamplingConfig, length: int, position: int) -> IntArray:
    """Positions of annotated frames that may join the one at `position`."""
    if config.others == "next":
        return np.arange(position + 1, length)
    if config.others == "same":
        return np.zeros(0, np.int64)
    reach = config.reach if config.others == "near" else length
    low, high = max(0, position - reach), min(length, position + reach + 1)
    among = np.arange(low, high)
    return among[among != position]


def _with_shared_classes(truth: TruthTracks, annotated: IntArray, position: int) -> IntArray:
    """Propose-Reduce's guidance frames (released code): an instance and a class in common, and of
    each class that both frames have, all instances of the base frame."""
    tracks = truth.tracks
    seen = np.zeros((len(annotated), len(tracks)), bool)
    rows = np.searchsorted(annotated, tracks.frame_index)
    there = rows < len(annotated)
    there[there] &= annotated[rows[there]] == tracks.frame_index[there]
    seen[rows[there], tracks.owner[there]] = True
    seen &= ~truth.crowd
    base = seen[position]
    found = []
    for other in np.flatnonzero((seen & base).any(axis=1)).tolist():
        common = np.intersect1d(tracks.labels[base], tracks.labels[seen[other]])
        needed = base & np.isin(tracks.labels, common)
        if other != position and len(common) and (seen[other] | ~needed).all():
            found.append(other)
    return np.array(found, np.int64)


# --- reading --------------------------------------------------------------------------------------


def read_sample(data_sets: Sequence[DataSet], draw: Draw, label_maps: Sequence[LabelMap]) -> Sample:
    """The frames of a draw with their truth; instances seen in none of them are left out.

    Where frames are kept smaller than the truth says, masks are made small by area, half a pixel
    or more counting as one.
    """
    data_set, labels = data_sets[draw.data_set], label_maps[draw.data_set]
    frames = [data_set.frame(draw.video, frame) for frame in draw.frame_index.tolist()]
    truth = data_set.truth(draw.video)
    tracks = truth.tracks
    known = np.array([label in labels for label in tracks.labels.tolist()], bool)
    shown = np.zeros(len(tracks), bool)
    shown[tracks.owner[np.isin(tracks.frame_index, draw.frame_index)]] = True
    chosen = np.flatnonzero(known & shown)
    masks = [
        _masks(truth, chosen, number, (pixels.shape[0], pixels.shape[1]))
        for number, pixels in zip(draw.frame_index.tolist(), frames, strict=True)
    ]
    left = np.stack([some.any(axis=(1, 2)) for some in masks]).any(axis=0)
    return Sample(
        video_id=tracks.video.video_id,
        frame_index=draw.frame_index,
        frames=frames,
        masks=[some[left] for some in masks],
        labels=np.array([labels[int(tracks.labels[k])] for k in chosen[left]], np.int64),
        ids=tracks.track_ids[chosen[left]],
        crowd=truth.crowd[chosen[left]],
    )


def _masks(truth: TruthTracks, chosen: IntArray, frame: int, size: rle.Size) -> BoolArray:
    """(N, H, W) of the chosen tracks in one frame."""
    tracks = truth.tracks
    masks = np.zeros((len(chosen), *size), bool)
    here = np.flatnonzero(tracks.frame_index == frame)
    place_of = {int(track): place for place, track in enumerate(chosen.tolist())}
    owners = tracks.owner[here].tolist()
    mine = [(place_of[k], i) for i, k in zip(here.tolist(), owners, strict=True) if k in place_of]
    if not mine:
        return masks
    decoded = rle.decode([tracks.masks[i] for _, i in mine], tracks.video.size)
    for (place, _), mask in zip(mine, decoded, strict=True):
        masks[place] = mask if mask.shape == size else _shrunk(mask, size)
    return masks


def _shrunk(mask: BoolArray, size: rle.Size) -> BoolArray:
    # In bytes half a pixel is 127.5, which is rounded up; floats may end just below a half.
    soft = cv2.resize(mask.astype(np.uint8) * 255, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(soft > 127)
