"""The folder of a training run: held by one run at a time, and begun anew only when asked."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from vis_core import plain_yaml
from vis_core.errors import UsageError
from vis_core.job import new_run_id
from vis_core.store import lease as leases
from vis_core.store.folder import Folder, open_folder
from vis_core.training.job import TrainJob

logger = logging.getLogger(__name__)

RECORD, REPORT, PICTURE = "train.yaml", "train.json", "first_batch.png"
_PARTS = ("", "checkpoints", "weights")
_OURS = (
    *(RECORD, REPORT, "metrics.csv", "evaluations.csv", "curves.png", PICTURE),
    *("last.pt", "last.safetensors", "best.safetensors"),
)


@contextlib.contextmanager
def opened(job: TrainJob, *, replace: bool = False) -> Iterator[Folder]:
    """Takes the folder's lease."""
    folder = open_folder(job.out)
    if not folder.exists(RECORD):
        _refuse_foreign(folder)
    elif not _is_record(folder):
        raise UsageError(
            f"{folder.root} holds a {RECORD} that no training wrote, and one would overwrite it;"
            " move it, or use another `out`"
        )
    with leases.acquire(folder, new_run_id()):
        folder.remove_stale_staging()
        if replace:
            _clear(folder)
        yield folder


def _refuse_foreign(folder: Folder) -> None:
    # Without a record nothing can be ours but what was drawn beforehand, whatever it is called.
    found = [f"{part}/{name}" if part else name for part in _PARTS for name in folder.names(part)]
    strangers = [name for name in found if name != PICTURE]
    if strangers:
        raise UsageError(
            f"{folder.root} holds files that are not a training's ({', '.join(strangers[:3])}); use"
            " another `out`"
        )


def _is_record(folder: Folder) -> bool:
    """People's job files leave out what is as usual; a record says everything."""
    try:
        record = plain_yaml.parse(folder.read(RECORD).decode())
    except (UsageError, ValueError):
        return bool(folder.names("checkpoints"))  # ours, damaged
    return isinstance(record, dict) and record.keys() >= {"recipe", "learning", "loop", "groups"}


def _clear(folder: Folder) -> None:
    """Only what a training writes is deleted."""
    for part in _PARTS:
        for name in folder.names(part):
            if name in _OURS:
                folder.delete(f"{part}/{name}" if part else name)
