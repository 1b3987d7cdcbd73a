"""What code and pages refer to is there: published papers, and pages whose numbers are true."""

import dataclasses
import re
from pathlib import Path

import pytest

from vis_core.systems import SYSTEMS

REPO = Path(__file__).parents[2]
PAGES = sorted((REPO / "docs/methods").glob("*.md"))
CODE = sorted(
    path
    for root in ("vis_core", "pipelines", "cluster", "jobs", "tests")
    for path in (REPO / root).rglob("*.py")
)
WRITTEN = [
    *(path for path in CODE if path.relative_to(REPO).parts[0] != "tests"),
    *(path for path in sorted((REPO / "docs").rglob("*")) if path.suffix in (".md", ".yaml")),
]
UNPUBLISHED = re.compile(r"\bspec_[a-z]|shared/specs")
NAMED_PAGE = re.compile(r"docs/methods/(\w+)\.md")
HEADINGS = [
    "Paper",
    "What it does",
    "What cannot be predicted yet",
    "Settings",
    "Where the paper and the released code differ",
    "What we decided",
    "What the golden fixtures cover",
]


def shown(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def rows_of(page: Path) -> list[list[str]]:
    """The cells of all rows of all its tables."""
    lines = [line for line in text_of(page).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def documented(page: Path) -> dict[str, str]:
    """Settings by the names in first columns, with what stands beside them."""
    return {
        name: cells[1] for cells in rows_of(page) for name in re.findall(r"`([^`]+)`", cells[0])
    }


def defaults_of(system: str) -> dict[str, object]:
    """Of all settings of prediction and linking."""
    configs = (SYSTEMS[system].predict_config, SYSTEMS[system].link_config)
    return {field.name: field.default for config in configs for field in dataclasses.fields(config)}


def as_written(value: object) -> str:
    return {"None": "none", "True": "true", "False": "false"}.get(str(value), str(value))


def test_nothing_refers_to_what_is_not_published():
    found = [
        f"{shown(path)}: {match[0]}"
        for path in WRITTEN
        for match in UNPUBLISHED.finditer(text_of(path))
    ]
    assert not found


def test_pages_that_are_named_are_there():
    known = {page.stem for page in PAGES}
    missing = [
        f"{shown(path)}: {match[0]}"
        for path in [*CODE, *WRITTEN]
        for match in NAMED_PAGE.finditer(text_of(path))
        if match[1] not in known
    ]
    assert not missing


def test_every_method_has_a_page():
    assert {page.stem for page in PAGES} == set(SYSTEMS) - {"oracle"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_have_the_same_parts(page):
    assert re.findall(r"^## (.+)$", text_of(page), re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_settings_in_tables_are_those_of_the_system(page):
    """Names are fields of its configs, and the defaults beside them are theirs."""
    found, defaults = documented(page), defaults_of(page.stem)
    assert found, "no table names a setting"
    assert set(found) <= set(defaults)
    assert found == {name: as_written(defaults[name]) for name in found}
