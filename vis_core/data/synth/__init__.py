"""Synthetic clips with exact truth: for tests, for training, and to see what a system can do.

A clip is a function of its seed, preset, length and size. `config` holds the presets, `exact` the
arithmetic that makes truth the same on every machine, `cast` and `stage` decide what happens,
`truth` says what is to be seen, `render` and `flow` draw it, `difficulty` measures it.
"""

from vis_core.data.synth.config import PRESETS, SEED_RANGES, Preset, SynthConfig
from vis_core.data.synth.difficulty import ClipMeasures, summarize
from vis_core.data.synth.generate import (
    Clip,
    generate_clip,
    generate_truth,
    generate_truth_file,
    measured_truth,
)
from vis_core.data.synth.truth import ClipTruth, ObjectTruth
from vis_core.data.synth.write import DataSetReport, write_data_set

__all__ = [
    "PRESETS",
    "SEED_RANGES",
    "Clip",
    "ClipMeasures",
    "ClipTruth",
    "DataSetReport",
    "ObjectTruth",
    "Preset",
    "SynthConfig",
    "generate_clip",
    "generate_truth",
    "generate_truth_file",
    "measured_truth",
    "summarize",
    "write_data_set",
]
