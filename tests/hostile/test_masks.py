"""Masks that are legal and strange, or no masks at all: harmless everywhere, or refused by name."""

from __future__ import annotations

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from tests.support.fakes import fake_video
from tests.support.linkable import (
    NUM_FRAMES,
    SETTINGS,
    SIZE,
    linkable_rows,
    linkable_table,
    runs,
    write_linkable,
)
from tests.support.results import result_digest, table
from tests.support.rows import box_masks
from vis_core import errors, schema
from vis_core.masks import rle
from vis_core.schema import FileMetadata
from vis_core.stages.tracks import MemberRows, write_tracks
from vis_core.store.folder import open_folder
from vis_core.store.results import ResultsWriter
from vis_core.systems import SYSTEMS, get_system

ALL = SIZE[0] * SIZE[1]
GOOD = box_masks([(20, 1, 24, 5)], SIZE)[0]
# What has no pixel, or all of them, or one; and runs that an encoder would not write.
LEGAL = {
    "no_pixel": runs(ALL),
    "no_pixel_and_an_empty_run": runs(ALL, 0),
    "no_pixel_between_empty_runs": runs(0, 0, ALL),
    "no_pixel_around_an_empty_run": runs(100, 0, ALL - 100),
    "whole_picture": runs(0, ALL),
    "one_pixel": runs(77, 1, ALL - 78),
    "begins_empty": runs(0, 0, 40, 6, ALL - 46),
    "ends_empty": runs(40, 6, ALL - 46, 0),
    "ends_at_the_corner": runs(ALL - 6, 6, 0, 0),
    "empty_inside": runs(40, 3, 0, 3, ALL - 46),
}
NO_MASK = {
    "no_runs": b"",
    "all_zero": runs(0, 0, 0),
    "one_zero": runs(0),
    "too_short": runs(5, 5),
    "too_long": runs(ALL, 1),
    "negative": runs(50, -20, ALL - 30),
    "no_text": b"\xff\xfe",
}
EMPTY = [mask for name, mask in LEGAL.items() if name.startswith("no_pixel")]


def canonical(mask):
    return rle.encode(rle.decode([mask], SIZE))[0]


def link(frames, out, system):
    sets = [word for value in SETTINGS[system] for word in ("--set", value)]
    return cli.main(["link", str(frames), "--system", system, "--out", str(out), *sets])


@pytest.mark.parametrize("system", SYSTEMS)
def test_legal_masks_link_as_an_encoder_would_have_written_them(system, tmp_path):
    """Runs that are empty change nothing, in any linker."""
    masks = list(LEGAL.values())
    given = write_linkable(tmp_path / "given.parquet", masks)
    plain = write_linkable(tmp_path / "plain.parquet", [canonical(mask) for mask in masks])
    assert link(given, tmp_path / "a", system) == errors.EXIT_OK
    assert link(plain, tmp_path / "b", system) == errors.EXIT_OK
    assert len(table(tmp_path / "a", "tracks")) >= 2
    assert result_digest(tmp_path / "a") == result_digest(tmp_path / "b")
    for row in table(tmp_path / "a", "masks").to_pylist():
        (dense,) = rle.decode([row["mask"]], SIZE)
        y, x = np.nonzero(dense)
        assert row["box"] == [x.min(), y.min(), x.max() + 1, y.max() + 1]


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_linker_trips_over_what_has_no_pixel(system):
    """Called from Python it gets them as they are: what has no pixel disturbs nobody."""
    made = get_system(system)
    linker = made.make_linker(made.link_config())
    linker.start(fake_video("v", NUM_FRAMES, height=SIZE[0], width=SIZE[1]))
    for prediction in linkable_rows(EMPTY):
        linker.step(prediction)
    plans = linker.finish()
    assert all(np.isfinite(plan.score) for plan in plans)
    seen = {int(i) for plan in plans if plan.frame_index.size > 1 for i in plan.instance}
    assert seen >= {0, 1}


@pytest.mark.parametrize("name", NO_MASK)
def test_what_is_no_mask_is_refused_by_row_and_instance(name, tmp_path, capsys):
    """Once, with code 2, before anything is written."""
    given = write_linkable(tmp_path / "frames.parquet", [GOOD, NO_MASK[name]])
    assert link(given, tmp_path / "out", "flow_match") == errors.EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    where = r"frames\.parquet: row 0 \(video 'v', frame 0\): instances\.mask of instance 3: "
    assert re.search(where, line)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NO_MASK)
def test_a_part_that_holds_no_mask_fails_its_video(name, tmp_path):
    """Results folders are passed around: pycocotools never sees what it would loop on for ever."""
    rows = linkable_table([NO_MASK[name]])
    video = fake_video("v", NUM_FRAMES, height=SIZE[0], width=SIZE[1])
    made = get_system("flow_match")
    member = MemberRows(
        member="m",
        system=made,
        link_config=made.link_config(),
        tables=lambda columns: iter([rows]),
        cuts=np.zeros(0, np.int64),
        holes=[],
        missing=np.zeros(0, np.int32),
    )
    with ResultsWriter(open_folder(str(tmp_path)), FileMetadata(), 1 << 20) as writer:
        linked = write_tracks(video, [member], writer)
    assert "frame 0 cannot be linked: instances.mask of instance 2: " in linked["error"]


@pytest.fixture(scope="module")
def strange_results(tmp_path_factory):
    """Results as another program may write them, and the same with masks of an encoder."""
    folder = tmp_path_factory.mktemp("strange")
    given = write_linkable(folder / "frames.parquet", [GOOD])
    found = {}
    for name in ("given", "plain"):
        out = folder / name
        assert link(given, out, "oracle") == errors.EXIT_OK
        path = next((out / "masks").glob("*.parquet"))
        masks = list(LEGAL.values()) if name == "given" else list(map(canonical, LEGAL.values()))
        rows = pq.read_table(path).to_pylist()
        for position, row in enumerate(rows):
            row["mask"] = masks[position % len(masks)]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema.MASKS), path)
        found[name] = out
    return found


@pytest.mark.parametrize("kind", ["ytvis", "coco", "davis", "mots", "cvat", "rows"])
def test_exports_are_those_of_plain_masks(strange_results, tmp_path, kind):
    """Byte for byte, in every format."""
    for name, results in strange_results.items():
        out = tmp_path / name / ("rows.csv" if kind == "rows" else "out.json")
        out.parent.mkdir()
        words = ["export", str(results), "--format", kind, "--out", str(out)]
        assert cli.main(words) == errors.EXIT_OK
    contents = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "given", tmp_path / "plain")
    ]
    assert contents[0] and contents[0] == contents[1]


def test_scores_and_fusions_are_those_of_plain_masks(strange_results, tmp_path, capsys):
    """`eval` and `fuse` read the same objects."""
    truth = tmp_path / "truth.json"
    words = ["export", str(strange_results["plain"]), "--format", "ytvis", "--out", str(truth)]
    assert cli.main([*words, "--set", "flavour=truth"]) == errors.EXIT_OK
    scores, digests = [], []
    for name, results in strange_results.items():
        capsys.readouterr()
        words = ["eval", str(results), "--truth", str(truth), "--metric", "uvo", "--json"]
        assert cli.main(words) == errors.EXIT_OK
        scores.append(json.loads(capsys.readouterr().out))
        out = tmp_path / f"fused-{name}"
        runs_of = [f"a={results}", f"b={strange_results['plain']}"]
        assert cli.main(["fuse", *runs_of, "--out", str(out)]) == errors.EXIT_OK
        digests.append(result_digest(out))
    assert scores[0] == scores[1] and scores[0]["AP"] > 0
    assert digests[0] == digests[1]
