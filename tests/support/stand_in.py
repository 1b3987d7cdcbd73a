"""A device beside the processor that is none: what an accelerator demands, without one.

Its tensors are real and computed on the processor, but belong to a device of their own. As with
CUDA, an operation over tensors of both places is an error, unless the processor's is a single
number or an index, and nothing comes back that is not asked for. The bytes that tensors take are
counted in pieces of 512, as CUDA's allocator deals them out. What a kernel needs for itself while
it computes is not; attention is one kernel, as it is on accelerators.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import backend_registration

from vis_core.systems.flow_match import detector
from vis_core.systems.idol import predictor as idol_predictor
from vis_core.systems.propose_reduce import predictor as propose_reduce_predictor
from vis_core.training import loop

_NAME = "standin"
_PIECE = 512
_aten = torch.ops.aten
_MOVES = {_aten._to_copy.default, _aten.copy_.default}
_BY_INDEX = {
    _aten.index.Tensor,
    _aten.index_put.default,
    _aten.index_put_.default,
    _aten._index_put_impl_.default,
}
_ATTENTION = _aten.scaled_dot_product_attention.default
# What torch makes of other operations, in ways that tensors like these cannot follow.
_WHOLE = ("copy_", "arange", "arange.start", "arange.start_step", "linspace", "randperm", "eye")


@dataclasses.dataclass(kw_only=True)
class Memory:
    """Bytes of the device that tensors hold now, and the most they have held at once."""

    now: int = 0
    most: int = 0
    _lock: Any = dataclasses.field(default_factory=threading.RLock, repr=False)

    def take(self, num_bytes: int) -> None:
        with self._lock:  # gradients are computed in a thread of their own
            self.now += num_bytes
            self.most = max(self.most, self.now)

    def forget_most(self) -> None:
        self.most = self.now


MEMORY = Memory()


@functools.cache
def stand_in() -> torch.device:
    """The device, made known to torch for the rest of the process."""
    backend_registration._setup_privateuseone_for_python_backend(_NAME, _Module())
    fallback = torch.library.Library("_", "IMPL")
    fallback.fallback(_run, "PrivateUse1")
    kernels = torch.library.Library("aten", "IMPL")
    for name in _WHOLE:
        packet, _, overload = name.partition(".")
        function = getattr(getattr(_aten, packet), overload or "default")
        kernels.impl(name, functools.partial(_run, function), "PrivateUse1")
    _libraries.extend((fallback, kernels))
    return torch.device(_NAME, 0)


_ASKING = (detector, idol_predictor, propose_reduce_predictor, loop)
_libraries: list[torch.library.Library] = []  # one that is collected takes its kernels along


@contextlib.contextmanager
def on_stand_in() -> Iterator[Memory]:
    """Predictors and training that begin meanwhile are on it, and its memory begins anew."""
    device = stand_in()
    MEMORY.forget_most()
    with contextlib.ExitStack() as stack:
        for module in _ASKING:
            stack.enter_context(mock.patch.object(module, "best_device", lambda rank=0: device))
        yield MEMORY


class _Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class _Held:
    """The bytes of one storage, for as long as a tensor of the device lies in it."""

    def __init__(self, num_bytes: int) -> None:
        self._bytes = -(-num_bytes // _PIECE) * _PIECE
        MEMORY.take(self._bytes)

    def __del__(self) -> None:
        MEMORY.take(-self._bytes)


_held_of: weakref.WeakValueDictionary[int, _Held] = weakref.WeakValueDictionary()


class _OnDevice(Tensor):
    """A tensor of the device; `inner` is what the processor computes with."""

    inner: Tensor
    _held: _Held

    @staticmethod
    def __new__(cls, inner: Tensor) -> _OnDevice:
        with torch.inference_mode(inner.is_inference()):
            found = Tensor._make_wrapper_subclass(
                cls,
                inner.shape,
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                device=f"{_NAME}:0",
            )
        storage = inner.untyped_storage()
        held = _held_of.get(storage._cdata)
        if held is None:
            held = _held_of[storage._cdata] = _Held(storage.nbytes())
        found.inner, found._held = inner, held
        return found

    @classmethod
    def __torch_dispatch__(
        cls,
        function: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is not _ATTENTION and function._can_decompose():  # so that its parts are seen
            return function.decompose(*args, **(kwargs or {}))
        return _run(function, *args, **(kwargs or {}))

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]  # as torch calls it
        return f"{self.inner!r} on {_NAME}"

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.__reduce_ex__(protocol)  # in files it is where they are read

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied: Tensor = self.detach().clone().requires_grad_(self.requires_grad)
        memo[id(self)] = nn.Parameter(copied) if isinstance(self, nn.Parameter) else copied
        return memo[id(self)]

    # torch moves parameters of such classes only if it can take them apart.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["inner"], None

    @staticmethod
    def __tensor_unflatten__(inner: Mapping[str, Tensor], *_: object) -> _OnDevice:
        return _OnDevice(inner["inner"])


def _run(function: Any, *args: Any, **kwargs: Any) -> Any:
    given = [*_tensors(args), *_tensors(kwargs.values())]
    _check_places(function, args, given)
    wanted = kwargs.get("device")
    to_host = wanted is not None and torch.device(wanted).type == "cpu"
    if to_host and "pin_memory" in kwargs:
        kwargs["pin_memory"] = False  # this host can pin nothing
    compute = _attention if function is _ATTENTION else function
    found = compute(*_mapped(_inner, args), **{key: _inner(kwargs[key]) for key in kwargs})
    if to_host or (function is _aten.copy_.default and not isinstance(args[0], _OnDevice)):
        return args[0] if function is _aten.copy_.default else found
    known = {id(one.inner): one for one in given if isinstance(one, _OnDevice)}

    def outer(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        same = known.get(id(value))
        if same is not None and (same.shape, same.stride()) != (value.shape, value.stride()):
            raise NotImplementedError(f"{function} changes the shape of what it is given")
        return _OnDevice(value) if same is None else same

    return _mapped(outer, found)


def _check_places(function: Any, args: Sequence[Any], given: Sequence[Tensor]) -> None:
    if function in _MOVES:
        return
    if function in _BY_INDEX and isinstance(args[0], _OnDevice):  # with indices of either
        given = [args[0], *args[2:3]]
    on_host = [one for one in given if not isinstance(one, _OnDevice) and one.dim() > 0]
    if on_host and len(on_host) < len(given):
        raise RuntimeError(
            f"{function}: expected all tensors on the same device, got {tuple(on_host[0].shape)}"
            " on the processor beside others on the device"
        )


def _attention(queries: Tensor, keys: Tensor, values: Tensor, **kwargs: Any) -> Tensor:
    """With keys as wide as values, for which processors have a kernel."""
    kwargs.setdefault("scale", queries.shape[-1] ** -0.5)
    missing = max(0, values.shape[-1] - keys.shape[-1])
    queries, keys = (functional.pad(x, (0, missing)) for x in (queries, keys))
    return functional.scaled_dot_product_attention(queries, keys, values, **kwargs)


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)([_mapped(change, part) for part in value])
    return change(value)


def _inner(value: Any) -> Any:
    if isinstance(value, _OnDevice):
        return value.inner
    return torch.device("cpu") if isinstance(value, torch.device) else value
