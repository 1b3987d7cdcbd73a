"""Which anchors and proposals a training step looks at: by each picture's own seed.

So that a picture's share does not depend on which worker it comes to.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class SeededSampler:
    """Positives and negatives at random, as torchvision does, from a seed for each picture."""

    def __init__(self, number: int, positive_share: float, salt: int) -> None:
        self._number, self._share, self._salt = number, positive_share, salt
        self.seeds: Sequence[int] = ()
        self.sampled = self.positives = 0  # of the last call

    def __call__(self, labels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """`labels` by picture: 0 negative, -1 to be left out."""
        chosen = [
            self._choose(of_one, seed) for of_one, seed in zip(labels, self.seeds, strict=True)
        ]
        self.positives = sum(int(positive.sum()) for positive, _ in chosen)
        self.sampled = self.positives + sum(int(negative.sum()) for _, negative in chosen)
        return [positive for positive, _ in chosen], [negative for _, negative in chosen]

    def _choose(self, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        random = torch.Generator().manual_seed((seed ^ self._salt) & 0x7FFF_FFFF_FFFF_FFFF)
        positive = self._some(labels >= 1, int(self._number * self._share), random)
        negative = self._some(labels == 0, self._number - int(positive.sum()), random)
        return positive, negative

    def _some(self, among: Tensor, number: int, random: torch.Generator) -> Tensor:
        candidates = torch.where(among)[0]
        order = torch.randperm(len(candidates), generator=random)[:number]
        mask = torch.zeros_like(among, dtype=torch.uint8)
        mask[candidates[order.to(candidates.device)]] = 1
        return mask
