"""The values that cross a boundary: videos, frame batches, predictions, tracks.

Shapes: T frames of a batch, H x W pixels, N instances of a frame, K categories, D embedding size,
M entries of a ragged list. Boxes are x1,y1,x2,y2 in absolute pixels; ranges are [start, stop).
All fields about instances have length N and are indexed together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.signedinteger]
FloatArray = npt.NDArray[np.floating]

VideoStatus = Literal["ok", "partial", "failed"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class VideoInfo:
    """One row of `videos`: what the index knows without decoding a frame."""

    video_id: str
    uri: str
    version: str
    bytes: int
    height: int
    width: int
    num_frames: int
    fps: float
    duration_seconds: float
    codec: str  # the codec's name; "images" for a folder of pictures
    rotation: int = 0
    key_frames: IntArray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    time_base: tuple[int, int] = (1, 1)
    pts: IntArray | None = None  # None: evenly spaced, first_pts + i * pts_step
    first_pts: int = 0
    pts_step: int = 1
    sequential: bool = False  # pts cannot be trusted or sought: decode whole, count frames
    mtime_ns: int = 0  # a hint that saves re-hashing; no part of the version
    status: VideoStatus = "ok"
    error: str | None = None
    missing_frames: int = 0  # that the container promises behind the end of a file that was cut

    def pts_of(self, frame_index: IntArray) -> IntArray:
        """Presentation time stamps, in units of `time_base`."""
        if self.pts is not None:
            return self.pts[frame_index]
        return self.first_pts + np.asarray(frame_index, np.int64) * self.pts_step

    def seconds_of(self, frame_index: IntArray) -> FloatArray:
        """Seconds since the container's time origin."""
        num, den = self.time_base
        return self.pts_of(frame_index) * (num / den)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FrameBatch:
    """Consecutive decoded frames of one video, as a predictor sees them (RGB, display size)."""

    video_id: str
    frame_index: IntArray  # (T,)
    pts_seconds: FloatArray  # (T,)
    frames: npt.NDArray[np.uint8]  # (T, H, W, 3)
    rank: IntArray  # (T,) each frame's place among the sampled frames of the video

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if len(shape) != 4 or shape[3] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(
                f"frames: expected uint8 (T, H, W, 3), got {self.frames.dtype} {shape}"
            )
        if not len(self.frame_index) == len(self.pts_seconds) == len(self.rank) == shape[0]:
            raise ValueError(
                f"{self.video_id}: {shape[0]} frames with {len(self.frame_index)} indices,"
                f" {len(self.pts_seconds)} time stamps and {len(self.rank)} ranks"
            )

    def __len__(self) -> int:
        return len(self.frame_index)

    def __repr__(self) -> str:
        first, last = (self.frame_index[0], self.frame_index[-1]) if len(self) else ("-", "-")
        return f"FrameBatch({self.video_id!r}, frames {first}..{last}, {self.frames.shape})"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RefFlow:
    """Per instance, where its centre lies in reference frames: ragged over instances."""

    offsets: IntArray  # (N + 1,): instance i owns entries offsets[i]:offsets[i + 1]
    frame_index: IntArray  # (M,)
    dydx: FloatArray  # (M, 2): reference centre = centre + (dy, dx), original pixels


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class RefAffinity:
    """Per instance, its overlap and affinity with instances of reference frames: ragged."""

    offsets: IntArray  # (N + 1,)
    frame_index: IntArray  # (M,)
    instance: IntArray  # (M,): position in the reference row's list
    iou: FloatArray  # (M,)
    affinity: FloatArray  # (M,)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FlowField:
    """Forward optical flow to the member's next row, in pixels of the original video."""

    dxdy: npt.NDArray[np.float16]  # (2, h, w): stored resolution, channel 0 = dx

    def __post_init__(self) -> None:
        if self.dxdy.ndim != 3 or self.dxdy.shape[0] != 2 or self.dxdy.dtype != np.float16:
            raise ValueError(
                f"flow: expected float16 (2, h, w), got {self.dxdy.dtype} {self.dxdy.shape}"
            )

    def __repr__(self) -> str:
        return f"FlowField({self.dxdy.shape[1]}x{self.dxdy.shape[2]})"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FramePrediction:
    """One row of `frames`: everything a system found in one frame; what linkers read."""

    video_id: str
    frame_index: int
    pts_seconds: float
    height: int
    width: int
    scores: FloatArray  # (N,) float32
    labels: IntArray  # (N,) int32, 1-based category ids
    boxes: FloatArray  # (N, 4) float32
    masks: Sequence[bytes]  # N COCO compressed RLE `counts` for (height, width)
    class_scores: FloatArray | None = None  # (N, K) float32
    no_object_logprob: FloatArray | None = None  # (N,) float32
    embeddings: FloatArray | None = None  # (N, D) float32, rounded to float16 when stored
    prev_query: IntArray | None = None  # (N,) int32
    proposals: IntArray | None = None  # (N,) int32
    centers: FloatArray | None = None  # (N, 2) float32, y, x
    mean_offsets: FloatArray | None = None  # (N, 2) float32, dy, dx
    ref_flow: RefFlow | None = None
    ref_affinity: RefAffinity | None = None
    flow: FlowField | None = None
    window: int = 0
    shot: int | None = None  # None until counted over the whole video, from `cut_after`
    cut_after: bool = False  # a shot ends with this frame

    def __post_init__(self) -> None:
        num = len(self.scores)
        expected: dict[str, tuple[int, ...]] = {
            "labels": (num,),
            "boxes": (num, 4),
            "no_object_logprob": (num,),
            "prev_query": (num,),
            "proposals": (num,),
            "centers": (num, 2),
            "mean_offsets": (num, 2),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is not None and value.shape != shape:
                raise ValueError(f"{self._where}: {name} has shape {value.shape}, expected {shape}")
        for name in ("masks", "class_scores", "embeddings"):
            value = getattr(self, name)
            if value is not None and len(value) != num:
                raise ValueError(f"{self._where}: {len(value)} {name} for {num} scores")
        for name in ("ref_flow", "ref_affinity"):
            value = getattr(self, name)
            if value is not None and len(value.offsets) != num + 1:
                raise ValueError(
                    f"{self._where}: {name} has {len(value.offsets)} offsets, expected {num + 1}"
                )

    @property
    def _where(self) -> str:
        return f"prediction of {self.video_id!r} frame {self.frame_index}"

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        return (
            f"FramePrediction({self.video_id!r}, frame {self.frame_index}, {len(self)} instances)"
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Hole:
    """Frames that could not be predicted; told to linkers in frame order."""

    start: int
    stop: int
    reason: str = ""
    window: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class CarriedMask:
    """A mask a linker made itself (warped or filled in), not one that was predicted."""

    frame_index: int
    mask: bytes
    score: float | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TrackPlan:
    """One track, by reference: which instance of which row it takes, plus masks of its own."""

    score: float
    label: int
    frame_index: IntArray  # (M,) int32: rows it takes an instance from
    instance: IntArray  # (M,) int32: position in that row's list
    window: IntArray | None = None  # (M,) int32; None: window 0
    mask_scores: FloatArray | None = None  # (M,) float32; None: the instance's own score
    carried: tuple[CarriedMask, ...] = ()
    class_scores: FloatArray | None = None  # (K,) float32; -1: dropped for that category
    entries: tuple[tuple[int, float], ...] = ()  # (label, score) lines; empty: (label, score)

    def __post_init__(self) -> None:
        if len(self.frame_index) != len(self.instance):
            raise ValueError(
                f"track: {len(self.frame_index)} frames but {len(self.instance)} instances"
            )
        for name in ("window", "mask_scores"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.frame_index):
                raise ValueError(
                    f"track: {len(value)} {name} for {len(self.frame_index)} references"
                )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Category:
    """A label and its name, as a member's model knows it."""

    label: int
    name: str
    source: str = ""
