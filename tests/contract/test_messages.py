"""A message that tells somebody to change a setting names one that there is."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_layout import FILES, shown
from vis_core import schema
from vis_core.association.fusion import FusionConfig
from vis_core.config import choices
from vis_core.eval.evaluate import EvalConfig
from vis_core.formats.export import ExportConfig
from vis_core.job_settings import JobSettings
from vis_core.systems import SYSTEMS

KINDS = [JobSettings, FusionConfig, EvalConfig, ExportConfig]
KINDS += [s.predict_config for s in SYSTEMS.values()] + [s.link_config for s in SYSTEMS.values()]
SETTINGS = {field.name: field for kind in KINDS for field in dataclasses.fields(kind)}
# How messages name a setting: `--set NAME…`, `(the_name)`, `NAME=value`, `a smaller the_name`.
MENTIONS = (
    re.compile(r"--set ([a-z_0-9]+)"),
    re.compile(r"\(([a-z]+(?:_[a-z]+)+)\)"),
    re.compile(r"\b(?:smaller|larger|higher|lower|raise|set|leave) ([a-z]+(?:_[a-z]+)+)"),
    re.compile(r"\b([a-z][a-z_]+)=(?:true|false|\d+|[A-Z]+\b|[a-z_]+\b)"),
)
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef
NOT_SETTINGS = {
    "key",  # --set key=value
    *("mbtree", "flags"),  # options of x264 and of FFmpeg's scaler
}


def strings(path: Path) -> Iterator[str]:
    """The texts of a file that may be shown: all but docstrings, f-strings with `…` for values."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = set()
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node):
            hidden.add(node.body[0].value)
        elif isinstance(node, ast.JoinedStr):
            hidden.update(node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in hidden:
            yield node.value


def mentioned(text: str) -> set[str]:
    return {name for pattern in MENTIONS for name in pattern.findall(text)}


def test_mentions_are_recognised():
    assert mentioned("more than 5 frames (max_frames)") == {"max_frames"}
    assert mentioned("(or oracle with centers=true and ref_flow=3)") == {"centers", "ref_flow"}
    assert mentioned("use --set min_score=… or --set truth=FILE") == {"min_score", "truth"}


def test_every_setting_in_a_message_exists():
    found = {
        f"{shown(path)}: {name} in {text!r}"
        for path in FILES
        for text in strings(path)
        for name in mentioned(text)
        if name not in SETTINGS and name not in NOT_SETTINGS
    }
    assert not found
    told = {name for path in FILES for text in strings(path) for name in mentioned(text)}
    assert {"decode_timeout_seconds", "max_video_frames", "batch_size", "label_map"} <= told


COLUMNS = set(schema.FRAMES.names) | {
    field.name for field in schema.FRAMES.field("instances").type.value_type
}


@pytest.mark.parametrize("kind", dict.fromkeys(KINDS), ids=lambda kind: kind.__name__)
def test_every_name_in_a_meaning_exists(kind):
    """What a setting says of others, of their values and of columns."""
    values = {str(each) for field in dataclasses.fields(kind) for each in choices(kind, field)}
    names = {field.name for field in dataclasses.fields(kind)}
    for field in dataclasses.fields(kind):
        told = set(re.findall(r"`([a-z_0-9]+)`", field.metadata["says"]))
        assert told <= names | values | COLUMNS | {"hota"}, field.name
