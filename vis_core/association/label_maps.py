"""Labels of several members made to mean the same, before their tracks are fused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping

import numpy as np

from vis_core.association.track_pool import MemberTrack
from vis_core.errors import UsageError
from vis_core.types import Category
from vis_core.video.uris import open_regular

MAX_BYTES = 1 << 20

LabelMap = Mapping[int, int]


def read_label_maps(path: str | None, members: Iterable[str]) -> dict[str, LabelMap]:
    """Per member, which of its labels becomes which; members that are not named keep theirs."""
    if path is None:
        return {}
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise UsageError(f"label_map {path!r}: larger than {MAX_BYTES} bytes")
        values = json.loads(data)
    except OSError as error:
        raise UsageError(f"label_map {path!r}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"label_map {path!r}: not JSON: {error}") from error
    known = list(members)
    if not isinstance(values, dict) or not all(isinstance(v, dict) for v in values.values()):
        raise UsageError(f"label_map {path!r}: expected {{member: {{label: label}}}}")
    if strangers := sorted(set(values) - set(known)):
        raise UsageError(
            f"label_map {path!r}: no member is called {', '.join(strangers)}; there are"
            f" {', '.join(known)}"
        )
    return {member: _labels(path, member, found) for member, found in values.items()}


def _labels(path: str, member: str, found: Mapping[str, object]) -> LabelMap:
    labels: dict[int, int] = {}
    for old, new in found.items():
        if not (old.isascii() and old.isdigit() and type(new) is int and 1 <= new <= 100_000):
            raise UsageError(
                f"label_map {path!r}: {member}: expected labels, whole numbers from 1 on, got"
                f" {old!r}: {new!r}"
            )
        labels[int(old)] = new
    return labels


def map_categories(categories: Iterable[Category], labels: LabelMap) -> list[Category]:
    """A member's categories under the labels of the fusion."""
    return [dataclasses.replace(c, label=labels.get(c.label, c.label)) for c in categories]


def map_track(track: MemberTrack, labels: LabelMap) -> MemberTrack:
    """A track under the labels of the fusion; of classes that become one the best counts."""
    if not labels:
        return track
    scores = track.class_scores
    if scores is not None:
        new = np.array([labels.get(k, k) for k in range(1, len(scores) + 1)])
        mapped = np.zeros(new.max(initial=1), scores.dtype)
        np.maximum.at(mapped, new - 1, scores)
        scores = mapped
    label = labels.get(track.label, track.label)
    return dataclasses.replace(track, label=label, class_scores=scores)
