"""Everything a training run needs to go on exactly: written whole or not at all.

What a step sees is a function of its number (`loading`, `schedule`, and the seed set before each
step), so the number stands for the sampler's, the schedule's and the generators' state.
"""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import torch

from vis_core.errors import UsageError
from vis_core.store.folder import Folder

LAST = "checkpoints/last.pt"
_VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """State after `step` steps; tensors and plain values alone."""

    step: int
    key: str  # of the job: what must be the same for the state to mean anything
    network: dict[str, Any]
    optimizer: dict[str, Any]
    ema: dict[str, Any] | None
    best: float | None  # the best evaluation so far


def save(folder: Folder, checkpoint: Checkpoint) -> None:
    buffer = io.BytesIO()
    state = {
        field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)
    }
    torch.save({"version": _VERSION, **state}, buffer)
    folder.replace(LAST, buffer.getvalue())


def load(folder: Folder, key: str) -> Checkpoint | None:
    """The last one, if there is one and it belongs to this job."""
    if not folder.exists(LAST):
        return None
    try:
        state = torch.load(io.BytesIO(folder.read(LAST)), map_location="cpu", weights_only=True)
        if state.pop("version") != _VERSION:
            raise ValueError("it has another format")
        checkpoint = Checkpoint(**state)
    # torch.load has no error of its own, and its words tell people to let the file run code.
    except Exception as error:
        raise UsageError(
            f"{folder.root}/{LAST} cannot be read: it is damaged, or of another version; delete it,"
            " or use another `out`, to begin anew"
        ) from error
    if checkpoint.key != key:
        raise UsageError(
            f"{folder.root} holds the training of another job (its network, data, transforms,"
            " optimiser or batch differ); use another `out`, or --replace to begin anew"
        )
    return checkpoint
