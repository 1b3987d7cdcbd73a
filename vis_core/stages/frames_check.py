"""What linkers take for granted of rows of `frames`, held against rows that anybody may have made.

A table is checked as a whole, column by column; the first row that is not as it should be is named.
Masks come back as an encoder writes them: run lengths may be legal and yet hold empty runs, which
pycocotools takes for pixels.

R rows of a table, I instances of all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vis_core import schema
from vis_core.columns import (
    BoolArray,
    Offsets,
    binary_array,
    binary_values,
    list_lengths,
    offsets_of,
    valid_mask,
)
from vis_core.config import brief
from vis_core.errors import ReelmaskError
from vis_core.formats.model import MOST_FRAMES
from vis_core.formats.untrusted import check_masks
from vis_core.masks import rle
from vis_core.parquet_errors import UNREADABLE

_MOST = 2**31 - 1
_VECTORS = {"box": 4, "center": 2, "mean_offset": 2, "class_scores": None, "embedding": None}
_OPTIONAL = (
    *("class_scores", "no_object_logprob", "embedding", "prev_query", "proposal"),
    *("center", "mean_offset", "ref_flow", "ref_affinity"),
)


class BadTable(ReelmaskError):
    """Its columns are not those of `frames`."""


class BadRow(ReelmaskError):
    """The first row of a table that is not as it should be."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Column:
    """Values to check, and which row each of them belongs to."""

    name: str
    values: pa.Array
    owner: Offsets

    def require(self, good: BoolArray, expected: str) -> None:
        bad = np.flatnonzero(~good)
        if len(bad):
            value = self.values[int(bad[0])].as_py()
            got = "null" if value is None else brief(value)
            message = f"{self.name} is {got}, expected {expected}"
            raise BadRow(int(self.owner[bad[0]]), message)

    def whole(self, lowest: int, most: npt.ArrayLike = _MOST, expected: str = "") -> npt.NDArray:
        """Whole numbers within bounds, none of them null."""
        values = pc.fill_null(self.values, lowest).to_numpy(zero_copy_only=False).astype(np.int64)
        good = valid_mask(self.values) & (values >= lowest) & (values <= most)
        self.require(good, expected or f"a whole number of {lowest} or more")
        return values

    def finite(self, *, null: bool = False) -> None:
        numbers = pc.fill_null(self.values, 0).to_numpy(zero_copy_only=False)
        good = np.isfinite(numbers) & (null | valid_mask(self.values))
        self.require(good, "a finite number")


class FramesCheck:
    """Checks the tables of one member, one after the other; widths must agree over all of them."""

    def __init__(
        self,
        *,
        num_frames: Mapping[str, int] | None = None,
        size: rle.Size | None = None,
        labels: Set[int] = frozenset(),
    ) -> None:
        """`num_frames` by video, `size` and `labels` bound what rows may say, where known."""
        self._size = size
        self._num_frames = num_frames or {}
        self._labels = labels
        self._widths: dict[str, int] = {}

    def sound(self, table: pa.Table) -> pa.Table:
        """The rows as FRAMES, masks as an encoder writes them; BadRow, if a row is not sound."""
        try:
            rows = schema.conform_table(table, schema.FRAMES).combine_chunks()
        except UNREADABLE as error:
            raise BadTable(" ".join(str(error).split())) from error
        if not rows.num_rows:
            return rows
        self.check_keys(rows)
        self._check_flow(rows)
        column = rows["instances"].chunk(0)
        here = _Column(name="instances", values=column, owner=np.arange(len(column)))
        here.require(valid_mask(column), "a list, which may be empty")
        instances, owner = column.flatten(), np.repeat(here.owner, list_lengths(column))
        whole = _Column(name="instances", values=instances, owner=owner)
        whole.require(valid_mask(instances), "no null within the list")
        self._check_instances(instances, owner)
        masks = _checked_masks(rows, instances.field("mask"), owner)
        return rows if masks is None else _with_masks(rows, instances, masks)

    def check_keys(self, rows: pa.Table) -> None:
        """The columns that say which frame of what a row is about."""
        rows, where = rows.combine_chunks(), np.arange(rows.num_rows)
        if not rows.num_rows:
            return
        columns = {
            name: _Column(name=name, values=rows[name].chunk(0), owner=where)
            for name in ("fingerprint", "member", "video_id", "window", "frame_index")
        }
        for name in ("fingerprint", "member", "video_id"):
            columns[name].require(valid_mask(columns[name].values), "text")
        names = columns["video_id"]
        names.require(pc.binary_length(names.values).to_numpy() > 0, "the id of a video")
        columns["window"].whole(0)
        columns["frame_index"].whole(0, MOST_FRAMES - 1, f"0 to {MOST_FRAMES - 1}")
        self._check_lengths(names, columns["frame_index"])
        sizes = [_Column(name=n, values=rows[n].chunk(0), owner=where) for n in ("height", "width")]
        height, width = (size.whole(1) for size in sizes)
        sizes[0].require(height * width <= _MOST, f"at most {_MOST} pixels with its width")
        if self._size is not None:
            for column, values, own in zip(sizes, (height, width), self._size, strict=True):
                column.require(values == own, f"{own}, as its video has")

    def _check_lengths(self, names: _Column, frames: _Column) -> None:
        """No row behind the end of its video, where that is known."""
        if not self._num_frames:
            return
        codes = names.values.dictionary_encode()
        most = [self._num_frames.get(name, MOST_FRAMES) for name in codes.dictionary.to_pylist()]
        ends = np.asarray(most, np.int64)[codes.indices.to_numpy()]
        index = frames.values.to_numpy()
        if (index >= ends).any():
            end = int(ends[np.argmax(index >= ends)])
            frames.require(index < ends, f"a frame of its video, which has {end}")

    def _check_flow(self, rows: pa.Table) -> None:
        flow = rows["flow"].chunk(0)
        if flow.null_count == len(flow):
            return
        given = np.flatnonzero(valid_mask(flow))
        flow = flow.take(pa.array(given))
        parts = {
            name: _Column(name=f"flow.{name}", values=flow.field(name), owner=given)
            for name in ("height", "width", "data")
        }
        height, width = (parts[name].whole(1) for name in ("height", "width"))
        data = parts["data"].values
        lengths = pc.fill_null(pc.binary_length(data), -1).to_numpy()
        if (lengths != 4 * height * width).any():
            first = int(np.argmax(lengths != 4 * height * width))
            raise BadRow(
                int(given[first]),
                f"flow.data has {max(0, lengths[first])} bytes, expected"
                f" {4 * int(height[first]) * int(width[first])}: 2 x {height[first]} x"
                f" {width[first]} numbers of float16",
            )
        for row, blob in zip(given.tolist(), binary_values(data), strict=True):
            if not np.isfinite(np.frombuffer(blob, "<f2")).all():
                raise BadRow(row, "flow.data holds a value that is not finite, expected pixels")

    def _check_instances(self, instances: pa.StructArray, owner: Offsets) -> None:
        def of(name: str) -> _Column:
            return _Column(name=f"instances.{name}", values=instances.field(name), owner=owner)

        of("score").finite()
        of("no_object_logprob").finite(null=True)
        labels = of("label").whole(1)
        masks = of("mask")
        masks.require(valid_mask(masks.values), "run lengths")
        for name in _OPTIONAL:
            _check_all_or_none(of(name))
        for name, width in _VECTORS.items():
            self._check_vectors(name, of(name), width)
        num_classes = self._widths.get("class_scores")
        if num_classes is not None:
            valid = valid_mask(of("class_scores").values)
            good = ~valid | (labels <= num_classes)
            of("label").require(good, f"1 to {num_classes}, as there are class scores")
        if self._labels:
            known = np.isin(labels, list(self._labels))
            of("label").require(known, f"one of the categories: {_some(self._labels)}")
        _check_entries(of("ref_flow"), ("dy", "dx"))
        _check_entries(of("ref_affinity"), ("iou", "affinity"))

    def _check_vectors(self, name: str, column: _Column, width: int | None) -> None:
        valid = valid_mask(column.values)
        if width is not None and name == "box":
            column.require(valid, f"{width} numbers")
        if not valid.any():
            return
        lengths = list_lengths(column.values)
        expected = self._widths.setdefault(name, width or int(lengths[np.argmax(valid)]))
        again = "" if width else ", as in other rows"
        column.require(~valid | (lengths == expected), f"{expected} numbers{again}")
        flat = column.values.flatten()
        owner = np.repeat(column.owner, lengths)
        _Column(name=column.name, values=flat, owner=owner).finite()


def _check_all_or_none(column: _Column) -> None:
    """A field is there for all instances of a row or for none."""
    valid = valid_mask(column.values)
    if valid.all() or not valid.any():
        return
    found = np.bincount(column.owner, valid, column.owner[-1] + 1)
    column.require(
        valid | (found[column.owner] == 0), "a value, as other instances of its row have"
    )


def _check_entries(column: _Column, floats: Sequence[str]) -> None:
    """References to other frames: no nulls in them, and finite numbers."""
    if column.values.null_count == len(column.values):
        return
    entries = column.values.flatten()
    owner = np.repeat(column.owner, list_lengths(column.values))
    _Column(name=column.name, values=entries, owner=owner).require(
        valid_mask(entries), "no null within the list"
    )
    for field in entries.type:
        name = f"{column.name}.{field.name}"
        part = _Column(name=name, values=entries.field(field.name), owner=owner)
        if field.name in floats:
            part.finite()
        else:
            part.whole(0)


def _checked_masks(rows: pa.Table, masks: pa.Array, owner: Offsets) -> list[bytes] | None:
    """All masks as an encoder writes them; None where they are so already."""
    texts = binary_values(masks)
    changed = False
    for size, mine in _by_size(rows, owner):
        given = [texts[i] for i in mine.tolist()]
        try:
            found, _ = check_masks(given, size)
        except ValueError:
            raise _bad_mask(given, mine, size, owner) from None
        for index, before, after in zip(mine.tolist(), given, found, strict=True):
            if before is not after:
                texts[index], changed = after, True
    return texts if changed else None


def _by_size(rows: pa.Table, owner: Offsets) -> Iterator[tuple[rle.Size, Offsets]]:
    """The sizes that rows have, and the instances of each; one, but for foreign tables."""
    sizes = np.stack([rows["height"].to_numpy(), rows["width"].to_numpy()], axis=1)
    distinct, which = np.unique(sizes, axis=0, return_inverse=True)
    for number, (height, width) in enumerate(distinct.tolist()):
        yield (height, width), np.flatnonzero(which.reshape(-1)[owner] == number)


def _bad_mask(given: Sequence[bytes], mine: Offsets, size: rle.Size, owner: Offsets) -> BadRow:
    for index, text in zip(mine.tolist(), given, strict=True):
        try:
            check_masks([text], size)
        except ValueError as error:
            place = index - int(np.searchsorted(owner, owner[index]))
            reason = str(error).removeprefix("mask 0: ")
            return BadRow(int(owner[index]), f"instances.mask of instance {place}: {reason}")
    raise AssertionError("masks that are well formed one by one are so together")


def _with_masks(rows: pa.Table, instances: pa.StructArray, masks: Sequence[bytes]) -> pa.Table:
    fields = list(instances.type)
    values = [
        binary_array(masks) if field.name == "mask" else instances.field(field.name)
        for field in fields
    ]
    column = rows["instances"].chunk(0)
    offsets = pa.array(offsets_of(list_lengths(column)).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(values, fields=fields))
    return rows.set_column(rows.schema.get_field_index("instances"), "instances", lists)


def _some(labels: Set[int]) -> str:
    shown: list[Any] = sorted(labels)[:5]
    return ", ".join(map(str, shown)) + (", …" if len(labels) > 5 else "")
