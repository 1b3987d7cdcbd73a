"""What one video may cost before it counts as damaged or hostile."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds on work for one video, enforced by the reader child."""

    # Too low: slow storage looks like a hang. Too high: a hostile file holds a worker that long.
    timeout_seconds: float = 60.0
    # Too low: refuses honest 8K video. Too high: one declared size of 65535x65535 eats the memory.
    max_frame_pixels: int = 64_000_000
    # Too low: large frames with many references fail. Too high: the machine swaps first.
    max_memory_bytes: int = 4 << 30
    # Too low: refuses day-long recordings. Too high: a crafted index of packets fills memory.
    max_frames: int = 10_000_000
    # Too low: one stream cannot use idle cores. Too high: workers on one node fight for them.
    decode_threads: int = 1
