"""Files of weights: safetensors with a description, or PyTorch checkpoints of tensors alone."""

from __future__ import annotations

import dataclasses
import fnmatch
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vis_core.errors import UsageError
from vis_core.models.about import About, about_of, first_line, metadata_of
from vis_core.video.uris import open_regular

_SPARE = 50_000_000  # numbers of a network that any machine holds

Network = TypeVar("Network", bound=nn.Module)

# Where checkpoints of others keep the weights themselves.
_INSIDE = ("state_dict", "model", "model_state_dict")
_EXPECTED = "a .safetensors file, or a PyTorch checkpoint of tensors alone"


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
    except FileNotFoundError as error:
        raise UsageError(f"there are no weights at {path!r}") from error
    except OSError as error:
        raise UsageError(f"{path!r}: {error.strerror or error}; expected {_EXPECTED}") from error
    if Path(path).suffix == ".safetensors":
        return _of_safetensors(path)
    return Weights(tensors=_of_pickle(path), about=None)


def _of_safetensors(path: str) -> Weights:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        tensors = safetensors.torch.load_file(path)
    # Kinds of numbers that torch lacks, for one, are no SafetensorError.
    except Exception as error:
        raise UsageError(
            f"{path!r} holds no weights that can be read safely; expected {_EXPECTED}:"
            f" {first_line(error)[:200]}"
        ) from error
    return Weights(tensors=tensors, about=about_of(metadata))


def buildable(make: Callable[[], Network], tensors: Mapping[str, Tensor], path: str) -> Network:
    """The network that a file describes, if its weights can fill it.

    A few numbers in a file may describe one that no memory holds.
    """
    try:
        with torch.device("meta"):
            shape = make().state_dict()
        needed, there = (sum(t.numel() for t in each.values()) for each in (shape, tensors))
        if needed > 2 * there + _SPARE:  # below, what does not fit is named
            raise UsageError(
                f"{path!r} describes a network of {needed} numbers and holds {there}; it is"
                " damaged, or its description belongs to another file"
            )
        return make()
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        raise UsageError(
            f"{path!r} describes a network that cannot be built: {first_line(error)[:200]}"
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
    _check_finite({name: tensors[name] for name in kept})
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


def _check_finite(tensors: Mapping[str, Tensor]) -> None:
    """With one number that is not, everything a network says is NaN, of every video."""
    wrong = [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not tensor.float().isfinite().all()
    ]
    if wrong:
        raise UsageError(
            f"{len(wrong)} tensors are not finite (NaN or infinite), so nothing the network says"
            f" would be: {', '.join(wrong[:5])}; the training diverged or the file is damaged: take"
            " an earlier checkpoint"
        )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _of_pickle(path: str) -> dict[str, Tensor]:
    found = _loaded(path)
    for key in _INSIDE:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise UsageError(
            f"{path!r}: expected a dictionary of tensors, got {type(found).__name__}; save a"
            " network's state_dict()"
        )
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UsageError(f"{path!r}: there is no tensor in it; save a network's state_dict()")
    for name, tensor in tensors.items():
        if not _is_whole(tensor):
            raise UsageError(f"{path!r}: {name!r:.80} is no plain tensor whose numbers are there")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _loaded(path: str) -> Any:
    """What torch reads of a file; its own words would tell users to let the file run code."""
    _check_not_packed(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = "holds more than tensors, or is damaged; code and objects in it are never loaded"
        raise _unreadable(path, what) from error
    # torch.load has no error of its own: what is wrong with a file surfaces as many kinds.
    except Exception as error:
        raise _unreadable(path, "is no file that PyTorch wrote, or is damaged") from error


def _unreadable(path: str, what: str) -> UsageError:
    return UsageError(
        f"{path!r} holds no weights that can be read safely: it {what}. Expected {_EXPECTED}: save"
        " them with torch.save(network.state_dict(), PATH), or as safetensors"
    )


def _check_not_packed(path: str) -> None:
    """PyTorch packs nothing: a file that is larger inside than outside is meant to fill memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, LookupError):
        return  # an older checkpoint, or none
    if inside > Path(path).stat().st_size:
        raise _unreadable(path, "is packed, which PyTorch's own files are not")


def _is_whole(tensor: Tensor) -> bool:
    """Whether all of its numbers are in the file: views may repeat one of them at will."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.is_quantized:
        return False
    return tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
