"""Same input, config and weights, same rows: whatever the shard size, order or packing."""

import dataclasses
import os
import shutil

import numpy as np
import pyarrow.compute as pc
import pytest

from tests.support.clips import write_clips
from tests.support.results import result_digest, table
from tests.support.tiny_net import TINY_NET
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.schema import content_digest
from vis_core.systems import get_system
from vis_core.types import TrackPlan
from vis_core.windows import WindowSpec, window_ranges


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


def test_names_that_are_not_utf8_or_look_like_paths(clips, tmp_path):
    """Any file name becomes a legal id; the file is found again through its uri."""
    work = tmp_path / "clips"
    names = [
        b"caf\xe9.mp4",
        b"a..b.mp4",
        b"x%y.mp4",
        "ünï 漢.mp4".encode(),
        b"x...mp4",
        b"-o.mp4",
    ]
    (work / "sub dir").mkdir(parents=True)
    for name in names:
        shutil.copy(clips / "clip_0000.mp4", os.fsencode(work / "sub dir") + b"/" + name)
    oracle = get_system("oracle")
    run(work, tmp_path / "out", oracle, {"truth": "formula:1"})
    ids = table(tmp_path / "out", "videos")["video_id"].to_pylist()
    assert len(set(ids)) == len(names) and all(i.startswith("sub dir/") for i in ids)
    assert table(tmp_path / "out", "masks").num_rows == 20 * len(names)
    alone = os.fsdecode(os.fsencode(work / "sub dir") + b"/" + names[0])
    for _ in range(2):
        run(alone, tmp_path / "one", oracle, {"truth": "formula:1"})
    assert table(tmp_path / "one", "tracks").num_rows == 1


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


class WindowLinker:
    """Takes, of every proposal, the rows of the first window that has each frame."""

    def __init__(self, config):
        self.rows = {}

    def start(self, video):
        pass

    def step(self, item):
        for position, proposal in enumerate(item.proposals if item.proposals is not None else ()):
            self.rows.setdefault(int(proposal), {}).setdefault(
                item.frame_index, (item.window, position)
            )

    def finish(self):
        return [
            TrackPlan(
                score=1.0 / (1 + proposal),
                label=1,
                frame_index=np.array(list(rows), np.int32),
                instance=np.array([p for _, p in rows.values()], np.int32),
                window=np.array([w for w, _ in rows.values()], np.int32),
            )
            for proposal, rows in self.rows.items()
        ]


@pytest.mark.parametrize("every", [1, 3])
def test_whole_windows_have_borders_of_their_own(clips, tmp_path, every):
    """Overlapping windows are predicted whole, once each, and do not see the shard size."""
    spec = WindowSpec(whole_windows=True, num_frames=5, overlap=2)
    windowed = dataclasses.replace(TINY_NET, window=lambda _: spec, make_linker=WindowLinker)
    for shard in (4, 1000):
        run(clips, tmp_path / f"out{shard}", windowed, {"shard_frames": shard}, every=every)
    assert result_digest(tmp_path / "out4") == result_digest(tmp_path / "out1000")
    rows = table(tmp_path / "out4", "frames")
    mine = rows.filter(pc.equal(rows["video_id"], "clip_0000")).to_pylist()
    got = [(row["window"], row["frame_index"] // every) for row in mine]
    num_sampled = -(-20 // every)
    expected = [
        (window, frame)
        for window, (start, stop) in enumerate(window_ranges(num_sampled, spec))
        for frame in range(start, stop)
    ]
    assert got == expected and len(expected) > num_sampled
    masks = table(tmp_path / "out4", "masks").select(["video_id", "track_id", "frame_index"])
    assert masks.num_rows == len(set(map(tuple, map(dict.values, masks.to_pylist())))) > 0
