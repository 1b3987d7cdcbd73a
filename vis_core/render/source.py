"""What there is to render: the videos of a results folder, where they are, and their tracks."""

from __future__ import annotations

import collections
import difflib
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from vis_core import schema
from vis_core.errors import SourceError, UsageError
from vis_core.render.rows import FrameMasks, RowGroups, in_frame_order
from vis_core.store.folder import open_folder
from vis_core.store.results import MASKS, TRACKS
from vis_core.store.store import CATEGORIES, VIDEOS, Store
from vis_core.types import VideoInfo
from vis_core.video.reader import VideoReader
from vis_core.video.sampling import Sampling
from vis_core.video.sources import expand_inputs
from vis_core.video.uris import shown

_MASK_COLUMNS = ("video_id", "track_id", "frame_index", "mask", "score")
_TRACK_COLUMNS = ("video_id", "track_id", "label", "members")
_LONGEST_NAME = 24  # letters of a category on a label


class RenderSource:
    """Videos and masks of a results folder, or of what `reelmask link` wrote.

    `video_ids`: only these, or all; `limit`: only the first by id; `places`: files or folders that
    hold the videos, by id, if they are not where the results say.
    """

    def __init__(
        self,
        root: str,
        video_ids: Sequence[str] = (),
        *,
        limit: int | None = None,
        places: Sequence[str] = (),
    ) -> None:
        self.root = root
        self._folder = open_folder(root, create=False)
        store = Store(self._folder)
        if not (self._folder.exists(VIDEOS) and self._folder.names(MASKS)):
            raise UsageError(
                f"{root!r} holds no results to draw; expected a folder with videos/, tracks/ and"
                " masks/, which `reelmask label` or `reelmask link` wrote"
            )
        table = _chosen(store.videos(), root, video_ids, limit)
        infos = schema.table_to_videos(table)
        wanted = {info.video_id for info in infos}
        self._masks = RowGroups(self._folder, MASKS, _columns(schema.MASKS, _MASK_COLUMNS), wanted)
        self._tracks = RowGroups(
            self._folder, TRACKS, _columns(schema.TRACKS, _TRACK_COLUMNS), wanted
        )
        # As stored, so that a row group of many short videos is read once.
        self.videos = sorted(
            infos, key=lambda v: (self._masks.places.get(v.video_id, []), v.video_id)
        )
        self.sampling = _sampling(store)
        self._categories = store.table(CATEGORIES, schema.CATEGORIES)
        self._places = ", ".join(places)
        self._sources = {s.video_id: s for s in expand_inputs(places, {})} if places else {}

    def locate(self, video: VideoInfo, reader: VideoReader) -> VideoInfo:
        """The video as it can be opened; a SourceError where it is not what the results are of."""
        if video.status == "failed":
            raise SourceError(f"it could not be labelled: {video.error}")
        if not self._places:
            if not video.uri:
                raise SourceError("the results do not say where it is; --videos PATH does")
            return video
        source = self._sources.get(video.video_id)
        if source is None:
            raise SourceError(f"no video of this id in {self._places} (--videos)")
        found = reader.probe(source)
        if found.status == "failed":
            raise SourceError(found.error or "it cannot be read")
        if _measures(found) != _measures(video):
            raise SourceError(
                f"{shown(source.uri)} has {_shown(found)}, but the results are of {_shown(video)}"
            )
        return found

    def masks(self, video: VideoInfo, frames: Sequence[int] | None = None) -> Iterator[FrameMasks]:
        """Frames that have masks, ascending; `frames`: only these."""
        tables = self._masks.tables(video.video_id)
        if frames is not None:
            some = pa.array(frames, pa.int32())
            tables = (t.filter(pc.is_in(t["frame_index"], some)) for t in tables)
        return in_frame_order(tables, (video.height, video.width))

    def num_masks(self, video: VideoInfo) -> collections.Counter[int]:
        """How many masks each frame has."""
        counts: collections.Counter[int] = collections.Counter()
        for table in self._masks.tables(video.video_id):
            counts.update(table["frame_index"].to_pylist())
        return counts

    def names(self, video: VideoInfo) -> dict[int, str]:
        """What each track is, where its member tells more than one kind of thing apart."""
        labels = {
            (row["member"] or "", row["label"]): _printable(row["name"] or "")
            for row in self._categories.to_pylist()
        }
        kinds = collections.Counter(member for member, _ in labels)
        found = {}
        for table in self._tracks.tables(video.video_id):
            for row in table.to_pylist():
                member = (row["members"] or [""])[0]
                if kinds[member] > 1 and labels.get((member, row["label"])):
                    found[row["track_id"]] = labels[member, row["label"]]
        return found


def _columns(kind: pa.Schema, names: Sequence[str]) -> pa.Schema:
    return pa.schema([kind.field(name) for name in names])


def _chosen(videos: pa.Table, root: str, video_ids: Sequence[str], limit: int | None) -> pa.Table:
    if limit is not None and limit < 1:
        raise UsageError(f"--limit: expected 1 or more, got {limit}")
    if video_ids:
        known = videos["video_id"].to_pylist()
        for video_id in sorted(set(video_ids) - set(known)):
            near = difflib.get_close_matches(video_id, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {len(known)} videos"
            raise UsageError(f"no video {video_id!r} in {root}; {hint}")
        videos = videos.filter(pc.is_in(videos["video_id"], pa.array(set(video_ids), pa.string())))
    return videos.sort_by("video_id").slice(0, limit)


def _sampling(store: Store) -> Sampling:
    """The frames the job looked at; every one where there is no job."""
    return store.sampling() or Sampling()


def _printable(name: str) -> str:
    """A name from a table of anybody's, fit for a label."""
    kept = "".join(letter for letter in name if letter.isprintable())
    return kept if len(kept) <= _LONGEST_NAME else f"{kept[: _LONGEST_NAME - 1]}…"


def _measures(video: VideoInfo) -> tuple[int, int, int]:
    return video.height, video.width, video.num_frames


def _shown(video: VideoInfo) -> str:
    return f"{video.num_frames} frames of {video.width}x{video.height}"
