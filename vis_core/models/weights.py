"""Files of weights: safetensors with a description, or PyTorch checkpoints of tensors alone."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vis_core.errors import UsageError
from vis_core.models.about import About, about_of, first_line, metadata_of
from vis_core.video.uris import open_regular

# Where checkpoints of others keep the weights themselves.
_INSIDE = ("state_dict", "model", "model_state_dict")


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    tensors: dict[str, Tensor]
    about: About | None  # None: the file is not ours


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """What became of every tensor, by name."""

    kept: list[str]
    reset: list[str]  # asked to begin anew
    unused: list[str]  # in the file, without a place in the network

    def lines(self) -> list[str]:
        lines = [f"{len(self.kept)} tensors taken from the file"]
        for what, names in (("begin anew", self.reset), ("in the file, not used", self.unused)):
            if names:
                lines.append(f"{len(names)} {what}: {', '.join(names)}")
        return lines


def to_bytes(network: nn.Module, about: About) -> bytes:
    """A safetensors file of the network's weights and buffers."""
    # Cloned, because the format holds no tensor under two names.
    tensors = {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in network.state_dict().items()
    }
    return safetensors.torch.save(tensors, metadata_of(about))


def read_weights(path: str) -> Weights:
    """Tensors of a file that nobody vouches for: nothing in it is executed."""
    try:
        open_regular(path).close()  # the libraries would wait for a pipe
        if Path(path).suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
            return Weights(tensors=safetensors.torch.load_file(path), about=about_of(metadata))
        return Weights(tensors=_of_pickle(path), about=None)
    except FileNotFoundError as error:
        raise UsageError(f"there are no weights at {path!r}") from error
    except UsageError:
        raise
    # torch.load has no error of its own: what is wrong with a file surfaces as many kinds.
    except Exception as error:
        raise UsageError(
            f"{path!r} holds no weights that can be read safely (expected .safetensors, or a"
            f" PyTorch file of tensors alone): {first_line(error)}"
        ) from error


def load_into(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    reset: Sequence[str],
    take: Sequence[str] = ("*",),
) -> Loaded:
    """What `take` names comes from the file, every tensor of it, but those that `reset` names."""
    mine = network.state_dict()
    kept, anew, wrong = [], [], []
    for name, tensor in mine.items():
        if _matches(name, reset) or not _matches(name, take):
            anew.append(name)
        elif name not in tensors:
            wrong.append(f"{name} (not in the file)")
        elif tensors[name].shape != tensor.shape:
            there, here = tuple(tensors[name].shape), tuple(tensor.shape)
            wrong.append(f"{name} ({there} in the file, {here} in the network)")
        else:
            kept.append(name)
    if wrong:
        raise UsageError(
            f"{len(wrong)} tensors do not fit: {'; '.join(wrong[:5])}; name what is to begin anew"
            " under `reset`, or what the file is for under `take`"
        )
    for what, patterns in (("take", take), ("reset", reset)):
        for pattern in patterns:
            if not any(_matches(name, [pattern]) for name in mine):
                raise UsageError(f"{what}: no tensor is called like {pattern!r}")
    network.load_state_dict({name: tensors[name] for name in kept}, strict=False)
    unused = sorted(set(tensors).difference(mine))
    return Loaded(kept=kept, reset=anew, unused=unused)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _of_pickle(path: str) -> dict[str, Tensor]:
    found = torch.load(path, map_location="cpu", weights_only=True)
    for key in _INSIDE:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise UsageError(f"{path!r}: expected a dictionary of tensors, got {type(found).__name__}")
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UsageError(f"{path!r}: there is no tensor in it")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors
