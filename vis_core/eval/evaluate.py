"""Results against a truth file: first whether the two belong together, then video by video."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from vis_core.config import check, setting, unknown_name
from vis_core.errors import UsageError
from vis_core.eval.overlap import volumes
from vis_core.eval.ytvis import TrackAP
from vis_core.formats.fields import shown
from vis_core.formats.labels import match_labels, relabelled
from vis_core.formats.model import (
    IntArray,
    TruthTracks,
    VideoHeader,
    VideoTracks,
    no_tracks,
    one_line_each,
    only_frames,
    select_tracks,
)
from vis_core.formats.results import Results
from vis_core.formats.ytvis import ResultsFile, TruthFile
from vis_core.progress import Progress, Silence
from vis_core.video.sampling import Sampling

logger = logging.getLogger(__name__)

METRICS = ("ytvis", "uvo", "davis", "hota")
Source = Results | ResultsFile
Figures = dict[str, float | None]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EvalConfig:
    """What of the results is compared with what of the truth."""

    min_score: float | None = setting(
        None,
        says="Result lines below this score are left out. Too high loses objects, too low costs"
        " `hota` false ones.",
    )
    frames: Literal["all", "predicted"] = setting(
        "all",
        says="Frames that count: `all` of the truth, or those that the job sampled (`--every`,"
        " `--fps`).",
    )
    videos: Literal["same", "common"] = setting(
        "same",
        says="`same`: results and truth must know the same videos; `common` scores those that both"
        " know.",
    )
    categories: Literal["same", "common"] = setting(
        "same",
        says="`same`: the truth must know every predicted category; `common` drops lines of the"
        " others.",
    )

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Evaluation:
    """The figures, 0 to 100 (null: nothing to find), and how much they rest on."""

    metric: str
    figures: Figures
    per_category: list[dict[str, Any]]  # only `ytvis` tells categories apart
    num_videos: int
    num_truths: int
    num_tracks: int


class Metric(Protocol):
    """Takes videos in any order; `rank` is a video's place in the order of the truth."""

    def add(self, rank: int, truth: TruthTracks, found: VideoTracks) -> None: ...

    def result(self) -> Figures: ...


def evaluate(
    results: str,
    truth: str,
    metric: str,
    config: EvalConfig | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Scores a results folder, a folder of tracks, or a results file in YouTube-VIS format."""
    config, progress = config or EvalConfig(), progress or Silence()
    if metric not in METRICS:
        raise UsageError(unknown_name("metric", metric, METRICS))
    truth_file = TruthFile(truth)
    source = open_results(results, truth_file, skip_strangers=config.videos == "common")
    names = _videos_to_score(truth_file, source, config)
    scorer, prepare = _scorer(metric, truth_file, source, config)
    ranks = {name: rank for rank, name in enumerate(names)}
    frames_of = _frames_of(source, config)
    num_truths = num_tracks = 0
    progress.begin("eval", len(names), "videos")
    for found in _every_video(source, truth_file, names):
        name = found.video.video_id
        expected, found = _in_frames(truth_file.video(name), found, frames_of(name))
        if config.min_score is not None:
            found = _with_lines(found, found.entries.scores >= config.min_score)
        found = prepare(found)
        num_truths += len(expected.tracks)
        num_tracks += len(found)
        scorer.add(ranks[name], expected, found)
        progress.advance(1)
    progress.end()
    return Evaluation(
        metric=metric,
        figures=scorer.result(),
        per_category=_per_category(truth_file, scorer) if metric == "ytvis" else [],
        num_videos=len(names),
        num_truths=num_truths,
        num_tracks=num_tracks,
    )


def open_results(path: str, truth: TruthFile, *, skip_strangers: bool = False) -> Source:
    """A file is read as YouTube-VIS results, anything else as a folder of ours."""
    if "://" not in path and Path(path).is_file():
        return ResultsFile(path, truth, skip_strangers=skip_strangers)
    return Results(path)


def _scorer(
    metric: str, truth: TruthFile, source: Source, config: EvalConfig
) -> tuple[Metric, Callable[[VideoTracks], VideoTracks]]:
    """The metric, and what is done to the tracks of a video before it sees them."""
    if metric == "ytvis":
        labels = match_labels(truth, source, config.categories)
        known = [category.label for category in truth.categories]
        return TrackAP(known), lambda found: relabelled(found, labels)
    if metric == "uvo":
        return TrackAP([], use_labels=False), lambda found: found
    if metric == "davis":
        from vis_core.eval.davis import DavisScore

        return DavisScore(), one_line_each
    from vis_core.eval.hota import Identity

    return Identity(), one_line_each


def _per_category(truth: TruthFile, scorer: Metric) -> list[dict[str, Any]]:
    assert isinstance(scorer, TrackAP)
    figures = scorer.per_label()
    return [
        {"label": category.label, "name": category.name, **figures[category.label]}
        for category in truth.categories
    ]


def _every_video(source: Source, truth: TruthFile, names: Iterable[str]) -> Iterable[VideoTracks]:
    """Each video once: as the results are stored, then those without any."""
    left = set(names)
    for found in source.tracks(left.copy()):
        left.discard(found.video.video_id)
        yield found
    for name in sorted(left):
        yield no_tracks(truth.videos[name].header)


# --- do the two belong together -------------------------------------------------------------------


def _videos_to_score(truth: TruthFile, source: Source, config: EvalConfig) -> list[str]:
    """Ids in the order of the truth's numbers; wrong pairs of files end here."""
    headers = source.headers()
    failed = set(source.failed()) if isinstance(source, Results) else set()
    complete = isinstance(source, Results) and source.lists_videos
    strangers = sorted(set(headers) - set(truth.videos))
    missing = sorted(set(truth.videos) - set(headers))
    if len(strangers) == len(headers) and headers:
        raise UsageError(
            f"no video of {source.path} is in {truth.path}: there {shown(strangers, 3)}, here"
            f" {shown(sorted(truth.videos), 3)}; the folder part of a truth's file names, or its"
            " `video_id`, must be the id in the results"
        )
    if config.videos == "same" and (strangers or (complete and missing)):
        parts = [
            f"{len(found)} videos of {path} are not in {other}: {shown(found)}"
            for found, path, other in (
                (strangers, source.path, truth.path),
                (missing if complete else [], truth.path, source.path),
            )
            if found
        ]
        raise UsageError(
            f"{'; '.join(parts)}. Is this the truth of these results? --set videos=common scores"
            " what both have"
        )
    names = [name for name in truth.videos if name in headers or not complete]
    if not complete and missing:
        logger.warning(
            "%d of %d videos of the truth have no results and count as such: %s",
            len(missing),
            len(truth.videos),
            shown(missing),
        )
    if unlabelled := sorted(failed.intersection(names)):
        logger.warning(
            "%d videos could not be labelled and count as without results: %s",
            len(unlabelled),
            shown(unlabelled),
        )
    _check_shapes(truth, {name: headers[name] for name in names if name in headers}, failed)
    return sorted(names, key=lambda name: truth.videos[name].number)


def _check_shapes(truth: TruthFile, headers: Mapping[str, VideoHeader], failed: set[str]) -> None:
    """Lengths and sizes must be those of the truth."""
    lengths, sizes = [], []
    for name, header in sorted(headers.items()):
        expected = truth.videos[name].header
        if name in failed:
            continue
        if header.num_frames != expected.num_frames:
            lengths.append(f"{name!r} ({header.num_frames} frames, truth {expected.num_frames})")
        if header.size != expected.size:
            sizes.append(
                f"{name!r} ({header.height} x {header.width}, truth"
                f" {expected.height} x {expected.width})"
            )
    remedies = {
        "lengths": "a truth names every frame of the video, and position is the frame_index",
        "sizes (height x width)": "masks are compared at the size of the video, never resized",
    }
    for (what, remedy), wrong in zip(remedies.items(), (lengths, sizes), strict=True):
        if wrong:
            more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
            raise UsageError(
                f"{len(wrong)} of {len(headers)} videos have other {what} than in {truth.path}:"
                f" {', '.join(wrong[:5])}{more}; {remedy}"
            )


def _with_lines(found: VideoTracks, keep: np.ndarray) -> VideoTracks:
    return dataclasses.replace(found, entries=found.entries.where(keep))


# --- which frames ---------------------------------------------------------------------------------


def _frames_of(source: Source, config: EvalConfig) -> Callable[[str], IntArray | None]:
    """The frames of a video that count; None: all."""
    sampling = source.sampling if isinstance(source, Results) else None
    if config.frames == "all":
        if sampling is not None and sampling != Sampling():
            logger.warning(
                "the job looked at some frames only; the others count as missed"
                " (--set frames=predicted leaves them out)"
            )
        return lambda _: None
    if not isinstance(source, Results) or sampling is None:
        raise UsageError(
            f"frames=predicted: {source.path} does not say which frames were looked at; only a"
            " results folder with its job.yaml does"
        )
    return source.looked_at


def _in_frames(
    truth: TruthTracks, found: VideoTracks, frames: IntArray | None
) -> tuple[TruthTracks, VideoTracks]:
    """Both, as if the video had only these frames; objects of the truth seen in no other go."""
    if frames is None:
        return truth, found
    shorter = only_frames(truth.tracks, frames)
    before, after = np.diff(truth.tracks.offsets), np.diff(shorter.offsets)
    keep = (after > 0) | (before == 0)
    expected = TruthTracks(
        tracks=select_tracks(shorter, keep),
        crowd=truth.crowd[keep],
        mean_areas=(volumes(shorter) / np.maximum(after, 1))[keep],
    )
    return expected, only_frames(found, frames)
