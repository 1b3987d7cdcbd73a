"""A results folder in somebody else's format: videos stream through, one in memory at a time."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from vis_core.config import check, setting, unknown_name
from vis_core.errors import UsageError
from vis_core.formats.cocovid import CocoVideoWriter
from vis_core.formats.cvat import CvatWriter
from vis_core.formats.davis import MOST_OBJECTS, DavisWriter
from vis_core.formats.fields import shown
from vis_core.formats.labels import LabelMap, match_labels, relabelled
from vis_core.formats.model import IntArray, VideoTracks, one_line_each, select_tracks
from vis_core.formats.mots import MotsWriter
from vis_core.formats.output import check_is_new, new_file, new_folder
from vis_core.formats.results import Results
from vis_core.formats.rows import RowsWriter
from vis_core.formats.ytvis import ResultsWriter, TruthFile, TruthWriter
from vis_core.progress import Progress, Silence

logger = logging.getLogger(__name__)

FORMATS = ("ytvis", "coco", "davis", "mots", "cvat", "rows")
_FOLDERS = ("davis", "mots", "cvat")  # a file or more per video
_ONLY = {
    "flavour": "ytvis",
    "truth": "ytvis",
    "categories": "ytvis",
    "max_objects": "davis",
    "mots_class": "mots",
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """What is written, and how far a format is stretched."""

    min_score: float | None = setting(
        None,
        says="Lines below this score are left out. Too low floods formats made for few objects, too"
        " high loses some.",
    )
    flavour: Literal["results", "truth"] = setting(
        "results",
        says="ytvis: `results` writes scored lines to be evaluated, `truth` annotations to train"
        " on.",
    )
    truth: str | None = setting(
        None,
        says="ytvis: a truth file whose numbers of videos and categories to use, as a server"
        " expects them.",
    )
    categories: Literal["same", "common"] = setting(
        "same",
        says="ytvis with truth: `same` refuses categories the truth does not know, `common` drops"
        " them.",
    )
    max_objects: int = setting(
        20,
        low=1,
        high=MOST_OBJECTS,
        because="a PNG has 256 values, of which 0 is background and 255 void",
        says="davis: objects of a video, best first; its evaluator refuses more than 20.",
    )
    mots_class: int | None = setting(
        None,
        low=1,
        high=9,
        says="mots: the class of every track; none takes the labels, of which 10 is not allowed.",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.truth is not None and self.flavour == "truth":
            raise ValueError("truth=FILE numbers results; it has no place in flavour=truth")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExportReport:
    """What was written, and what the format could not hold."""

    format: str
    out: str
    num_videos: int
    num_tracks: int
    num_masks: int
    notes: tuple[str, ...]


class Writer(Protocol):
    """One output; `add` takes each video once, `close` ends what must be ended."""

    def add(self, tracks: VideoTracks, frames: IntArray) -> None: ...

    def close(self) -> None: ...


def export(
    results: str,
    format_name: str,
    out: str,
    config: ExportConfig | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Writes every video of a results folder, or of a folder of tracks."""
    config, progress = config or ExportConfig(), progress or Silence()
    if format_name not in FORMATS:
        raise UsageError(unknown_name("format", format_name, FORMATS))
    for name, only in _ONLY.items():
        if only != format_name and getattr(config, name) != getattr(ExportConfig(), name):
            logger.warning("%s has no effect on format %s, only on %s", name, format_name, only)
    path = check_is_new(out)
    source = Results(results)
    prepared = _preparation(source, format_name, config)
    if failed := source.failed():
        logger.warning("%d videos could not be labelled: %s", len(failed), shown(failed))
    num_videos = num_tracks = num_masks = left_out = 0
    with new_folder(path) if format_name in _FOLDERS else new_file(path) as staged:
        writer = _writer(source, format_name, config, staged, path.suffix)
        progress.begin("export", 0, "videos")
        for tracks in source.tracks():
            ready = prepared(tracks)
            looked_at = source.looked_at(tracks.video.video_id)
            every = np.arange(tracks.video.num_frames)
            writer.add(ready, every if looked_at is None else looked_at)
            num_videos += 1
            num_tracks += len(ready)
            num_masks += len(ready.masks)
            left_out += len(tracks) - len(ready)
            progress.advance(1)
        writer.close()
        progress.end()
    notes = [f"{left_out} tracks left out, of which no result line remains"] if left_out else []
    return ExportReport(
        format=format_name,
        out=out,
        num_videos=num_videos,
        num_tracks=num_tracks,
        num_masks=num_masks,
        notes=(*notes, *_costs(writer)),
    )


def _preparation(
    source: Results, format_name: str, config: ExportConfig
) -> Callable[[VideoTracks], VideoTracks]:
    """What is done to a video's tracks before they are written."""
    labels: LabelMap | None = None
    if config.truth is not None and format_name == "ytvis":
        labels = match_labels(TruthFile(config.truth), source, config.categories)

    def prepare(tracks: VideoTracks) -> VideoTracks:
        if config.min_score is not None:
            keep = tracks.entries.scores >= config.min_score
            tracks = dataclasses.replace(tracks, entries=tracks.entries.where(keep))
        if labels is not None:
            tracks = relabelled(tracks, labels)
        # These hold every entry, or join the tables as they are; elsewhere an object is one thing.
        as_stored = format_name == "rows" or (
            format_name == "ytvis" and config.flavour == "results"
        )
        return _with_any_line(tracks) if as_stored else one_line_each(tracks)

    return prepare


def _with_any_line(tracks: VideoTracks) -> VideoTracks:
    keep = np.zeros(len(tracks), bool)
    keep[tracks.entries.track] = True
    return select_tracks(tracks, keep)


def _writer(
    source: Results, format_name: str, config: ExportConfig, staged: Path, suffix: str
) -> Writer:
    if format_name == "davis":
        return DavisWriter(staged, config.max_objects)
    if format_name == "mots":
        return MotsWriter(staged, config.mots_class)
    if format_name == "ytvis" and config.flavour == "results":
        return ResultsWriter(staged, _numbers(source, config))
    categories = source.categories()
    if format_name == "ytvis":
        return TruthWriter(staged, _numbers(source, config), categories)
    if format_name == "coco":
        return CocoVideoWriter(staged, categories)
    if format_name == "cvat":
        return CvatWriter(staged, categories)
    if suffix not in (".parquet", ".csv"):
        raise UsageError(f"--out: rows are written as .parquet or .csv, got {suffix!r}")
    return RowsWriter(staged, categories, as_csv=suffix == ".csv")


def _numbers(source: Results, config: ExportConfig) -> dict[str, int]:
    """The number of each video: its place among the sorted ids, or that of a truth file."""
    names = sorted(source.headers())
    if config.truth is None:
        if config.flavour == "results":
            logger.warning(
                "videos are numbered from 1 in the order of their ids; --set truth=FILE takes the"
                " numbers of a data set"
            )
        return {name: number for number, name in enumerate(names, 1)}
    truth = TruthFile(config.truth)
    if strangers := [name for name in names if name not in truth.videos]:
        raise UsageError(
            f"{len(strangers)} of {len(names)} videos are not in {config.truth}:"
            f" {shown(strangers)}; is it the truth of another data set or split?"
        )
    return {name: truth.videos[name].number for name in names}


def _costs(writer: Writer) -> Iterator[str]:
    """What overlaps and limits of the format cost."""
    if isinstance(writer, DavisWriter | MotsWriter) and writer.hidden_pixels:
        share = 100 * writer.hidden_pixels / writer.num_pixels
        yield f"{share:.2f} % of mask pixels hidden under tracks of higher score"
    if isinstance(writer, DavisWriter) and writer.tracks_left_out:
        yield f"{writer.tracks_left_out} tracks left out, beyond max_objects of their video"
