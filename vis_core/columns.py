"""Arrow arrays seen as flat numpy columns, and a digest of what a table holds.

Nothing here knows a table of ours: `schema.py` does. A list array is its `lengths` and the values
of its non-null lists one after the other; that form is the same however the array was chunked,
sliced, padded under nulls, or built by a foreign writer.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

BoolArray = npt.NDArray[np.bool_]
Offsets = npt.NDArray[np.int64]

_MAX_OFFSET = 2**31 - 1  # Arrow's list and binary types count with 32 bits


def offsets_of(lengths: npt.ArrayLike) -> Offsets:
    """Where each of consecutive runs begins, and where the last one ends."""
    lengths = np.asarray(lengths, np.int64)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def split(values: npt.NDArray, offsets: Offsets) -> list[npt.NDArray]:
    """Views of consecutive runs."""
    bounds = offsets.tolist()
    return [values[start:stop] for start, stop in itertools.pairwise(bounds)]


# --- numpy to Arrow ---------------------------------------------------------------------------


def list_array(lengths: npt.ArrayLike, values: pa.Array, null: BoolArray | None = None) -> pa.Array:
    """A list array from the length of each list and all elements; `null` lists have length 0."""
    mask = pa.array(null) if null is not None and null.any() else None
    return pa.ListArray.from_arrays(_offsets32(lengths), values, mask=mask)


def binary_array(values: Sequence[bytes]) -> pa.Array:
    """A binary array, in one copy of the bytes."""
    offsets = _offsets32(np.fromiter(map(len, values), np.int64, len(values)))
    buffers = [None, offsets.buffers()[1], pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.binary(), len(values), buffers)


def _offsets32(lengths: npt.ArrayLike) -> pa.Array:
    offsets = offsets_of(lengths)
    if offsets[-1] > _MAX_OFFSET:
        raise ValueError(
            f"one column would hold {offsets[-1]} elements or bytes, at most {_MAX_OFFSET} fit: "
            "build the table from fewer rows"
        )
    return pa.array(offsets.astype(np.int32))


# --- Arrow to numpy ---------------------------------------------------------------------------


def valid_mask(array: pa.Array) -> BoolArray:
    """True where a value is not null."""
    if array.null_count == 0:
        return np.ones(len(array), bool)
    return array.is_valid().to_numpy(zero_copy_only=False)


def list_lengths(array: pa.Array) -> Offsets:
    """Elements of each list; 0 where null."""
    lengths = pc.fill_null(pc.list_value_length(array), 0)
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)


def numbers(array: pa.Array, name: str) -> npt.NDArray:
    """Values of a column that may not be null."""
    if array.null_count:
        raise ValueError(f"column {name!r} has {array.null_count} nulls where a value is required")
    return array.to_numpy(zero_copy_only=False)


def binary_values(array: pa.Array) -> list[bytes]:
    """Each value as `bytes`; empty where null."""
    _, offsets, data = array.buffers()
    if data is None:
        return [b""] * len(array)
    bounds = np.frombuffer(offsets, np.int32, len(array) + 1, 4 * array.offset)
    first = int(bounds[0])
    blob = data.slice(first, int(bounds[-1]) - first).to_pybytes()
    ends = (bounds - first).tolist()
    values = [blob[start:stop] for start, stop in itertools.pairwise(ends)]
    if array.null_count:
        values = [v if ok else b"" for v, ok in zip(values, valid_mask(array), strict=True)]
    return values


# --- foreign types ----------------------------------------------------------------------------


def is_list(kind: pa.DataType) -> bool:
    tests: Iterable[Callable[[pa.DataType], bool]] = (
        pt.is_list,
        pt.is_large_list,
        pt.is_fixed_size_list,
        pt.is_list_view,
        pt.is_large_list_view,
    )
    return any(test(kind) for test in tests)


def is_bytes(kind: pa.DataType) -> bool:
    tests: Iterable[Callable[[pa.DataType], bool]] = (
        pt.is_binary,
        pt.is_large_binary,
        pt.is_fixed_size_binary,
        pt.is_binary_view,
    )
    return any(test(kind) for test in tests)


def is_text(kind: pa.DataType) -> bool:
    return pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)


def conform(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The same values as `kind`: other list and string types, missing or reordered fields."""
    if array.type == kind:
        return array
    if pt.is_null(array.type):
        return pa.nulls(len(array), kind)
    if pt.is_dictionary(array.type):
        return conform(array.dictionary_decode(), kind)
    if pt.is_list(kind) and is_list(array.type):
        values = conform(array.flatten(), kind.value_type)
        return list_array(list_lengths(array), values, ~valid_mask(array))
    if pt.is_struct(kind) and pt.is_struct(array.type):
        return _conform_struct(array, kind)
    return array.cast(kind)


def _conform_struct(array: pa.Array, kind: pa.DataType) -> pa.Array:
    children = []
    for field in kind:
        if array.type.get_field_index(field.name) >= 0:
            children.append(conform(array.field(field.name), field.type))
        else:
            children.append(pa.nulls(len(array), field.type))
    mask = pa.array(~valid_mask(array)) if array.null_count else None
    return pa.StructArray.from_arrays(children, fields=list(kind), mask=mask)


# --- digest -----------------------------------------------------------------------------------


class ContentDigest:
    """SHA-256 of what tables hold, fed in any chunks: two equal contents have equal digests.

    Independent of chunking, slicing, offsets, column order, validity buffers, what lies under
    nulls, and which of Arrow's string, binary and list types a reader chose.
    """

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {}

    def update(self, table: pa.Table) -> None:
        for name in table.column_names:
            for chunk in table.column(name).chunks or [pa.array([], table.schema.field(name).type)]:
                self._add(f"/{name}", chunk)

    def hexdigest(self) -> str:
        total = hashlib.sha256()
        for path in sorted(self._streams):
            total.update(f"{path}\n{self._streams[path].hexdigest()}\n".encode())
        return total.hexdigest()

    def _add(self, path: str, array: pa.Array) -> None:
        if pt.is_dictionary(array.type):
            array = array.dictionary_decode()
        kind = array.type
        if is_list(kind):
            self._put(f"{path}:list", array, list_lengths(array))
            self._add(f"{path}/element", array.flatten())
        elif pt.is_struct(kind):
            self._put(f"{path}:struct", array, None)
            children = zip(kind, array.flatten(), strict=True)  # null where the struct is null
            for field, child in children:
                self._add(f"{path}/{field.name}", child)
        elif is_text(kind) or is_bytes(kind):
            self._add_bytes(f"{path}:{'string' if is_text(kind) else 'binary'}", array)
        else:
            self._put(f"{path}:{kind}", array, _leaf_values(array))

    def _add_bytes(self, path: str, array: pa.Array) -> None:
        plain = array.cast(pa.large_binary()).drop_null()
        lengths = pc.binary_length(plain).to_numpy(zero_copy_only=False)
        self._put(path, array, lengths)
        _, offsets, data = plain.buffers()
        if data is not None and len(plain):
            bounds = np.frombuffer(offsets, np.int64, len(plain) + 1, 8 * plain.offset)
            blob = memoryview(data)[int(bounds[0]) : int(bounds[-1])]
            self._streams.setdefault(f"{path}:data", _Stream()).values.update(blob)

    def _put(self, path: str, array: pa.Array, values: npt.NDArray | None) -> None:
        stream = self._streams.setdefault(path, _Stream())
        stream.add_nulls(array)
        if values is not None:
            stream.values.update(np.ascontiguousarray(values).data)


class _Stream:
    """One level of one column: values one after the other, and the positions of its nulls."""

    def __init__(self) -> None:
        self.values = hashlib.sha256()
        self._nulls = hashlib.sha256()
        self._length = 0

    def add_nulls(self, array: pa.Array) -> None:
        if array.null_count:
            positions = np.flatnonzero(~valid_mask(array)) + self._length
            self._nulls.update(positions.astype(np.int64).data)
        self._length += len(array)

    def hexdigest(self) -> str:
        return f"{self._length} {self._nulls.hexdigest()} {self.values.hexdigest()}"


def _leaf_values(array: pa.Array) -> npt.NDArray | None:
    """Fixed-width values without the nulls, as plain numbers."""
    kind = array.type
    if pt.is_null(kind):
        return None
    if pt.is_temporal(kind):
        array = array.view(pa.int64() if kind.bit_width == 64 else pa.int32())
    values = array.drop_null().to_numpy(zero_copy_only=False)
    return values.view(np.uint8) if values.dtype == bool else values


def content_digest(table: pa.Table) -> str:
    """SHA-256 of a table's content, equal before writing and after reading back."""
    digest = ContentDigest()
    digest.update(table)
    return digest.hexdigest()
