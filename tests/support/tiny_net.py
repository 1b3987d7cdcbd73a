"""A small real network as a system: convolutions, attention, masks; random weights by seed.

B batch, Q queries, C channels, P positions at stride 4, H x W the input.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vis_core.config import setting
from vis_core.masks import rle
from vis_core.models.numerics import exact
from vis_core.models.slots import SlottedFrame, calls, filled
from vis_core.system import NetworkConfig, System
from vis_core.systems.oracle.config import OracleLinkConfig
from vis_core.systems.oracle.linker import OracleLinker
from vis_core.types import Category, FrameBatch, FramePrediction
from vis_core.windows import ShardWindow, WindowSpec

_CHANNELS = 16
_EMBEDDING_DIM = 8


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TinyNetConfig(NetworkConfig):
    """Every call has the shape (batch_size, 3, input_height, input_width)."""

    input_height: int = setting(48, low=8, says="Height of the input.")
    input_width: int = setting(64, low=8, says="Width of the input.")
    num_queries: int = setting(5, low=1, says="Instances of a frame.")
    seed: int = setting(0, says="Another seed has other weights.")


class TinyNet(nn.Module):
    """Queries attend to stride-4 features and to each other, then paint their masks on them."""

    def __init__(self, num_queries: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _CHANNELS, 3, stride=2, padding=1)
        self.body = nn.Conv2d(_CHANNELS, _CHANNELS, 3, stride=2, padding=1)
        self.queries = nn.Parameter(torch.randn(num_queries, _CHANNELS))
        self.cross = nn.MultiheadAttention(_CHANNELS, 2, batch_first=True)
        self.mutual = nn.MultiheadAttention(_CHANNELS, 2, batch_first=True)
        self.score = nn.Linear(_CHANNELS, 1)
        self.embed = nn.Linear(_CHANNELS, _EMBEDDING_DIM)

    def forward(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.body(F.relu(self.stem(images_B3HW)))
        pixels_BPC = features.flatten(2).transpose(1, 2)
        queries_BQC = self.queries.expand(len(images_B3HW), -1, -1)
        queries_BQC = queries_BQC + self.cross(queries_BQC, pixels_BPC, pixels_BPC)[0]
        queries_BQC = queries_BQC + self.mutual(queries_BQC, queries_BQC, queries_BQC)[0]
        logits_BQhw = torch.einsum("bqc,bchw->bqhw", queries_BQC, features)
        scores_BQ = self.score(queries_BQC)[..., 0].sigmoid()
        return logits_BQhw, scores_BQ, self.embed(queries_BQC)


class TinyNetPredictor:
    """Runs core frames through the network in batches of one shape, each in its slot."""

    def __init__(self, config: TinyNetConfig) -> None:
        self._config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._net = TinyNet(config.num_queries).eval()

    def predict(
        self, frames: Iterator[FrameBatch], window: ShardWindow
    ) -> Iterator[FramePrediction]:
        for call in calls(frames, self._config.batch_size):
            owned = [frame for frame in call if window.owns(frame.frame_index)]
            if owned:
                with exact(self._config.cpu_threads):
                    rows = self._rows(owned, window)
                yield from rows

    def _rows(self, frames: list[SlottedFrame], window: ShardWindow) -> list[FramePrediction]:
        slots = [frame.slot for frame in frames]
        pictures = [self._picture(frame) for frame in frames]
        outputs = self._net(torch.stack(filled(pictures, slots, self._config.batch_size)))
        return [
            _prediction(window, frame, *(of_all[frame.slot] for of_all in outputs))
            for frame in frames
        ]

    def _picture(self, frame: SlottedFrame) -> Tensor:
        shape = (self._config.input_height, self._config.input_width)
        image = torch.from_numpy(np.ascontiguousarray(frame.pixels)).permute(2, 0, 1)[None] / 255
        return F.interpolate(image, shape, mode="bilinear")[0]


def _prediction(
    window: ShardWindow,
    frame: SlottedFrame,
    logits_Qhw: Tensor,
    scores_Q: Tensor,
    embeds_QD: Tensor,
) -> FramePrediction:
    """One instance per query whose mask has a pixel; masks cut one deviation above the mean."""
    size = frame.size
    logits_QHW = F.interpolate(logits_Qhw[None], size, mode="bilinear")[0].numpy()
    level = logits_QHW.mean((1, 2), keepdims=True) + logits_QHW.std((1, 2), keepdims=True)
    masks = rle.encode(logits_QHW > level)
    kept = np.flatnonzero(rle.areas(masks, size))
    masks = [masks[query] for query in kept]
    return FramePrediction(
        video_id=window.video.video_id,
        frame_index=frame.frame_index,
        pts_seconds=frame.pts_seconds,
        height=size[0],
        width=size[1],
        scores=scores_Q.numpy()[kept],
        labels=np.ones(len(kept), np.int32),
        boxes=rle.boxes(masks, size),
        masks=masks,
        embeddings=embeds_QD.numpy()[kept].astype(np.float16).astype(np.float32),
        proposals=kept.astype(np.int32),
        window=window.window,
    )


TINY_NET = System(
    name="tiny_net",
    predict_version=1,
    link_version=1,
    predict_config=TinyNetConfig,
    link_config=OracleLinkConfig,
    window=lambda config: WindowSpec(),
    make_predictor=TinyNetPredictor,
    make_linker=OracleLinker,
    categories=lambda config: [Category(label=1, name="thing", source="tiny_net")],
)
