"""The data of a training job: sets opened, labels agreed on, clips that can be drawn."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Sequence

from vis_core.data.datasets import open_data_set
from vis_core.data.datasets.model import DataSet
from vis_core.data.sampling import Draws, LabelMap
from vis_core.errors import UsageError
from vis_core.training.job import TrainJob, refuse_seeds, refuse_test_truth
from vis_core.training.loading import Clips
from vis_core.types import Category

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingData:
    data_sets: Sequence[DataSet]
    categories: Sequence[Category]  # labels from 1; a sample's labels are positions in this list
    clips: Clips


def open_data(job: TrainJob) -> TrainingData:
    """Opens everything the job names; what is wrong with it is in the log, counted."""
    data_sets = [open_data_set(config) for config in job.data]
    for data_set in data_sets:
        logger.info("data: %s, %d videos", data_set.name, len(data_set.videos))
        seeds = [video.seed for video in data_set.videos if video.seed is not None]
        refuse_seeds(data_set.name, seeds, ("training",))
    if job.evaluation is not None:
        refuse_test_truth(job.evaluation.truth)
    names = _category_names(data_sets, agnostic=job.recipe.class_agnostic)
    labels = [
        _label_map(data_set, names, agnostic=job.recipe.class_agnostic) for data_set in data_sets
    ]
    draws = Draws(data_sets, [config.weight for config in job.data], job.sampling, job.loop.seed)
    return TrainingData(
        data_sets=data_sets,
        categories=[
            Category(label=position, name=name, source=job.recipe.name)
            for position, name in enumerate(names, 1)
        ],
        clips=Clips(
            data_sets=data_sets,
            labels=labels,
            draws=draws,
            transforms=job.transforms,
            collate=functools.partial(job.recipe.collate, job.network, job.learning),
            seed=job.loop.seed,
            mosaic=job.mosaic,
            strict=any(config.strict for config in job.data),
        ),
    )


def _category_names(data_sets: Sequence[DataSet], *, agnostic: bool) -> list[str]:
    """Those of all sets, by name: their numbers differ between data sets of the same classes."""
    if agnostic:
        return ["object"]
    names = dict.fromkeys(
        category.name for data_set in data_sets for category in data_set.categories
    )
    if not names:
        raise UsageError("the data sets name no categories; expected one or more")
    return list(names)


def _label_map(data_set: DataSet, names: Sequence[str], *, agnostic: bool) -> LabelMap:
    """A set's labels to positions in the list of names."""
    return {
        category.label: 0 if agnostic else names.index(category.name)
        for category in data_set.categories
    }
