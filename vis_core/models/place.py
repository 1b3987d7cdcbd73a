"""Where a network runs, and how its tensors lie there."""

from __future__ import annotations

import torch
from torch import nn


def best_device(rank: int = 0) -> torch.device:
    """An accelerator where there is one, dealt out by rank to processes that share a machine."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # Processes that see one accelerator each call it 0.
    return torch.device("cuda", rank % torch.cuda.device_count())


def place(network: nn.Module, device: torch.device) -> None:
    """Moves it, and puts channels last, with which convolutions are faster."""
    network.to(device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch has it
