"""fuse: the results of several runs over the same videos made one, video by video.

What a job with several members does while it links, done afterwards to finished results: they may
come from other machines, other days, other programs that write our tables.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from vis_core import schema
from vis_core.association.fusion import FusionConfig, MemberTrack, check_label_maps, fuse_tracks
from vis_core.association.label_maps import LabelMap, map_categories, map_track, read_label_maps
from vis_core.errors import UsageError
from vis_core.formats.model import VideoHeader
from vis_core.formats.results import Results
from vis_core.job import library_versions, new_run_id
from vis_core.schema import FileMetadata
from vis_core.stages.relink import prepared_out
from vis_core.stages.tracks import spool_fused, write_spooled
from vis_core.store.folder import Folder, open_folder
from vis_core.store.results import ResultsWriter, results_name
from vis_core.store.spool import MaskSpool
from vis_core.store.store import CATEGORIES, FUSE, VIDEOS, Store
from vis_core.types import Category, VideoInfo

VIDEOS_PER_FILE = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fusion:
    """Results of runs by name, and how they become one."""

    runs: Mapping[str, Results]
    weights: Mapping[str, float]
    config: FusionConfig
    label_maps: Mapping[str, LabelMap]

    @classmethod
    def of(
        cls, runs: Mapping[str, Results], weights: Mapping[str, float], config: FusionConfig
    ) -> Fusion:
        """Checked: labels mean the same to all runs."""
        maps = read_label_maps(config.label_map, runs)
        fusion = cls(runs=runs, weights=weights, config=config, label_maps=maps)
        check_label_maps({name: found for name in runs if (found := fusion.categories_of(name))})
        return fusion

    def categories_of(self, name: str) -> list[Category]:
        return map_categories(self.runs[name].categories(), self.label_maps.get(name, {}))

    def headers(self) -> list[VideoHeader]:
        """All videos any run knows, by id; runs must agree about their size."""
        found: dict[str, tuple[str, VideoHeader]] = {}
        for name, run in self.runs.items():
            for video_id, header in run.headers().items():
                known = found.setdefault(video_id, (name, header))
                if known[1].size != header.size:
                    raise UsageError(
                        f"{video_id!r} is {_shape(known[1])} to {known[0]!r} but {_shape(header)}"
                        f" to {name!r}: these are results of different videos"
                    )
                if header.num_frames > known[1].num_frames:
                    found[video_id] = (name, header)
        return [found[video_id][1] for video_id in sorted(found)]

    def tracks(self, video_id: str) -> Iterator[MemberTrack]:
        """Every run's tracks of a video, one at a time."""
        for name, run in self.runs.items():
            found = run.tracks_of(video_id)
            if found is None:
                continue
            vectors = run.class_scores_of(video_id)
            for position in range(len(found)):
                mine = found.of_track(position)
                track = MemberTrack(
                    member=name,
                    track_id=int(found.track_ids[position]),
                    label=int(found.labels[position]),
                    score=float(found.scores[position]),
                    class_scores=vectors[position],
                    frame_index=found.frame_index[mine],
                    masks=found.masks[mine],
                    mask_scores=found.mask_scores[mine].astype(np.float32),
                )
                yield map_track(track, self.label_maps.get(name, {}))


def fuse_results(
    fusion: Fusion,
    out: str,
    *,
    row_group_bytes: int,
    each: Callable[[], None] = lambda: None,
) -> tuple[int, int, int]:
    """Writes the fused result to `out`; returns the numbers of videos, tracks and masks."""
    headers = fusion.headers()
    run_id = new_run_id()
    with prepared_out(out, run_id) as lease:
        folder = open_folder(out).guarded(lease.check)
        num_tracks = num_masks = 0
        for first in range(0, len(headers), VIDEOS_PER_FILE):
            batch = headers[first : first + VIDEOS_PER_FILE]
            tracks, masks = _write_batch(fusion, batch, folder, run_id, row_group_bytes, each)
            num_tracks, num_masks = num_tracks + tracks, num_masks + masks
        _write_tables(fusion, headers, folder)
    return len(headers), num_tracks, num_masks


def _write_batch(
    fusion: Fusion,
    batch: Sequence[VideoHeader],
    folder: Folder,
    run_id: str,
    row_group_bytes: int,
    each: Callable[[], None],
) -> tuple[int, int]:
    num_tracks = num_masks = 0
    no_holes = {name: np.zeros(0, np.int32) for name in fusion.runs}
    with ResultsWriter(folder, FileMetadata(system="fusion"), row_group_bytes) as writer:
        for header in batch:
            found = fuse_tracks(
                fusion.tracks(header.video_id), fusion.weights, header.size, fusion.config
            )
            with MaskSpool() as spool:
                tracks = spool_fused(found, spool)
                more = write_spooled(_video(header), tracks, spool, writer, no_holes)
            num_tracks, num_masks = num_tracks + more[0], num_masks + more[1]
            each()
        writer.commit(results_name([header.video_id for header in batch], run_id))
    return num_tracks, num_masks


def _write_tables(fusion: Fusion, headers: Sequence[VideoHeader], folder: Folder) -> None:
    """The small tables, and a record of what was done."""
    store, metadata = Store(folder), FileMetadata(system="fusion")
    videos = schema.videos_to_table([_video(header) for header in headers])
    store.write_table(VIDEOS, videos, metadata)
    rows = [
        {"member": name, **dataclasses.asdict(category)}
        for name in fusion.runs
        for category in fusion.categories_of(name)
    ]
    categories = pa.Table.from_pylist(rows, schema=schema.CATEGORIES)
    store.write_table(CATEGORIES, categories, metadata)
    record = {
        "fusion": dataclasses.asdict(fusion.config),
        "runs": {
            name: {"path": run.path, "weight": fusion.weights[name]}
            for name, run in fusion.runs.items()
        },
        "versions": library_versions(),
    }
    folder.replace(FUSE, json.dumps(record, indent=2).encode() + b"\n")


def _shape(header: VideoHeader) -> str:
    return f"{header.height}x{header.width}"


def _video(header: VideoHeader) -> VideoInfo:
    return VideoInfo(
        video_id=header.video_id,
        uri="",
        version="",
        bytes=0,
        height=header.height,
        width=header.width,
        num_frames=header.num_frames,
        fps=0.0,
        duration_seconds=0.0,
        codec="",
    )
