"""Three linear layers with ReLU between: boxes, mask parameters, embeddings."""

from __future__ import annotations

from torch import Tensor, nn


class Mlp(nn.Module):
    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, n) for n in (width, width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        outputs: Tensor = last(second(first(x).relu()).relu())
        return outputs

    def reset(self) -> None:
        """Xavier weights, no bias."""
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
