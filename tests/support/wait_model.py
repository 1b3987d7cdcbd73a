"""A system that only takes its time: no torch, no weights, objects from a formula."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

from vis_core.config import setting
from vis_core.system import PredictConfig, System
from vis_core.systems.oracle import ORACLE
from vis_core.systems.oracle.config import OraclePredictConfig
from vis_core.systems.oracle.predictor import OraclePredictor
from vis_core.types import FrameBatch, FramePrediction
from vis_core.windows import ShardWindow, WindowSpec


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WaitConfig(PredictConfig):
    ms: float = setting(
        4.0,
        low=0,
        execution_only=True,
        says="Time per frame, as an accelerator would be busy while this process waits.",
    )
    objects: int = setting(3, low=0, says="Objects of a frame.")
    fault: str = setting("", says="The video on whose first frame the device fails.")
    hold: str = setting(
        "",
        execution_only=True,
        says="While this folder exists frames wait, and say so in it: a file named after the"
        " process.",
    )


class WaitPredictor:
    def __init__(self, config: WaitConfig) -> None:
        self._config = config
        self._oracle = OraclePredictor(OraclePredictConfig(truth=f"formula:{config.objects}"))

    def predict(
        self, frames: Iterator[FrameBatch], window: ShardWindow
    ) -> Iterator[FramePrediction]:
        return self._oracle.predict(self._slowly(frames), window)

    def _slowly(self, frames: Iterator[FrameBatch]) -> Iterator[FrameBatch]:
        for batch in frames:
            if batch.video_id == self._config.fault:
                raise RuntimeError("CUDA error: device-side assert triggered")
            time.sleep(len(batch) * self._config.ms / 1000)
            if self._config.hold:
                _wait_while_held(Path(self._config.hold))
            yield batch


def _wait_while_held(hold: Path) -> None:
    while hold.exists():
        with contextlib.suppress(FileNotFoundError):  # let go of just now
            (hold / str(os.getpid())).touch()
        time.sleep(0.05)


WAIT = System(
    name="wait",
    predict_version=1,
    link_version=1,
    predict_config=WaitConfig,
    link_config=ORACLE.link_config,
    window=lambda config: WindowSpec(),
    make_predictor=WaitPredictor,
    make_linker=ORACLE.make_linker,
    categories=lambda config: [],
)
