"""What a results folder survives: foreign files, lost parts, bad linkers, second thoughts."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.clips import write_clips
from tests.support.results import open_failures, reelmask, result_digest, run_record, table
from tests.support.tiny_net import TINY_NET
from vis_core.errors import UsageError
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.stages import audit
from vis_core.store.store import open_store
from vis_core.systems import SYSTEMS, get_system
from vis_core.types import TrackPlan
from vis_core.video.reader import VideoReader

ORACLE = get_system("oracle")


def run(clips, out, system=ORACLE, settings=None, **options):
    settings = {"truth": "formula:3"} if settings is None and system is ORACLE else settings
    job = make_job(
        [str(clips)], str(out), [MemberSpec(system=system)], settings=settings, **options
    )
    return run_inline(job)


def assert_whole(out, systems=SYSTEMS):
    found = audit.verify(open_store(str(out), create=False), systems, deep=True)
    assert found.problems == []


def test_other_peoples_files_are_refused_and_never_deleted(clips, tmp_path):
    """A data set with folders called videos/ and masks/ is no results folder."""
    data = tmp_path / "data"
    shutil.copytree(clips, data / "videos")
    (data / "masks").mkdir()
    (data / "masks" / "gt_0001.png").write_bytes(b"truth")
    before = sorted(path for path in data.rglob("*") if path.is_file())
    for replace in (False, True):
        with pytest.raises(UsageError, match="no file of a results folder"):
            run(data / "videos", data, replace=replace)
    assert sorted(p for p in data.rglob("*") if p.is_file() and "manifest" not in p.parts) == before


def test_files_added_to_a_results_folder_later_survive(clips, tmp_path):
    out = tmp_path / "out"
    run(clips, out)
    mine = [out / "tracks" / "notes.txt", out / "frames" / "part-mine.parquet", out / "a.txt"]
    for path in mine:
        path.write_text("mine")
    run(clips, out, settings={"truth": "formula:2"})
    run(clips, out, replace=True)
    assert reelmask("gc", out).returncode == 0
    assert all(path.read_text() == "mine" for path in mine)


def test_nothing_readable_is_a_result_too(tmp_path):
    work, out = tmp_path / "clips", tmp_path / "out"
    work.mkdir()
    (work / "empty.mp4").write_bytes(b"")
    report = run(work, out)
    assert (report.exit_code, report.status) == (3, {"failed": 1})
    (failure,) = open_failures(out)
    assert failure["stage"] == "index" and failure["video_id"] == "empty"
    assert table(out, "tracks").num_rows == table(out, "masks").num_rows == 0


def test_a_lost_part_is_predicted_again(clips, tmp_path):
    out = tmp_path / "out"
    run(clips, out, settings={"truth": "formula:3", "shard_frames": 20})
    before = result_digest(out)
    min(out.glob("frames/part-*")).unlink()
    report = run(clips, out, settings={"truth": "formula:3", "shard_frames": 20})
    assert (report.exit_code, report.frames_predicted) == (0, 20)
    assert result_digest(out) == before
    assert_whole(out)


def test_a_damaged_part_is_named_set_aside_and_predicted_again(clips, tmp_path):
    out = tmp_path / "out"
    words = ("label", clips, "--out", out, "--system", "oracle", "--set", "truth=formula:3")
    words += ("--set", "shard_frames=20")
    assert reelmask(*words).returncode == 0
    part = min(out.glob("frames/part-*"))
    part.write_bytes(part.read_bytes()[:-50])
    healed = reelmask(*words, "--set", "min_len=3")
    assert healed.returncode == 0 and part.name in healed.stderr
    assert "set aside" in healed.stderr and "Traceback" not in healed.stderr
    assert run_record(out)["frames_predicted"] == 20
    assert_whole(out)


class Bad:
    """A linker that answers with one plan that it was told to give."""

    def __init__(self, **fields):
        self.fields = {"score": 0.5, "label": 1, **fields}

    def __call__(self, config):
        return self

    def start(self, video):
        pass

    def step(self, item):
        pass

    def finish(self):
        frames, instances = self.fields["references"]
        fields = {k: v for k, v in self.fields.items() if k != "references"}
        return [
            TrackPlan(
                frame_index=np.array(frames, np.int32),
                instance=np.array(instances, np.int32),
                **fields,
            )
        ]


@pytest.mark.parametrize(
    ("linker", "says"),
    [
        (Bad(references=([3], [0])), "no row"),  # sampled by 2: frame 3 was never predicted
        (Bad(references=([40], [0])), "no row"),
        (Bad(references=([2], [99])), "does not have"),
        (Bad(references=([18], [-1])), "does not have"),
        (Bad(references=([2, 2], [0, 1])), "two masks in one frame"),
        (Bad(references=([2], [0]), score=float("nan")), "nan"),
    ],
)
def test_wrong_references_are_link_failures_and_heal(clips, tmp_path, linker, says):
    """Never a wrong mask; and the same batch linked well later counts."""
    out = tmp_path / "out"
    bad = dataclasses.replace(ORACLE, make_linker=linker)
    report = run(clips, out, bad, {"truth": "formula:3"}, every=2)
    assert report.exit_code == 3 and table(out, "tracks").num_rows == 0
    assert all(f["stage"] == "link" and says in f["message"] for f in open_failures(out))
    assert len(open_failures(out)) == 8
    healed = run(clips, out, ORACLE, every=2, retry_quarantined=True)
    assert (healed.exit_code, healed.num_tracks, healed.frames_predicted) == (0, 24, 0)
    assert_whole(out)


def test_success_ends_quarantine(clips, tmp_path):
    out, bad = tmp_path / "out", "decode_frame[clip_0003]=segv"
    words = ("label", clips, "--out", out, "--system", "oracle", "--set", "truth=formula:3")
    assert reelmask(*words, failpoints=bad).returncode == 3
    assert reelmask(*words, "--set", "max_attempts=9").returncode == 0
    assert reelmask(*words).returncode == 0
    assert run_record(out)["status"] == {"ok": 8}


def test_missing_frames_are_counted_as_sampled(tmp_path):
    """With every third frame taken, a hole counts the frames that were wanted."""
    made, work, out = tmp_path / "made", tmp_path / "clips", tmp_path / "out"
    (source,) = write_clips(made, 1, num_frames=40, size=(96, 128), gop=8)
    work.mkdir()
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)
    (work / "clip.mp4").write_bytes(data)
    report = run(work, out, every=3)
    assert report.exit_code == 3 and report.conservation[0]["holds"]
    present = set(table(out, "frames")["frame_index"].to_pylist())
    wanted = set(range(0, 40, 3))
    assert present < wanted
    for row in table(out, "tracks").to_pylist():
        inside = {f for f in wanted - present if row["start_frame"] <= f < row["stop_frame"]}
        assert row["num_missing_frames"] == len(inside) > 0


@pytest.mark.parametrize("link_rows", [1, 200_000])
@pytest.mark.parametrize("indexed", [13, 20, 27])
def test_the_decoder_corrects_a_length_the_index_could_not_know(
    clips, tmp_path, monkeypatch, indexed, link_rows
):
    """A sequential video with more, or fewer, frames than packets: every one is there once."""
    probe = VideoReader.probe

    def guess(reader, source):
        video = probe(reader, source)
        return dataclasses.replace(video, sequential=True, num_frames=indexed)

    monkeypatch.setattr(VideoReader, "probe", guess)
    report = run(clips, tmp_path / "out", settings={"truth": "formula:4", "link_rows": link_rows})
    assert report.exit_code == 0 and report.conservation[0]["committed"] == 8 * 20
    assert set(table(tmp_path / "out", "videos")["num_frames"].to_pylist()) == {20}
    assert table(tmp_path / "out", "masks").num_rows == 8 * 20 * 4
    assert {t["num_frames"] for t in table(tmp_path / "out", "tracks").to_pylist()} == {20}


def test_an_id_once_given_never_changes(clips, tmp_path):
    work, out = tmp_path / "clips", tmp_path / "out"
    work.mkdir()
    shutil.copy(clips / "clip_0000.mp4", work / "a.mp4")
    shutil.copy(clips / "clip_0001.mp4", work / "b.mp4")
    run(work, out)
    (work / "a.mp4").rename(tmp_path / "away.mp4")
    run(work, out)
    shutil.copy(clips / "clip_0002.mp4", work / "a.mkv")
    run(work, out)
    (tmp_path / "away.mp4").rename(work / "a.mp4")
    report = run(work, out)
    ids = {Path(r["uri"]).name: r["video_id"] for r in table(out, "videos").to_pylist()}
    assert ids == {"a.mp4": "a", "a.mkv": "a.mkv", "b.mp4": "b"}
    assert report.frames_predicted == 0, "what was committed for a.mp4 still counts"


PLACES = ["after_links", "before_tables", "before_sweep", "before_compact", "after_compact"]
SECOND = [*PLACES, "after_results", "before_link", "replace@3", "before_publish@2"]


@pytest.mark.parametrize("place", SECOND)
def test_killed_in_a_second_run_that_changes_everything(clips, tmp_path, place):
    """One video gone, another linker setting, small result files: the rewriting is killed."""
    work, out, clean = tmp_path / "clips", tmp_path / "out", tmp_path / "clean"
    shutil.copytree(clips, work)
    words = ("label", work, "--system", "oracle", "--set", f"truth={clips}/truth.json", "--out")
    assert reelmask(*words, out).returncode == 0
    (work / "clip_0001.mp4").unlink()
    changed = ("--set", "min_len=18", "--set", "link_rows=500")
    name, _, hit = place.partition("@")
    killed = reelmask(*words, out, *changed, failpoints=f"{name}=kill@{hit or 1}")
    assert killed.returncode == -9, killed.stderr
    assert reelmask(*words, out, *changed).returncode == 0
    assert reelmask(*words, clean, *changed).returncode == 0
    assert result_digest(out) == result_digest(clean)
    assert run_record(out)["frames_predicted"] == 0
    assert_whole(out)


@pytest.mark.parametrize("place", ["clear_results", "clear_tables"])
def test_killed_while_replacing(clips, tmp_path, place):
    """Whatever was cleared, the next run without --replace makes the folder whole."""
    out = tmp_path / "out"
    words = ("label", clips, "--out", out, "--system", "oracle", "--set", "truth=formula:3")
    assert reelmask(*words).returncode == 0
    before = result_digest(out)
    assert reelmask(*words, "--replace", failpoints=f"{place}=kill").returncode == -9
    assert reelmask(*words).returncode == 0
    assert result_digest(out) == before
    assert_whole(out)


def test_every_parquet_file_says_where_it_comes_from(clips, tmp_path):
    import pyarrow.parquet as pq

    out = tmp_path / "out"
    run(clips, out, TINY_NET, {})
    for path in out.rglob("*.parquet"):
        assert b"schema_version" in pq.read_schema(path).metadata, path
    part = pq.read_schema(min(out.glob("frames/part-*"))).metadata
    assert json.loads(part[b"fingerprints"]) and part[b"system"] == b"tiny_net"
    current = pq.read_table(out / "manifest" / "current.parquet")
    assert set(current["file"].to_pylist()) == {p.name for p in out.glob("frames/part-*")}
