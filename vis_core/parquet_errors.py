"""Parquet files of others: what is wrong with one, said with its name and on one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa

from vis_core.errors import UsageError
from vis_core.store.patience import StorageError

# What Arrow raises for damage is not one class: OSError for pages, ValueError for numbers, …
UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError)


@contextlib.contextmanager
def reading(name: str, what: str = "cannot be read") -> Iterator[None]:
    """Names the file that Arrow's errors do not name; an outage says nothing about a file."""
    try:
        yield
    except StorageError:
        raise
    except UNREADABLE as error:
        raise UsageError(f"{name} {what}: {' '.join(str(error).split())}") from error
