"""Which category of a truth file a predicted label is: by name where ours has one, else by id."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Literal

import numpy as np

from vis_core.errors import UsageError
from vis_core.formats.fields import shown
from vis_core.formats.model import VideoTracks
from vis_core.formats.results import Results
from vis_core.formats.ytvis import ResultsFile, TruthFile

logger = logging.getLogger(__name__)

LabelMap = Mapping[tuple[str, int], int]  # (member, label) to the truth's category


def match_labels(
    truth: TruthFile, source: Results | ResultsFile, unknown: Literal["same", "common"]
) -> LabelMap:
    """`common` leaves out what the truth does not know; `same` refuses it."""
    ids = {category.label for category in truth.categories}
    by_name: dict[str, list[int]] = {}
    for category in truth.categories:
        by_name.setdefault(category.name, []).append(category.label)
    found: dict[tuple[str, int], int] = {}
    strange: dict[str, int] = {}
    for (member, label), count in sorted(source.labels().items()):
        name = source.name_of(member, label)
        same = by_name.get(name, []) if name is not None else [label] if label in ids else []
        if len(same) > 1:
            raise UsageError(f"{truth.path}: {len(same)} categories are called {name!r}")
        if same:
            found[member, label] = same[0]
        else:
            shown_name = str(label) if name is None else name
            strange[shown_name] = strange.get(shown_name, 0) + count
    if strange and unknown == "same":
        lines = [f"{name!r} ({count} lines)" for name, count in sorted(strange.items())]
        raise UsageError(
            f"{truth.path} does not know {len(lines)} of the predicted categories:"
            f" {', '.join(lines[:5])}{', …' if len(lines) > 5 else ''}; it knows"
            f" {shown(sorted(by_name))}. --set categories=common leaves such lines out; `eval"
            " --metric uvo` scores without categories"
        )
    return found


def relabelled(found: VideoTracks, labels: LabelMap) -> VideoTracks:
    """Lines under the truth's categories; those it does not know are left out."""
    lines = found.entries
    members = [found.members[track] for track in lines.track.tolist()]
    pairs = zip(members, lines.labels.tolist(), strict=True)
    mapped = np.array([labels.get(pair, -1) for pair in pairs], np.int64)
    entries = dataclasses.replace(lines, labels=mapped).where(mapped >= 0)
    return dataclasses.replace(found, entries=entries)
