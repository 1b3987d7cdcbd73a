"""Whether predictions have what a linker reads: looked at once, before anything is linked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vis_core.errors import UsageError
from vis_core.stages.relink import Predictions, Relink
from vis_core.system import System

_ELEMENT = "instances.list.element."
_ROWS = 256  # with instances; the first of a video may lack what refers to rows before it
_ROWS_IN_ALL = 20_000  # where hardly any frame shows something


def check_columns(relink: Relink, systems: Mapping[str, System]) -> None:
    """A linker that lacks what it reads would fail on every video: one mistake, said once."""
    needs = relink.system.reads(relink.link_config)
    there = _columns_of(relink, [name for need in needs for name in need])
    if there is None:
        return  # nothing was found anywhere: there is nothing to link
    for need in needs:
        if there.isdisjoint(need):
            names = " or ".join(f"`{name}`" for name in need)
            raise UsageError(
                f"{relink.system.name} links by {names}, which these predictions do not have;"
                f" {_makers(need, systems)}, or choose the linker of the system that made them"
            )


def _columns_of(relink: Relink, names: Sequence[str]) -> set[str] | None:
    """Which of these some instance of the first rows has; None where there is no instance."""
    found: set[str] = set()
    rows = rows_with_instances = 0
    for table in _first_tables(relink, [_ELEMENT + name for name in ("score", *names)]):
        kind = table.schema.field("instances").type
        if not (pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)):
            return None  # whoever reads the rows says what is wrong with them
        instances = table["instances"].combine_chunks()
        values = instances.flatten()
        fields = {field.name for field in kind.value_type}
        found |= {
            name for name in names if name in fields and values.field(name).null_count < len(values)
        }
        rows += len(table)
        rows_with_instances += int(
            np.count_nonzero(pc.fill_null(pc.list_value_length(instances), 0))
        )
        if len(found) == len(set(names)) or rows_with_instances >= _ROWS or rows >= _ROWS_IN_ALL:
            break
    return found if rows_with_instances else None


def _first_tables(relink: Relink, columns: Sequence[str]) -> Iterator[pa.Table]:
    predictions: Predictions = relink.predictions
    for video_id in itertools.chain.from_iterable(predictions.batches(1)):
        rows = predictions.rows(video_id, relink.system, relink.link_config)
        yield from (table for table in rows.tables(columns) if "instances" in table.column_names)


def _makers(need: Sequence[str], systems: Mapping[str, System]) -> str:
    """Whose predictions have one of these columns."""
    makers = [
        system.name + (f" ({system.writes[name]})" if system.writes[name] else "")
        for name in need
        for system in systems.values()
        if name in system.writes
    ]
    if not makers:
        return "no system here predicts it"
    return f"predict with --system {' or '.join(makers)}"
