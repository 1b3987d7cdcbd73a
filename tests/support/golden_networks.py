"""The golden fixtures of networks: tensors by name, as the released code has them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class GoldenNetwork:
    weights: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    meta: Mapping[str, Any]

    @property
    def config(self) -> Mapping[str, Any]:
        return self.meta["config"]

    def assert_close(
        self, found: Tensor, name: str, slack: Tensor | float = 0.0, **tolerance: float
    ) -> None:
        """Within `tolerance` or else the fixture's own (and `slack`); whole numbers exactly."""
        expected = self.outputs[name]
        tolerance = tolerance or self.meta["tolerance"]
        assert found.shape == expected.shape, f"{name}: {found.shape}, expected {expected.shape}"
        if not expected.is_floating_point():
            assert torch.equal(found, expected), f"{name}: {found}, expected {expected}"
            return
        difference = (found - expected).abs()
        allowed = tolerance["atol"] + tolerance["rtol"] * expected.abs() + slack
        beyond = int((difference > allowed).sum()) + int(difference.isnan().sum())
        assert not beyond, f"{name}: {beyond} differ, by up to {difference.max().item():.3g}"


def read_network(shared: Path, name: str) -> GoldenNetwork:
    """`shared` is the test fixture of that name."""
    folder = shared / "golden" / "networks" / name
    weights, inputs, outputs = (
        load_file(folder / f"{part}.safetensors") for part in ("weights", "inputs", "outputs")
    )
    meta = json.loads((folder / "meta.json").read_text())
    return GoldenNetwork(weights=weights, inputs=inputs, outputs=outputs, meta=meta)


def shapes_of(shared: Path, name: str) -> dict[str, tuple[int, ...]]:
    """Every tensor of a released model, by its name."""
    path = shared / "golden" / "networks" / "state_dicts" / f"{name}.json"
    tensors = json.loads(path.read_text())["tensors"]
    return {key: tuple(shape) for key, (shape, _) in tensors.items()}
