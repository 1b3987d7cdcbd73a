"""An average of the weights over the last steps, which often does better than the last ones."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """Follows a network; buffers, such as running statistics, are taken as they are."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Shorter at the beginning, so that the random start is forgotten."""
        decay = min(self._decay, (1 + step) / (10 + step))
        mine = dict(self.network.named_parameters())
        for name, parameter in network.named_parameters():
            mine[name].lerp_(parameter.detach(), 1 - decay)
        buffers = dict(self.network.named_buffers())
        for name, buffer in network.named_buffers():
            buffers[name].copy_(buffer)
