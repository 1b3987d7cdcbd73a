"""Data sets for training, whatever their layout on disk. `docs/datasets.md` shows the layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vis_core.config import build
from vis_core.data.datasets.config import DataSetConfig
from vis_core.data.datasets.davis import open_davis
from vis_core.data.datasets.in_json import (
    open_coco,
    open_ovis,
    open_synth,
    open_uvo,
    open_ytvis,
)
from vis_core.data.datasets.mask_folders import open_mask_folders
from vis_core.data.datasets.model import DataSet, LabelledVideo, Pixels
from vis_core.data.datasets.problems import Problems
from vis_core.data.datasets.reading import FileDataSet
from vis_core.data.datasets.sav import open_sav

__all__ = [
    "LAYOUTS",
    "DataSet",
    "DataSetConfig",
    "FileDataSet",
    "LabelledVideo",
    "Pixels",
    "Problems",
    "open_data_set",
]

LAYOUTS: dict[str, Callable[[DataSetConfig], FileDataSet]] = {
    "ytvis": open_ytvis,
    "ovis": open_ovis,
    "uvo": open_uvo,
    "davis": open_davis,
    "coco": open_coco,
    "mask_folders": open_mask_folders,
    "sav": open_sav,
    "synth": open_synth,
}


def open_data_set(settings: DataSetConfig | Mapping[str, Any]) -> FileDataSet:
    """Checks the folder and its truth as a whole; masks and pixels are read when asked for."""
    config = settings if isinstance(settings, DataSetConfig) else build(DataSetConfig, settings)
    return LAYOUTS[config.layout](config)
