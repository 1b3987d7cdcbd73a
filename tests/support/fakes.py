"""Small stand-ins: a system without a model, jobs on it, predictions without pixels."""

import dataclasses

import numpy as np

from vis_core.config import setting
from vis_core.job import Job, MemberSpec, make_job
from vis_core.system import LinkConfig, PredictConfig, System
from vis_core.types import FramePrediction, VideoInfo
from vis_core.windows import WindowSpec


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FakePredictConfig(PredictConfig):
    variant: int = setting(0, says="Another variant has other rows.")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FakeLinkConfig(LinkConfig):
    min_score: float = setting(0.0, says="Instances below this score are ignored.")


def _nothing(config):
    raise AssertionError("this system only exists to be planned")


FAKE = System(
    name="fake",
    predict_version=1,
    link_version=1,
    predict_config=FakePredictConfig,
    link_config=FakeLinkConfig,
    window=lambda config: WindowSpec(),
    make_predictor=_nothing,
    make_linker=_nothing,
    categories=lambda config: [],
)


def fake_job(out, **settings) -> Job:
    return make_job(["/nowhere"], str(out), [MemberSpec(system=FAKE)], settings=settings)


def fake_video(video_id: str, num_frames: int, **fields) -> VideoInfo:
    values = {
        "uri": f"file:///nowhere/{video_id}",
        "version": f"v-{num_frames}",
        "bytes": 1,
        "height": 8,
        "width": 8,
        "fps": 25.0,
        "duration_seconds": num_frames / 25,
        "codec": "h264",
        "time_base": (1, 25),
    }
    return VideoInfo(video_id=video_id, num_frames=num_frames, **{**values, **fields})


def empty_prediction(video_id: str, frame_index: int) -> FramePrediction:
    return FramePrediction(
        video_id=video_id,
        frame_index=frame_index,
        pts_seconds=frame_index / 25,
        height=8,
        width=8,
        scores=np.zeros(0, np.float32),
        labels=np.zeros(0, np.int32),
        boxes=np.zeros((0, 4), np.float32),
        masks=[],
    )
