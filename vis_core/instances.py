"""The nested columns of `frames`: instances and flow, as Arrow arrays and as numpy parts.

Written from concatenated numpy arrays, read as slices of them: no Python object per instance,
except the `bytes` of each mask.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vis_core.columns import (
    BoolArray,
    Offsets,
    binary_array,
    binary_values,
    list_array,
    list_lengths,
    numbers,
    offsets_of,
    split,
    valid_mask,
)
from vis_core.types import FlowField, FramePrediction, RefAffinity, RefFlow

_FLOATS = pa.list_(pa.float32())
_REF_FLOW = pa.struct({"frame_index": pa.int32(), "dy": pa.float32(), "dx": pa.float32()})
_REF_AFFINITY = pa.struct(
    {
        "frame_index": pa.int32(),
        "instance": pa.int32(),
        "iou": pa.float32(),
        "affinity": pa.float32(),
    }
)
INSTANCE = pa.struct(
    {
        "score": pa.float32(),
        "label": pa.int32(),
        "box": _FLOATS,
        "mask": pa.binary(),
        "class_scores": _FLOATS,
        "no_object_logprob": pa.float32(),
        "embedding": _FLOATS,
        "prev_query": pa.int32(),
        "proposal": pa.int32(),
        "center": _FLOATS,
        "mean_offset": _FLOATS,
        "ref_flow": pa.list_(_REF_FLOW),
        "ref_affinity": pa.list_(_REF_AFFINITY),
    }
)
FLOW = pa.struct({"height": pa.int32(), "width": pa.int32(), "data": pa.binary()})


# --- writing --------------------------------------------------------------------------------


def instances_array(predictions: Sequence[FramePrediction]) -> pa.Array:
    counts = np.array([len(prediction) for prediction in predictions], np.int64)

    def parts(name: str) -> list[Any]:
        return [getattr(prediction, name) for prediction in predictions]

    columns = {
        "score": _scalars(parts("scores"), counts, np.float32),
        "label": _scalars(parts("labels"), counts, np.int32),
        "box": _vectors(parts("boxes"), counts),
        "mask": binary_array([mask for masks in parts("masks") for mask in masks]),
        "class_scores": _vectors(parts("class_scores"), counts),
        "no_object_logprob": _scalars(parts("no_object_logprob"), counts, np.float32),
        "embedding": _vectors([_rounded(e) for e in parts("embeddings")], counts),
        "prev_query": _scalars(parts("prev_query"), counts, np.int32),
        "proposal": _scalars(parts("proposals"), counts, np.int32),
        "center": _vectors(parts("centers"), counts),
        "mean_offset": _vectors(parts("mean_offsets"), counts),
        "ref_flow": _ref_flow_array(parts("ref_flow"), counts),
        "ref_affinity": _ref_affinity_array(parts("ref_affinity"), counts),
    }
    arrays = [columns[field.name] for field in INSTANCE]
    return list_array(counts, pa.StructArray.from_arrays(arrays, fields=list(INSTANCE)))


def _joined(parts: Sequence[npt.NDArray], dtype: npt.DTypeLike) -> npt.NDArray:
    if not parts:
        return np.zeros(0, dtype)
    return np.concatenate([np.ravel(part) for part in parts]).astype(dtype, copy=False)


def _absent(parts: Sequence[Any], counts: Offsets) -> BoolArray:
    """For each instance, whether its frame lacks the field."""
    return np.repeat(np.array([part is None for part in parts], bool), counts)


def _scalars(
    parts: Sequence[npt.NDArray | None], counts: Offsets, dtype: npt.DTypeLike
) -> pa.Array:
    filled = [
        np.zeros(count, dtype) if part is None else part
        for part, count in zip(parts, counts, strict=True)
    ]
    null = _absent(parts, counts)
    return pa.array(_joined(filled, dtype), mask=null if null.any() else None)


def _vectors(parts: Sequence[npt.NDArray | None], counts: Offsets) -> pa.Array:
    widths = np.array([0 if part is None else part.shape[1] for part in parts], np.int64)
    values = _joined([part for part in parts if part is not None], np.float32)
    return list_array(np.repeat(widths, counts), pa.array(values), _absent(parts, counts))


def _rounded(embeddings: npt.NDArray | None) -> npt.NDArray | None:
    if embeddings is None:
        return None
    with np.errstate(over="ignore"):
        half = embeddings.astype(np.float16)
    if np.isinf(half).any() and np.isfinite(embeddings).all():
        raise ValueError(
            "an embedding is beyond float16 (65504), in which embeddings are stored: scale it down"
        )
    return half.astype(np.float32)


def _ref_flow_array(parts: Sequence[RefFlow | None], counts: Offsets) -> pa.Array:
    present = [part for part in parts if part is not None]
    dydx = _joined([part.dydx for part in present], np.float32).reshape(-1, 2)
    columns = [_joined([p.frame_index for p in present], np.int32), dydx[:, 0], dydx[:, 1]]
    return _ragged(parts, counts, columns, _REF_FLOW)


def _ref_affinity_array(parts: Sequence[RefAffinity | None], counts: Offsets) -> pa.Array:
    present = [part for part in parts if part is not None]
    columns = [
        _joined([p.frame_index for p in present], np.int32),
        _joined([p.instance for p in present], np.int32),
        _joined([p.iou for p in present], np.float32),
        _joined([p.affinity for p in present], np.float32),
    ]
    return _ragged(parts, counts, columns, _REF_AFFINITY)


def _ragged(
    parts: Sequence[RefFlow | RefAffinity | None],
    counts: Offsets,
    columns: Sequence[npt.NDArray],
    kind: pa.DataType,
) -> pa.Array:
    lengths = [
        np.zeros(count, np.int64) if part is None else np.diff(part.offsets)
        for part, count in zip(parts, counts, strict=True)
    ]
    arrays = [pa.array(np.ascontiguousarray(column)) for column in columns]
    values = pa.StructArray.from_arrays(arrays, fields=list(kind))
    return list_array(_joined(lengths, np.int64), values, _absent(parts, counts))


def flow_array(flows: Sequence[FlowField | None]) -> pa.Array:
    null = np.array([flow is None for flow in flows], bool)
    shapes = [(0, 0) if flow is None else flow.dxdy.shape[1:] for flow in flows]
    sizes = np.array(shapes, np.int32).reshape(-1, 2)
    data = [b"" if flow is None else flow.dxdy.astype("<f2").tobytes() for flow in flows]
    children = [pa.array(sizes[:, 0]), pa.array(sizes[:, 1]), binary_array(data)]
    return pa.StructArray.from_arrays(children, fields=list(FLOW), mask=pa.array(null))


# --- reading --------------------------------------------------------------------------------


class InstanceReader:
    """The flat columns of an `instances` array, split again into one array per frame."""

    def __init__(self, array: pa.Array) -> None:
        self._offsets = offsets_of(list_lengths(array))
        self._bounds = self._offsets.tolist()
        self._counts = np.diff(self._offsets)
        self._values = array.flatten()
        for name in ("score", "label", "box", "mask"):
            if self._values.null_count or self._field(name).null_count:
                raise ValueError(f"instances.{name}: null where a value is required")

    def columns(self) -> dict[str, list[Any]]:
        masks = binary_values(self._field("mask"))
        return {
            "scores": split(numbers(self._field("score"), "score"), self._offsets),
            "labels": split(numbers(self._field("label"), "label"), self._offsets),
            "boxes": self._boxes(),
            "masks": [masks[a:b] for a, b in self._ranges()],
            "class_scores": self._vectors("class_scores"),
            "no_object_logprob": self._scalars("no_object_logprob"),
            "embeddings": self._vectors("embedding"),
            "prev_query": self._scalars("prev_query"),
            "proposals": self._scalars("proposal"),
            "centers": self._vectors("center"),
            "mean_offsets": self._vectors("mean_offset"),
            "ref_flow": self._ref_flows(),
            "ref_affinity": self._ref_affinities(),
        }

    def _field(self, name: str) -> pa.Array:
        return self._values.field(name)

    def _ranges(self) -> Iterator[tuple[int, int]]:
        return itertools.pairwise(self._bounds)

    def _present(self, name: str) -> list[bool]:
        """Per frame, whether its instances carry the field; all of them must, or none."""
        valid = offsets_of(valid_mask(self._field(name)))
        found = np.diff(valid[self._offsets])
        mixed = (found > 0) & (found < self._counts)
        if mixed.any():
            raise ValueError(
                f"instances.{name} is null for some instances of a frame only (row "
                f"{int(np.argmax(mixed))} of its chunk): expected a value for all of them or none"
            )
        return (found > 0).tolist()

    def _scalars(self, name: str) -> list[npt.NDArray | None]:
        present = self._present(name)
        values = self._field(name).fill_null(0).to_numpy(zero_copy_only=False)
        rows = split(values, self._offsets)
        return [row if ok else None for row, ok in zip(rows, present, strict=True)]

    def _vectors(self, name: str) -> list[npt.NDArray | None]:
        present = self._present(name)
        array = self._field(name)
        ends = offsets_of(list_lengths(array))
        flat = numbers(array.flatten(), name)
        widths = self._widths(name, ends)
        return [
            flat[ends[a] : ends[b]].reshape(b - a, width) if ok else None
            for (a, b), ok, width in zip(self._ranges(), present, widths, strict=True)
        ]

    def _widths(self, name: str, ends: Offsets) -> list[int]:
        """Length of the vectors of each frame, which must agree within the frame."""
        lengths = np.diff(ends)
        firsts = np.zeros(len(self._counts), np.int64)
        filled = self._counts > 0
        firsts[filled] = lengths[self._offsets[:-1][filled]]
        if not np.array_equal(np.repeat(firsts, self._counts), lengths):
            raise ValueError(f"instances.{name}: lists of different length within one frame")
        return firsts.tolist()

    def _boxes(self) -> list[npt.NDArray]:
        none = np.zeros((0, 4), np.float32)
        return [none if boxes is None else boxes for boxes in self._vectors("box")]

    def _ragged(self, name: str) -> tuple[list[tuple[Offsets, int, int] | None], pa.Array]:
        """Per frame its instances' offsets and its range of entries; and all entries."""
        array = self._field(name)
        ends = offsets_of(list_lengths(array))
        rows = [
            (ends[a : b + 1] - ends[a], int(ends[a]), int(ends[b])) if ok else None
            for (a, b), ok in zip(self._ranges(), self._present(name), strict=True)
        ]
        return rows, array.flatten()

    def _ref_flows(self) -> list[RefFlow | None]:
        rows, entries = self._ragged("ref_flow")
        frames = numbers(entries.field("frame_index"), "ref_flow.frame_index")
        parts = [numbers(entries.field(name), f"ref_flow.{name}") for name in ("dy", "dx")]
        dydx = np.stack(parts, axis=1)
        return [
            row
            and RefFlow(
                offsets=row[0], frame_index=frames[row[1] : row[2]], dydx=dydx[row[1] : row[2]]
            )
            for row in rows
        ]

    def _ref_affinities(self) -> list[RefAffinity | None]:
        rows, entries = self._ragged("ref_affinity")
        columns = {
            field.name: numbers(entries.field(field.name), f"ref_affinity.{field.name}")
            for field in _REF_AFFINITY
        }
        return [
            row
            and RefAffinity(
                offsets=row[0],
                **{name: values[row[1] : row[2]] for name, values in columns.items()},
            )
            for row in rows
        ]


def read_flows(array: pa.Array) -> list[FlowField | None]:
    if array.null_count == len(array):
        return [None] * len(array)
    heights = array.field("height").to_pylist()
    widths = array.field("width").to_pylist()
    data = binary_values(array.field("data"))
    rows = zip(valid_mask(array), heights, widths, data, strict=True)
    return [_read_flow(height, width, blob) if ok else None for ok, height, width, blob in rows]


def _read_flow(height: int, width: int, data: bytes) -> FlowField:
    if len(data) != 4 * height * width:
        raise ValueError(
            f"flow: {len(data)} bytes for 2 x {height} x {width} float16, "
            f"expected {4 * height * width}"
        )
    return FlowField(dxdy=np.frombuffer(data, "<f2").reshape(2, height, width))
