"""Frames per second of the flow_match linker on one core, beside plain loops over whole frames.

    python -m tests.bench.link_flow_match

720p, 20 objects that cross and leave, each seen in nine of ten frames and a pixel off, flow at an
eighth. Masks stay run lengths and crops. The plain loops link the first frames only, and must give
the same tracks there. CPU time, so that other work on the machine does not count.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence

import numpy as np

from tests.support.fakes import fake_video
from tests.support.golden import assert_same_tracks, tracks_of_plans
from tests.support.reference_flow_match import link_flow_match
from vis_core.system import link
from vis_core.systems.flow_match import FlowMatchLinkConfig, FlowMatchLinker
from vis_core.systems.oracle import OraclePredictConfig
from vis_core.systems.oracle.predictor import OraclePredictor
from vis_core.types import FrameBatch, FramePrediction, VideoInfo
from vis_core.windows import ShardWindow

SIZE = (720, 1280)
NUM_OBJECTS = 20
RUNS = 5


def measure(num_frames: int = 300, reference_frames: int = 12) -> dict[str, object]:
    """Median and range of the rates, and the ratio to the plain loops."""
    video = fake_video("bench", num_frames, height=SIZE[0], width=SIZE[1])
    rows = link_rows(video)
    first = rows[:reference_frames]
    started = time.process_time()
    expected = link_flow_match(first)
    reference_fps = len(first) / (time.process_time() - started)
    found = link(FlowMatchLinker(FlowMatchLinkConfig()), video, first)
    assert (
        len(assert_same_tracks(tracks_of_plans(found, first, video), expected)) >= NUM_OBJECTS / 2
    )
    rates = []
    for _ in range(RUNS):
        started = time.process_time()
        plans = link(FlowMatchLinker(FlowMatchLinkConfig()), video, rows)
        rates.append(len(rows) / (time.process_time() - started))
    return {
        "linker": "flow_match",
        "frames": len(rows),
        "instances": round(sum(map(len, rows)) / len(rows), 1),
        "tracks": len(plans),
        "fps": round(statistics.median(rates)),
        "fps_range": [round(min(rates)), round(max(rates))],
        "reference_fps": round(reference_fps, 2),
        "ratio": round(statistics.median(rates) / reference_fps, 1),
    }


def link_rows(video: VideoInfo) -> Sequence[FramePrediction]:
    """What the oracle says of a computed scene; it looks at no pixel."""
    settings = {"drop": 0.1, "jitter_px": 1.0, "score_noise": 0.05, "flow": True}
    config = OraclePredictConfig(truth=f"formula:{NUM_OBJECTS}", **settings)
    index = np.arange(video.num_frames)
    blank = np.broadcast_to(np.zeros((), np.uint8), (len(index), *SIZE, 3))
    batch = FrameBatch(
        video_id=video.video_id,
        frame_index=index,
        pts_seconds=index / 25,
        frames=blank,
        rank=index,
    )
    window = ShardWindow(video=video, start=0, stop=video.num_frames)
    return list(OraclePredictor(config).predict(iter([batch]), window))


if __name__ == "__main__":
    print(json.dumps(measure()))
