"""Parts: first writer wins, a whole one is adopted, half of one is not there."""

import pytest

from tests.support.fakes import empty_prediction, fake_job, fake_video
from vis_core import schema
from vis_core.job import file_metadata
from vis_core.stages.link import covering
from vis_core.store.parts import (
    PartWriter,
    digest_of_segment,
    find_part,
    read_receipt,
    read_segment,
)
from vis_core.store.segments import (
    Receipt,
    Segment,
    SegmentKey,
    SegmentReceipt,
    Unit,
    receipt_from_json,
    receipt_to_json,
)
from vis_core.store.store import open_store
from vis_core.types import Hole


@pytest.fixture
def world(tmp_path):
    job = fake_job(tmp_path / "out")
    segments = (
        Segment(video=fake_video("a", 5), start=0, stop=5),
        Segment(video=fake_video("b/ü", 9), start=3, stop=6),
    )
    member = job.members[0]
    unit = Unit(member=member.name, fingerprint=member.fingerprint, segments=segments)
    return job, open_store(job.out), unit


def write(job, store, unit, *, die=False, row_group_bytes=1 << 20):
    with PartWriter(
        store.folder,
        unit.part,
        member=unit.member,
        fingerprint=unit.fingerprint,
        metadata=file_metadata(job),
        row_group_bytes=row_group_bytes,
    ) as writer:
        for segment in unit.segments:
            for frame in range(segment.start, segment.stop):
                if frame != 4:
                    writer.append(empty_prediction(segment.video.video_id, frame))
            hole = Hole(start=4, stop=5, reason="damage")
            writer.end_segment(segment.key(unit.fingerprint), holes=[hole], cuts=[3])
        if die:
            raise KeyboardInterrupt
        return writer.commit(Receipt(member=unit.member, segments=(), part=unit.part, part_bytes=0))


def test_a_part_proves_its_receipt(world):
    job, store, unit = world
    receipt = write(job, store, unit)
    found = read_receipt(store.folder, unit.part)
    assert found.segments == receipt.segments and found.adopted
    assert found.part_bytes == receipt.part_bytes == store.folder.size(f"frames/{unit.part}")
    assert receipt_from_json(receipt_to_json(receipt)) == receipt
    for segment, wanted in zip(receipt.segments, unit.segments, strict=True):
        frames = [
            p.frame_index
            for table in read_segment(store.folder, segment)
            for p in schema.table_to_predictions(table)
        ]
        assert frames == [f for f in range(wanted.start, wanted.stop) if f != 4]
        assert digest_of_segment(store.folder, segment) == segment.digest


def test_the_second_writer_gets_the_first_ones_receipt(world):
    job, store, unit = world
    first = write(job, store, unit)
    second = write(job, store, unit, row_group_bytes=1)
    assert second.segments == first.segments
    assert store.folder.names("frames") == [unit.part]


def test_a_writer_that_dies_leaves_nothing(world):
    job, store, unit = world
    with pytest.raises(KeyboardInterrupt):
        write(job, store, unit, die=True)
    assert find_part(store.folder, unit.part) is None
    assert list((store.folder.path / "frames").iterdir()) == []


def test_half_a_file_is_no_part(world):
    job, store, unit = world
    write(job, store, unit)
    path = store.folder.path / "frames" / unit.part
    path.write_bytes(path.read_bytes()[:-20])
    assert find_part(store.folder, unit.part) is None
    assert store.adopt_orphans("run") == []


def test_the_name_follows_from_the_keys_alone(world):
    _, _, unit = world
    turned = Unit(
        member="other", fingerprint=unit.fingerprint, segments=tuple(reversed(unit.segments))
    )
    assert turned.part == unit.part
    less = Unit(member="fake", fingerprint=unit.fingerprint, segments=unit.segments[:1])
    assert less.part != unit.part


def receipt_of(start, stop, window=0):
    return SegmentReceipt(
        key=SegmentKey("f", "v", "1", window, start, stop),
        part="p",
        row_group=0,
        num_row_groups=1,
        num_rows=stop - start,
        digest="d",
    )


def test_overlapping_segments_give_every_frame_once():
    segments = [receipt_of(5, 12), receipt_of(0, 8), receipt_of(6, 7), receipt_of(0, 3, window=1)]
    used = [(s.key.window, a, b) for s, a, b in covering(segments)]
    assert used == [(0, 0, 8), (0, 8, 12), (1, 0, 3)]
