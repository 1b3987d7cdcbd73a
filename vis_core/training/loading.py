"""Clips to batches, ahead of the network: which one comes when is a function of (seed, step) alone.

Loader processes make nothing different: a draw's randomness comes from its number.
"""

from __future__ import annotations

import dataclasses
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from vis_core.data.datasets.model import DataSet
from vis_core.data.mosaic import MosaicConfig, mosaic
from vis_core.data.sample import Sample
from vis_core.data.sampling import Draw, Draws, LabelMap, read_sample
from vis_core.data.transforms import TransformConfig, transform
from vis_core.errors import SourceError
from vis_core.training.ranks import Ranks
from vis_core.training.recipe import Batch

_AHEAD = 2  # batches that wait for the network
_MAX_LOADERS = 8
_ATTEMPTS = 10

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Clips(Dataset[Batch]):
    """Batches by their draws; small to pickle, since loader processes get a copy each."""

    data_sets: Sequence[DataSet]
    labels: Sequence[LabelMap]
    draws: Draws
    transforms: TransformConfig
    collate: Callable[[Sequence[Sample]], Any]
    seed: int
    mosaic: MosaicConfig | None = None
    strict: bool = False  # an unreadable file ends the training

    def __getitem__(self, numbers: Sequence[int]) -> Batch:
        samples = [self.sample(number) for number in numbers]
        return Batch(
            inputs=self.collate(samples),
            seeds=torch.tensor([self._seed_of(number) for number in numbers]),
            names=tuple(sample.video_id for sample in samples),
        )

    def sample(self, number: int) -> Sample:
        """The draw of this number, transformed; or the mosaic of this number, of its own draws."""
        if self.mosaic is None:
            return self._clip(number)
        most = self.mosaic.windows  # every clip gives one or more
        clips = (self._clip(number * most + own) for own in range(most))
        return mosaic(clips, self.mosaic, np.random.default_rng([self.seed, 1, number]))

    def _clip(self, number: int) -> Sample:
        draw, sample = self._readable(number)
        random = np.random.default_rng([self.seed, draw.data_set, draw.epoch, draw.index])
        return transform(sample, self.transforms, random)

    def _readable(self, number: int) -> tuple[Draw, Sample]:
        """A file that cannot be read is in the log, and another draw takes its place."""
        for attempt in range(_ATTEMPTS):
            draw = self.draws.draw(number + attempt * len(self.draws))
            try:
                return draw, read_sample(self.data_sets, draw, self.labels)
            except SourceError as error:
                if self.strict:
                    raise
                logger.warning("%s; another clip takes its place", error)
        raise SourceError(f"{_ATTEMPTS} clips in a row could not be read; the log says why")

    def _seed_of(self, number: int) -> int:
        return int(np.random.SeedSequence([self.seed, number]).generate_state(1, np.uint64)[0] >> 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Share:
    """Which draws of a forward pass are this worker's: neighbours, so that all make the whole."""

    batch_size: int
    ranks: Ranks

    def draws_of(self, forward: int) -> range:
        size = self.batch_size // self.ranks.size
        start = forward * self.batch_size + self.ranks.rank * size
        return range(start, start + size)


def batches(
    clips: Clips, share: Share, first: int, last: int, loader_workers: int, *, pin: bool
) -> Iterator[Batch]:
    """Those of the forward passes `first` to `last`, loaded ahead of their use."""
    loader = DataLoader(
        clips,
        batch_size=None,
        sampler=[list(share.draws_of(forward)) for forward in range(first, last)],
        num_workers=loader_workers,
        prefetch_factor=_AHEAD if loader_workers else None,
        worker_init_fn=_use_one_thread,
        pin_memory=pin,
        # A copy of a process with threads may hang in one of their locks.
        multiprocessing_context="spawn" if loader_workers else None,
    )
    return _ahead(iter(loader), _AHEAD)


def loader_workers(given: int | None, cores: int, accelerators: bool) -> tuple[int, str]:
    """How many processes load, and why so many."""
    if given is not None:
        return given, "as set"
    if not accelerators:
        return 0, "the network computes on the same cores: a thread loads beside it"
    number = max(1, min(_MAX_LOADERS, cores - 1))
    return number, f"{cores} cores beside the accelerator"


def _use_one_thread(worker: int) -> None:
    import cv2  # in loader processes only

    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def _ahead(items: Iterator[Batch], depth: int) -> Iterator[Batch]:
    """The same items, fetched by a thread while the last ones are used."""
    waiting: queue.Queue[Batch | BaseException | None] = queue.Queue(depth)
    left = threading.Event()

    def fetch() -> None:
        try:
            for item in items:
                if not _put(waiting, item, left):
                    return
            _put(waiting, None, left)
        except BaseException as error:  # noqa: BLE001 - raised again by who reads
            _put(waiting, error, left)

    thread = threading.Thread(target=fetch, name="batches", daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        left.set()
        thread.join(timeout=10)


def _put(waiting: queue.Queue[Any], item: object, left: threading.Event) -> bool:
    while not left.is_set():
        try:
            waiting.put(item, timeout=0.2)
            return True
        except queue.Full:
            continue
    return False
