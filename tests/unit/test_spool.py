"""The mask spool: any order in, sorted tracks out, with and without temporary files."""

import tempfile

import numpy as np
import pyarrow as pa
import pytest

from vis_core.store.spool import SPOOLED, MaskSpool


def rows(tracks, frames):
    count = len(tracks)
    return pa.table(
        {
            "track": np.asarray(tracks, np.int32),
            "frame_index": np.asarray(frames, np.int32),
            "mask": [f"{t}:{f}".encode() * 5 for t, f in zip(tracks, frames, strict=True)],
            "score": np.arange(count, dtype=np.float32),
        },
        schema=SPOOLED,
    )


@pytest.mark.parametrize("run_bytes", [1, 5_000, 1 << 30])
def test_tracks_leave_in_order_whatever_the_memory(run_bytes):
    rng = np.random.default_rng(0)
    pairs = [(t, f) for t in range(7) if t != 3 for f in range(50)]
    rng.shuffle(pairs)
    with MaskSpool(run_bytes=run_bytes) as spool:
        for start in range(0, len(pairs), 40):
            spool.add(rows(*zip(*pairs[start : start + 40], strict=True)))
        got = dict(spool.tracks())
    assert list(got) == [0, 1, 2, 4, 5, 6]
    for track, table in got.items():
        assert table["frame_index"].to_pylist() == list(range(50))
        assert set(table["track"].to_pylist()) == {track}
        assert table["mask"][7].as_py() == f"{track}:7".encode() * 5


def test_a_track_larger_than_a_batch_of_a_run_comes_whole():
    frames = np.arange(20_000)
    with MaskSpool(run_bytes=1) as spool:
        spool.add(rows(np.repeat([4, 2], 10_000), frames))
        spool.add(rows(np.repeat([2], 20_000), frames + 20_000))
        got = dict(spool.tracks())
    assert [(t, len(table)) for t, table in got.items()] == [(2, 30_000), (4, 10_000)]
    assert np.all(np.diff(got[2]["frame_index"].to_numpy()) > 0)


def test_what_waits_in_files_has_no_name(tmp_path, monkeypatch):
    """A program that is killed leaves nothing behind."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with MaskSpool(run_bytes=1) as spool:
        spool.add(rows([1, 1], [0, 1]))
        spool.add(rows([1, 2], [2, 0]))
        assert list(tmp_path.iterdir()) == []
        assert [(t, len(table)) for t, table in spool.tracks()] == [(1, 3), (2, 1)]


def test_nothing_in_nothing_out():
    with MaskSpool() as spool:
        assert list(spool.tracks()) == []
