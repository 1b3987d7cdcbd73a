"""Masks as JSON writes them: run lengths as text or numbers, or polygons; null where unseen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vis_core.config import brief
from vis_core.errors import UsageError
from vis_core.masks import rle


def read_segmentations(
    items: Sequence[Any], size: rle.Size, where: str
) -> tuple[list[int], list[bytes]]:
    """Positions that hold a mask, and the masks, whose text is still to be validated."""
    present = [index for index, item in enumerate(items) if item]
    texts = _texts([items[index] for index in present], [size[0], size[1]])
    if texts is None:
        texts = [_mask(items[index], size, f"{where}, frame {index}") for index in present]
    return present, texts


def _texts(items: Sequence[Any], size: list[int]) -> list[bytes] | None:
    """The masks, if all of them are of the usual kind: an object with its size, and text."""
    try:
        sizes = [item["size"] for item in items]
        counts = [item["counts"] for item in items]
        if sizes.count(size) == len(items) and set(map(type, counts)) <= {str}:
            return [text.encode() for text in counts]
    except (TypeError, LookupError, UnicodeEncodeError):
        pass  # the careful way says what is wrong
    return None


def _mask(item: Any, size: rle.Size, where: str) -> bytes:
    try:
        if isinstance(item, list):
            return rle.encode_polygons(item, size)
        if not isinstance(item, dict):
            raise ValueError(f"expected run lengths or polygons, got {brief(item)}")
        if item.get("size") != [size[0], size[1]]:
            raise ValueError(f"its size is {brief(item.get('size'))}, expected {list(size)}")
        counts = item.get("counts")
        if isinstance(counts, str):
            return counts.encode()
        if isinstance(counts, list):
            return rle.encode_runs([counts], size)[0]
        raise ValueError(f"counts: expected text or a list, got {brief(counts)}")
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"{where}: {error}") from error


def write_segmentation(mask: bytes, size: rle.Size) -> dict[str, Any]:
    """Run lengths as JSON holds them; text, since bytes are no JSON."""
    return {"size": [size[0], size[1]], "counts": mask.decode("ascii")}
