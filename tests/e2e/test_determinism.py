"""Same input, config and weights, same rows: whatever the shard size, order or packing."""

import shutil

import pyarrow.compute as pc
import pytest

from tests.support.clips import write_clips
from tests.support.results import result_digest, table
from tests.support.tiny_net import TINY_NET
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.schema import content_digest
from vis_core.systems import get_system


def run(clips, out, system, settings, **options):
    report = run_inline(
        make_job([str(clips)], str(out), [MemberSpec(system=system)], settings=settings, **options)
    )
    assert report.exit_code == 0
    return report


def frames_digest(out):
    rows = table(out, "frames")
    return content_digest(rows.drop_columns(["fingerprint", "member"]))


@pytest.mark.parametrize("shard", [1, 7, 32])
def test_a_real_network_gives_the_same_bytes_at_any_shard_size(clips, tmp_path, shard):
    """Convolution and attention, random weights, one fixed batch shape."""
    run(clips, tmp_path / "whole", TINY_NET, {"shard_frames": 100_000})
    run(clips, tmp_path / "cut", TINY_NET, {"shard_frames": shard})
    assert frames_digest(tmp_path / "cut") == frames_digest(tmp_path / "whole")
    assert result_digest(tmp_path / "cut") == result_digest(tmp_path / "whole")
    assert table(tmp_path / "cut", "masks").num_rows > 100


@pytest.mark.parametrize("shard", [1, 7, 32])
def test_halos_pins_flow_and_noise_do_not_see_shards(clips, tmp_path, shard):
    """References to earlier frames, the pinned first one and flow to the next cross the borders."""
    noisy = {
        "truth": str(clips / "truth.json"),
        "drop": 0.1,
        "jitter_px": 1.5,
        "duplicate": 0.1,
        "false_rate": 0.3,
        "centers": True,
        "ref_flow": 3,
        "flow": True,
        "embedding_dim": 8,
    }
    oracle = get_system("oracle")
    for every in (1, 2):
        whole, cut = tmp_path / f"whole{every}", tmp_path / f"cut{every}"
        run(clips, whole, oracle, {**noisy, "shard_frames": 100_000}, every=every)
        run(clips, cut, oracle, {**noisy, "shard_frames": shard}, every=every)
        assert frames_digest(cut) == frames_digest(whole)
        assert result_digest(cut) == result_digest(whole)


def test_flow_is_null_at_the_end_and_before_a_hole(clips, tmp_path):
    """A step over a missing frame is no flow to the next row."""
    work = tmp_path / "clips"
    work.mkdir()
    (source,) = write_clips(tmp_path / "made", 1, num_frames=20, size=(96, 128), gop=5)
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    (work / "clip_0000.mp4").write_bytes(data)
    settings = {"truth": str(tmp_path / "made" / "truth.json"), "flow": True}
    report = run_inline(
        make_job(
            [str(work)],
            str(tmp_path / "out"),
            [MemberSpec(system=get_system("oracle"))],
            settings=settings,
        )
    )
    assert report.exit_code == 3 and report.status == {"partial": 1}
    rows = table(tmp_path / "out", "frames").select(["frame_index", "flow"]).to_pylist()
    present = [row["frame_index"] for row in rows]
    missing = set(range(20)) - set(present)
    assert missing and missing != set(range(20))
    for row in rows:
        followed = row["frame_index"] + 1 in present
        assert (row["flow"] is not None) == followed, row["frame_index"]


def test_cuts_break_tracks_only_when_asked(tmp_path):
    """Two clips joined: the shot changes, and `break_at_cuts` starts new tracks there."""
    import av
    import numpy as np

    work = tmp_path / "clips"
    work.mkdir()
    with av.open(str(work / "joined.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        for index in range(20):
            frame = np.full((64, 64, 3), (200, 30, 30) if index < 9 else (20, 60, 220), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    oracle = get_system("oracle")
    for shard in (3, 100):
        out = tmp_path / f"out{shard}"
        run(work, out, oracle, {"truth": "formula:2", "shard_frames": shard})
        rows = table(out, "frames")
        assert rows.filter(rows["cut_after"])["frame_index"].to_pylist() == [8]
        assert pc.all(pc.is_null(rows["shot"])).as_py(), "shots are counted when read"
        assert table(out, "tracks").num_rows == 2
        report = run(work, out, oracle, {"truth": "formula:2", "break_at_cuts": True})
        assert report.frames_predicted == 0
        spans = [(t["start_frame"], t["stop_frame"]) for t in table(out, "tracks").to_pylist()]
        assert sorted(spans) == [(0, 9), (0, 9), (9, 20), (9, 20)]


def test_the_order_of_inputs_and_other_videos_do_not_matter(clips, tmp_path):
    """A video's rows are the same alone and among others."""
    oracle, settings = get_system("oracle"), {"truth": str(clips / "truth.json"), "jitter_px": 1.0}
    run(clips, tmp_path / "all", oracle, settings)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(clips / "clip_0005.mp4", alone)
    run(alone, tmp_path / "one", oracle, settings)
    rows = table(tmp_path / "all", "masks")
    among = rows.filter(pc.equal(rows["video_id"], "clip_0005"))
    assert content_digest(among) == content_digest(table(tmp_path / "one", "masks"))
