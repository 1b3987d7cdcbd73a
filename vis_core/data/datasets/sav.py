"""SA-V: `<id>.mp4` beside `<id>_manual.json` or `<id>_auto.json`, in any folders."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vis_core.data.datasets import problems as kinds
from vis_core.data.datasets.config import DataSetConfig
from vis_core.data.datasets.files import Names, folder_of
from vis_core.data.datasets.model import LabelledVideo
from vis_core.data.datasets.problems import Flaw, Problems
from vis_core.data.datasets.reading import OBJECT, FileDataSet, Movies, truth_of
from vis_core.errors import UsageError
from vis_core.formats import fields
from vis_core.formats.model import TruthTracks, VideoHeader, select_tracks
from vis_core.formats.sav import EVERY, read_sav
from vis_core.video.limits import Limits

_KINDS = ("manual", "auto")  # where both are there, the first counts
_HEAD_BYTES = 16 << 10
_END_OF_HEAD = b'"masklet"'  # the masks, which are nearly all of the file


class SavTruth:
    """Masklets of every fourth frame."""

    def __init__(self, root: Path, files: Iterable[str]) -> None:
        self._root = str(root)
        self._files = Names(files)

    def read(self, video: int, header: VideoHeader, problems: Problems) -> TruthTracks:
        path = Path(self._root) / self._files[video]
        tracks = read_sav(str(path))
        if tracks.video != header:
            raise UsageError(f"{path}: has changed since it was opened")
        _check_length(path, header, int(tracks.frame_index.max(initial=-1)))
        seen = np.diff(tracks.offsets) > 0
        for number in tracks.track_ids[~seen].tolist():
            problems.add(kinds.EMPTY_MASKS, f"{header.video_id}, masklet {number}")
        return truth_of(select_tracks(tracks, seen))


def open_sav(config: DataSetConfig) -> FileDataSet:
    if config.annotations not in (None, *_KINDS):
        raise UsageError(
            f"annotations: expected one of {', '.join(_KINDS)} with layout sav, got"
            f" {config.annotations!r}"
        )
    root = folder_of(config.path, config.layout)
    wanted = (config.annotations,) if config.annotations else _KINDS
    problems = Problems(config.name)
    found = list(itertools.islice(_videos(root, wanted, problems), config.limit))
    return FileDataSet(
        config,
        categories=(OBJECT,),
        videos=(video for _, _, video in found),
        frames=Movies(root, (movie for movie, _, _ in found), config.cache_short_side_px),
        truth=SavTruth(root, (path for _, path, _ in found)),
        problems=problems,
    )


def _videos(
    root: Path, wanted: tuple[str, ...], problems: Problems
) -> Iterator[tuple[str, str, LabelledVideo]]:
    """Path of the MP4, path of the JSON, and what that says of the video."""
    for folder, names in _folders(root):
        for video_id, path in sorted(_annotated(names, wanted).items()):
            movie = f"{video_id}.mp4"
            if movie not in names:
                problems.add(kinds.MISSING_VIDEOS, folder + movie)
                continue
            try:
                header = _header(root / folder / path, video_id)
            except Flaw as flaw:
                problems.add(flaw.kind, str(flaw))
                continue
            except UsageError as error:
                problems.add(kinds.UNREADABLE_TRUTH, str(error))
                continue
            annotated = np.arange(0, header.num_frames, EVERY)
            yield folder + movie, folder + path, LabelledVideo(header=header, annotated=annotated)


def _folders(root: Path) -> Iterator[tuple[str, set[str]]]:
    """Every folder below, as a prefix of paths, and the files in it."""
    for path, folders, names in os.walk(root):
        folders.sort()
        below = Path(path).relative_to(root).as_posix()
        yield "" if below == "." else f"{below}/", set(names)


def _annotated(names: Iterable[str], wanted: tuple[str, ...]) -> dict[str, str]:
    """The file with the masklets of each video."""
    found: dict[str, str] = {}
    for kind in reversed(wanted):
        ending = f"_{kind}.json"
        found.update((n.removesuffix(ending), n) for n in names if n.endswith(ending))
    return found


def _header(path: Path, video_id: str) -> VideoHeader:
    """From the beginning of the file, where it is written as the data set's authors do."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    row = _leading(head)
    where = str(path)
    if row is None:
        header = read_sav(where).video
    else:
        header = VideoHeader(
            video_id=fields.text(row, "video_id", where),
            height=fields.whole(row, "video_height", where, lowest=1),
            width=fields.whole(row, "video_width", where, lowest=1),
            num_frames=fields.whole(row, "video_frame_count", where, lowest=1),
        )
    if header.num_frames > Limits().max_frames:
        raise UsageError(f"{where}: {header.num_frames} frames are too many for one video")
    if header.video_id != video_id:
        raise Flaw(kinds.OTHER_IDS, f"{path.name}: {header.video_id}")
    return header


def _leading(head: bytes) -> dict[str, object] | None:
    """The fields before the masks; None where the file has another order."""
    text, masks, _ = head.partition(_END_OF_HEAD)
    if not masks:
        return None
    try:
        row = json.loads(text.rstrip().removesuffix(b",") + b"}")
    except ValueError:
        return None
    return row if isinstance(row, dict) and "video_frame_count" in row else None


def _check_length(path: Path, header: VideoHeader, last: int) -> None:
    """A list of masks that breaks off is no truth about the rest; read again only in doubt."""
    expected = -(-header.num_frames // EVERY)
    if last == (expected - 1) * EVERY:
        return
    found = len(json.loads(path.read_bytes())["masklet"])
    if found != expected:
        raise UsageError(
            f"{path}: expected masks of {expected} frames, every fourth of {header.num_frames},"
            f" got {found}"
        )
