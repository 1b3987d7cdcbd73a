"""A system that only takes its time: no torch, no weights, objects from a formula.

Run as a program, it labels clips with it: python -m tests.support.wait_model CLIPS OUT --ms 4
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator

from vis_core.errors import ReelmaskError
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.system import System
from vis_core.systems.oracle import ORACLE
from vis_core.systems.oracle.config import OraclePredictConfig
from vis_core.systems.oracle.predictor import OraclePredictor
from vis_core.types import FrameBatch, FramePrediction
from vis_core.windows import ShardWindow, WindowSpec


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class WaitConfig:
    batch_size: int = 8
    ms: float = 4.0  # per frame, as an accelerator would be busy while this process waits
    objects: int = 3
    fault: str = ""  # video on whose first frame the device fails


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
            yield batch


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


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("clips")
    parser.add_argument("out")
    parser.add_argument("--runner", default="ray")
    parser.add_argument("--address")
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    settings = dict(item.split("=", 1) for item in given.set)
    values = {key: _value(text) for key, text in settings.items()}
    job = make_job([given.clips], given.out, [MemberSpec(system=WAIT)], settings=values)
    try:
        if given.runner == "inline":
            report = run_inline(job)
        else:
            from pipelines.label import run_ray

            report = run_ray(job, address=given.address)
    except ReelmaskError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(json.dumps(dataclasses.asdict(report)))
    return report.exit_code


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    # Workers import this module by its name; here it would be `__main__`.
    from tests.support.wait_model import main as main_by_name

    sys.exit(main_by_name())
