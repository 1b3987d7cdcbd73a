"""Linking predictions that are there already, on Ray: tasks over batches of videos, or groups.

`relink_on_ray` is what the command line uses. `relink_by_groups` gives the whole table to Ray's
shuffle, one group per video: simpler, with a barrier and a video's rows in memory at once. It is
the oracle the other is tested against.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from cluster import data_context
from cluster.connection import connected
from vis_core import schema
from vis_core.stages.frames_table import video_of_rows
from vis_core.stages.relink import Linked, Relink, link_batch
from vis_core.stages.tracks import MemberRows
from vis_core.system import LinkConfig, System
from vis_core.types import VideoInfo
from vis_core.video.sampling import Sampling

_FRAMES_PER_ROW = 10
LINKED = pa.schema(
    [
        ("video_id", pa.string()),
        ("num_tracks", pa.int32()),
        ("num_masks", pa.int64()),
        ("error", pa.string()),
        ("file", pa.string()),
    ]
)


def relink_on_ray(
    relink: Relink,
    link_rows: int,
    each: Callable[[list[Linked]], None] = lambda linked: None,
    *,
    address: str | None = None,
) -> list[Linked]:
    """As `vis_core.stages.relink.run`, with a task per batch; at most two waiting per CPU."""
    linked: list[Linked] = []
    with connected(address):
        shared = ray.put(relink)
        task = ray.remote(num_cpus=1, max_retries=3)(link_batch)
        at_once = 2 * max(1, int(ray.cluster_resources().get("CPU", 1)))
        running: list[ray.ObjectRef[list[Linked]]] = []
        for batch in relink.predictions.batches(max(1, link_rows // _FRAMES_PER_ROW)):
            if len(running) >= at_once:
                linked += _collect(running, each)
            running.append(task.remote(shared, batch))
        while running:
            linked += _collect(running, each)
    return linked


def _collect(
    running: list[ray.ObjectRef[list[Linked]]], each: Callable[[list[Linked]], None]
) -> list[Linked]:
    done, _ = ray.wait(running)
    running.remove(done[0])
    linked: list[Linked] = ray.get(done[0])
    each(linked)
    return linked


def relink_by_groups(frames: str, relink: Relink) -> list[Linked]:
    """One group per video through `groupby().map_groups`; `relink.predictions` is not used."""
    data_context.configure()
    rows = ray.data.read_parquet(frames)
    counted = rows.groupby("video_id").map_groups(
        _LinkGroup,
        fn_constructor_kwargs={"relink": dataclasses.replace(relink, predictions=None)},  # type: ignore[arg-type]
        batch_format="pyarrow",
        concurrency=1,
    )
    linked: list[dict[str, Any]] = counted.take_all()
    return linked


class _LinkGroup:
    """Links the rows of one video; Ray promises no order within a group."""

    def __init__(self, relink: Relink) -> None:
        self._relink = relink

    def __call__(self, group: pa.Table) -> pa.Table:
        ordered = group.sort_by([("window", "ascending"), ("frame_index", "ascending")])
        relink = dataclasses.replace(self._relink, predictions=_Group(ordered))
        linked = link_batch(relink, [ordered["video_id"][0].as_py()])
        return pa.Table.from_pylist(linked, schema=LINKED)


class _Group:
    """One video's rows, in memory, as `Predictions`."""

    sampling: Sampling | None = None

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows

    def batches(self, frames: int) -> Iterator[list[str]]:
        yield [self._rows["video_id"][0].as_py()]

    def video(self, video_id: str) -> VideoInfo:
        columns = (self._rows[name].to_numpy() for name in ("height", "width", "frame_index"))
        return video_of_rows(video_id, *columns)

    def rows(self, video_id: str, system: System, link_config: LinkConfig) -> MemberRows:
        cuts = self._rows["frame_index"].filter(self._rows["cut_after"]).to_numpy()
        return MemberRows(
            member=self._rows["member"][0].as_py(),
            system=system,
            link_config=link_config,
            tables=lambda columns: iter([self._rows]),
            cuts=cuts.astype(np.int64),
            holes=[],
            missing=np.zeros(0, np.int32),
        )

    def videos_table(self) -> pa.Table:
        return schema.videos_to_table([self.video(self._rows["video_id"][0].as_py())])

    def categories_table(self) -> pa.Table:
        return schema.CATEGORIES.empty_table()
