"""Settings of a run, whichever systems it runs."""

from __future__ import annotations

import dataclasses

from vis_core.config import check, setting
from vis_core.store.parts import ROW_GROUP_BYTES
from vis_core.video.limits import Limits


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class JobSettings:
    """Settings of the run itself; none of them changes a row.

    Above its bounds a setting means nothing any more, or overflows a counter; below, nothing runs.
    """

    shard_frames: int = setting(
        512,
        low=1,
        high=10_000_000,
        says="Frames per unit of work. Too low makes many small files, too high loses more work"
        " when a process dies.",
    )
    link_rows: int = setting(
        200_000,
        low=1,
        high=1_000_000_000,
        says="Masks per results file. Too low makes many small files.",
    )
    link_seconds: float = setting(
        30.0,
        low=0,
        high=86_400,
        says="Longest time a video waits for others to be linked with.",
    )
    row_group_bytes: int = setting(
        ROW_GROUP_BYTES,
        low=1,
        high=16 << 30,
        says="Size of a row group before compression. Too high costs memory, too low compresses"
        " badly.",
    )
    flush_receipts: int = setting(
        64,
        low=1,
        high=1_000_000,
        says="Receipts per manifest file. Too low makes many small files.",
    )
    flush_seconds: float = setting(
        5.0,
        low=0.001,
        high=3600,
        says="Longest time a receipt waits to be written, and what a dead driver may lose.",
    )
    max_attempts: int = setting(
        3,
        low=1,
        high=1000,
        says="Failed attempts on one segment, such as deaths of the decoder, before it is given"
        " up.",
    )
    max_deaths_in_a_row: int = setting(
        10,
        low=1,
        high=100_000,
        says="Deaths of workers, without a unit done between them, after which the run stops.",
    )
    num_actors: int | None = setting(
        None,
        low=1,
        high=100_000,
        says="Processes that predict on Ray; none: as the cluster suggests.",
    )
    replacement_seconds: float = setting(
        60.0,
        low=0.001,
        high=86_400,
        says="How long a lost node may take to be replaced before the work is planned without it.",
    )
    trace: str = setting(
        "", says="File to write when each unit and each link ran, for a trace viewer; empty: none."
    )
    index_workers: int = setting(2, low=1, high=1024, says="Files probed at once.")
    decode_timeout_seconds: float = setting(
        60.0,
        low=0.001,
        high=86_400,
        says="Time without a frame after which the decoder is killed. Too low gives up slow files.",
    )
    decode_threads: int = setting(
        1,
        low=1,
        high=256,
        says="Threads of a decoder. More is faster on large frames; damaged files may then vary.",
    )
    decode_memory_bytes: int = setting(
        4 << 30,
        low=256 << 20,
        high=64 << 40,
        because="the decoder itself needs some before the first frame",
        says="Address space of the decoder child. Too low gives up large frames.",
    )
    max_frame_pixels: int = setting(
        64_000_000, low=1, high=(1 << 31) - 1, says="Videos with larger frames are refused."
    )
    max_video_frames: int = setting(
        10_000_000, low=1, high=(1 << 31) - 1, says="Longer videos are refused."
    )

    def __post_init__(self) -> None:
        check(self)

    @property
    def limits(self) -> Limits:
        return Limits(
            timeout_seconds=self.decode_timeout_seconds,
            max_frame_pixels=self.max_frame_pixels,
            max_memory_bytes=self.decode_memory_bytes,
            max_frames=self.max_video_frames,
            decode_threads=self.decode_threads,
        )
