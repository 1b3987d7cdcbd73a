"""Names that come out of files: a receipt, a row of the manifest. Nothing is deleted by them."""

import dataclasses
import datetime
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from tests.support.clips import write_clips
from tests.support.fakes import fake_job
from tests.support.results import result_digest, run_record
from vis_core.stages import audit
from vis_core.stages.plan import attempts_that_count, quarantined
from vis_core.store.manifest import ATTEMPTS, KEY_COLUMNS
from vis_core.store.parts import RECEIPT_KEY, find_part, read_receipt
from vis_core.store.segments import SegmentKey, part_name, receipt_from_json, receipt_to_json
from vis_core.store.store import open_store
from vis_core.systems import SYSTEMS

OTHER = f"part-{'0' * 32}.parquet"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Two clips and a results folder of two parts."""
    folder = tmp_path_factory.mktemp("receipts")
    write_clips(folder / "clips", 2, num_frames=4)
    assert cli.main(words(folder, folder / "out")) == 0
    return folder


@pytest.fixture
def out(labelled, tmp_path):
    return shutil.copytree(labelled / "out", tmp_path / "out")


def words(folder, out, *more):
    setting = ("--set", f"truth={folder}/clips/truth.json", "--set", "shard_frames=4")
    return ["label", f"{folder}/clips", "--out", str(out), "--system", "oracle", *setting, *more]


def parts_of(out):
    return sorted((out / "frames").glob("part-*"))


def with_receipt(source, target, change):
    """A copy of a part whose receipt says something else."""
    receipt = pq.read_metadata(source).metadata[RECEIPT_KEY]
    table = pq.read_table(source)
    with pq.ParquetWriter(target, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({RECEIPT_KEY: change(receipt)})


def renamed(part):
    def change(text):
        receipt = receipt_from_json(text)
        segments = tuple(dataclasses.replace(s, part=part) for s in receipt.segments)
        return receipt_to_json(dataclasses.replace(receipt, segments=segments, part=part)).encode()

    return change


def assert_whole(out):
    assert audit.verify(open_store(str(out), create=False), SYSTEMS, deep=True).problems == []


@pytest.mark.parametrize(
    "part", ["../../victim", "../../../victim", "/victim", "a/../../../victim"]
)
def test_a_receipt_deletes_no_other_file(labelled, out, part):
    victims = [out.parent / "victim", out / "victim", out.parent.parent / "victim"]
    for victim in victims:
        victim.write_text("mine")
    with_receipt(parts_of(out)[0], out / "frames" / OTHER, renamed(part))
    assert cli.main(words(labelled, out)) == 0
    assert all(victim.read_text() == "mine" for victim in victims)
    victims[2].unlink()
    assert_whole(out)


@pytest.mark.parametrize("command", ["gc", "label"])
def test_a_row_of_the_manifest_deletes_no_other_file(labelled, out, command):
    (out.parent / "victim").write_text("mine")
    store = open_store(str(out))
    rows = store.manifest.segments.load().slice(0, 1)
    for name, value in (("part", "../../victim"), ("fingerprint", "f" * 64)):
        rows = rows.set_column(rows.schema.get_field_index(name), name, [[value]])
    store.manifest.segments.append(rows)
    links = store.manifest.links.load().slice(0, 1)
    links = links.set_column(2, "file", [["../../victim"]]).set_column(1, "track_key", [["x"]])
    store.manifest.links.append(links)
    assert cli.main(["gc", str(out)] if command == "gc" else words(labelled, out)) == 0
    assert (out.parent / "victim").read_text() == "mine"
    assert_whole(out)


def test_a_copy_of_a_part_costs_nothing(labelled, out):
    """Under another legal name it repeats what is committed; the original stays."""
    original = parts_of(out)[0]
    shutil.copy(original, out / "frames" / OTHER)
    found = audit.verify(open_store(str(out)), SYSTEMS)
    assert [OTHER in line for line in found.problems] == [True]
    assert cli.main(words(labelled, out)) == 0
    assert original.exists() and not (out / "frames" / OTHER).exists()
    assert_whole(out)
    assert cli.main(words(labelled, out, "--set", "min_len=3")) == 0
    assert run_record(out)["frames_predicted"] == 0
    assert_whole(out)


def test_a_copy_under_the_name_of_another_part_is_not_that_part(labelled, out, tmp_path):
    """Taken for it, its unit would be adopted again and again and never be computed."""
    first, second = parts_of(out)
    shutil.copy(first, second)
    for log in ("segments", "links"):
        shutil.rmtree(out / "manifest" / log)
    assert find_part(open_store(str(out)).folder, second.name) is None
    assert cli.main(words(labelled, out)) == 0
    assert run_record(out)["frames_predicted"] == 4
    assert result_digest(out) == result_digest(labelled / "out")
    assert_whole(out)


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"segments": []}',
        b'{"segments": [{}]}',
        b'{"segments": [{"key": {}, "holes": [], "cuts": []}]}',
        b"[" * 100_000,
        renamed(7),
    ],
    ids=[*"abcdefg", "deep", "number"],
)
def test_a_part_with_a_bad_receipt_is_set_aside(labelled, out, caplog, text):
    """No run ends with it; it is named, and kept out of the way."""
    change = text if callable(text) else lambda old: text
    with_receipt(parts_of(out)[0], out / "frames" / OTHER, change)
    assert any(OTHER in line for line in audit.verify(open_store(str(out)), SYSTEMS).problems)
    assert cli.main(words(labelled, out)) == 0
    assert OTHER in caplog.text and (out / "frames" / f".{OTHER}.damaged").exists()
    assert_whole(out)
    assert cli.main(["gc", str(out)]) == 0
    assert not (out / "frames" / f".{OTHER}.damaged").exists()


def test_a_receipt_is_of_the_part_that_its_segments_make(labelled, out):
    folder = open_store(str(out)).folder
    for part in parts_of(out):
        receipt = read_receipt(folder, part.name)
        assert part.name == part_name([segment.key for segment in receipt.segments])
        assert {segment.part for segment in receipt.segments} == {receipt.part} == {part.name}


# --- clocks --------------------------------------------------------------------------------

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def attempt(number, *, pardoned=None, hours=0.0):
    key = dataclasses.asdict(SegmentKey("f", "v", "1", 0, 0, 4))
    values = {
        "attempt_id": f"a{number}",
        "stage": "decode",
        "singleton": True,
        "pardoned": pardoned,
    }
    when = NOW + datetime.timedelta(hours=hours)
    return {**key, **values, "pardon": pardoned is not None, "time": when}


def table(*rows):
    return pa.Table.from_pylist(list(rows), schema=ATTEMPTS)


def test_a_pardon_of_a_clock_that_is_ahead_pardons_nothing_that_comes_later():
    """Else a video that crashes is tried for as long as the clocks differ."""
    pardon = attempt(9, pardoned="a1", hours=1)
    later = [attempt(number, hours=-number) for number in (2, 3, 4)]
    counted = attempts_that_count(table(attempt(1), pardon, *later))
    assert sorted(counted["attempt_id"].to_pylist()) == ["a2", "a3", "a4"]
    assert quarantined(counted, 3).select(KEY_COLUMNS).num_rows == 1


def test_a_pardon_of_a_clock_that_is_behind_counts():
    rows = table(attempt(1), attempt(2), attempt(8, pardoned="a1", hours=-9))
    assert attempts_that_count(rows)["attempt_id"].to_pylist() == ["a2"]


def test_a_pardon_that_names_no_attempt_pardons_none(tmp_path):
    """Pardons of earlier versions compared clocks; `--retry-quarantined` gives new ones."""
    store = open_store(fake_job(tmp_path / "out").out)
    old = table(attempt(1), attempt(2, hours=1) | {"pardon": True})
    pq.write_table(
        old.drop_columns(["pardoned"]),
        _made(tmp_path / "out/manifest/attempts") / "tail-0123456789ab-000000.parquet",
    )
    assert attempts_that_count(store.manifest.attempts.load())["attempt_id"].to_pylist() == ["a1"]


def _made(folder):
    folder.mkdir(parents=True)
    return folder
