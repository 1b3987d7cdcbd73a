"""`reelmask label`, end to end, as a person runs it: what is computed, reused, linked and said."""

import json
import os
import shutil
import subprocess
import time

import duckdb
import pyarrow.parquet as pq
import pytest
import yaml

from tests.support.clips import write_clips
from tests.support.results import (
    open_failures,
    reelmask,
    result_digest,
    run_record,
    start,
    table,
)


def label(clips, out, *more, failpoints=None, timeout=600):
    truth = clips / "truth.json"
    words = ("label", clips, "--out", out, "--system", "oracle", "--set", f"truth={truth}")
    return reelmask(
        *words, "--set", "proposals=true", *more, failpoints=failpoints, timeout=timeout
    )


@pytest.fixture(scope="module")
def clean(clips, tmp_path_factory):
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("clean") / "out"
    done = label(clips, out)
    assert done.returncode == 0, done.stderr
    return out


def test_label_writes_tables_that_sql_reads(clean):
    """Tracks join masks, every frame is accounted for, and the folder verifies."""
    found = duckdb.sql(
        f"select count(*), sum(t.num_frames) = (select count(*) from '{clean}/masks/*.parquet')"
        f" from '{clean}/tracks/*.parquet' t"
    ).fetchall()[0]
    assert found[0] > 8 and found[1]
    assert duckdb.sql(f"select count(*) from '{clean}/failures/*.parquet'").fetchall() == [(0,)]
    assert duckdb.sql(f"select distinct status from '{clean}/videos/*.parquet'").fetchall() == [
        ("ok",)
    ]
    assert run_record(clean)["conservation"][0]["holds"]
    checked = reelmask("verify", clean, "--deep", "--json")
    assert checked.returncode == 0 and json.loads(checked.stdout)["problems"] == []


def test_tracks_are_the_truth(clips, clean):
    """Without noise the oracle's tracks are the truth's objects, frame by frame."""
    truth = json.loads((clips / "truth.json").read_text())
    names = {v["id"]: v["video_id"] for v in truth["videos"]}
    expected = {}
    for entry in truth["annotations"]:
        frames = tuple(i for i, s in enumerate(entry["segmentations"]) if s is not None)
        expected.setdefault(names[entry["video_id"]], []).append((entry["category_id"], frames))
    got = {}
    masks = table(clean, "masks").to_pylist()
    for row in table(clean, "tracks").to_pylist():
        frames = tuple(
            m["frame_index"]
            for m in masks
            if (m["video_id"], m["track_id"]) == (row["video_id"], row["track_id"])
        )
        got.setdefault(row["video_id"], []).append((row["label"], frames))
    assert {k: sorted(v) for k, v in got.items()} == {k: sorted(v) for k, v in expected.items()}


def test_running_again_does_nothing(clips, clean):
    before = result_digest(clean)
    assert label(clips, clean).returncode == 0
    record = run_record(clean)
    assert (record["frames_predicted"], record["videos_linked"]) == (0, 0)
    assert result_digest(clean) == before


def test_only_added_videos_are_predicted(tmp_path):
    """50 videos, then 7 that sort in between and another shard size: exactly the 7 are new."""
    clips, later, out = tmp_path / "clips", tmp_path / "later", tmp_path / "out"
    write_clips(clips, 57, num_frames=6, seed=5)
    later.mkdir()
    for number in range(4, 57, 8):
        (clips / f"clip_{number:04d}.mp4").rename(later / f"clip_{number:04d}.mp4")
    assert label(clips, out).returncode == 0
    assert run_record(out)["frames_predicted"] == 50 * 6
    added = sorted(path.name for path in later.iterdir())
    assert len(added) == 7
    for name in added:
        (later / name).rename(clips / name)
    assert label(clips, out, "--set", "shard_frames=4").returncode == 0
    record = run_record(out)
    assert (record["frames_predicted"], record["videos_linked"]) == (7 * 6, 7)
    fresh = tmp_path / "fresh"
    assert label(clips, fresh).returncode == 0
    assert result_digest(fresh) == result_digest(out)


def test_identical_files_are_different_videos_and_touch_changes_nothing(clips, tmp_path):
    work, out = tmp_path / "clips", tmp_path / "out"
    work.mkdir()
    for name in ("one.mp4", "two.mp4"):
        shutil.copy(clips / "clip_0000.mp4", work / name)
    words = ("label", work, "--out", out, "--system", "oracle", "--set", "truth=formula:3")
    words += ("--set", "proposals=true")
    assert reelmask(*words).returncode == 0
    rows = table(out, "tracks").to_pylist()
    assert sorted({row["video_id"] for row in rows}) == ["one", "two"]
    assert all(row["num_frames"] == 20 for row in rows) and len(rows) == 6
    for path in work.iterdir():
        os.utime(path)
    assert reelmask(*words).returncode == 0
    assert run_record(out)["frames_predicted"] == run_record(out)["videos_linked"] == 0


@pytest.mark.parametrize("shard", [1, 7, 32, 100_000])
def test_shard_size_changes_nothing(clips, clean, tmp_path, shard):
    out = tmp_path / "out"
    assert label(clips, out, "--set", f"shard_frames={shard}").returncode == 0
    assert result_digest(out) == result_digest(clean)


def test_a_predict_setting_never_mixes_with_old_parts(clips, tmp_path):
    out, fresh = tmp_path / "out", tmp_path / "fresh"
    assert label(clips, out).returncode == 0
    noisy = ("--set", "jitter_px=2", "--set", "drop=0.2")
    assert label(clips, out, *noisy).returncode == 0
    assert run_record(out)["frames_predicted"] == 160
    assert label(clips, fresh, *noisy).returncode == 0
    assert result_digest(out) == result_digest(fresh)
    assert len(set(table(out, "frames")["fingerprint"].to_pylist())) == 2
    assert reelmask("gc", out).returncode == 0
    assert len(set(table(out, "frames")["fingerprint"].to_pylist())) == 1
    assert reelmask("verify", out, "--deep").returncode == 0


def test_a_linker_setting_links_again_without_predicting(clips, tmp_path):
    out = tmp_path / "out"
    assert label(clips, out).returncode == 0
    before = result_digest(out)
    assert label(clips, out, "--set", "min_len=20").returncode == 0
    record = run_record(out)
    assert (record["frames_predicted"], record["videos_linked"]) == (0, 8)
    assert result_digest(out) != before
    assert label(clips, out).returncode == 0
    assert result_digest(out) == before


def test_changed_content_is_predicted_again(clips, tmp_path):
    work, out = tmp_path / "clips", tmp_path / "out"
    shutil.copytree(clips, work)
    assert label(work, out).returncode == 0
    shutil.copy(work / "clip_0001.mp4", work / "clip_0000.mp4")
    assert label(work, out).returncode == 0
    assert run_record(out)["frames_predicted"] == 20
    (work / "clip_0002.mp4").unlink()
    assert label(work, out).returncode == 0
    assert "clip_0002" not in table(out, "tracks")["video_id"].to_pylist()
    assert reelmask("verify", out, "--deep").returncode == 0


def members_job(clips, out, *members, **settings):
    """A job file with these members, each a name and settings of its oracle."""
    entries = [
        {"name": name, "system": "oracle", "settings": {"truth": f"{clips}/truth.json", **more}}
        for name, more in members
    ]
    job = {"inputs": str(clips), "out": str(out), "members": entries, "settings": settings}
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(job))
    return path


def test_several_members_are_predicted_on_their_own_and_fused(clips, clean, tmp_path):
    """Another member computes only itself; what all saw alike comes out as it went in."""
    out = tmp_path / "out"
    one, other = ("one", {}), ("other", {"seed": 5})
    assert reelmask("job", "run", members_job(clips, out, one, other)).returncode == 0
    assert run_record(out)["frames_predicted"] == 320
    tracks = table(out, "tracks")
    assert {tuple(members) for members in tracks["members"].to_pylist()} == {("one", "other")}
    assert len(tracks) == len(table(clean, "tracks"))
    assert sorted(table(out, "masks")["mask"].to_pylist()) == sorted(
        table(clean, "masks")["mask"].to_pylist()
    )
    third = ("third", {"drop": 0.1, "jitter_px": 2.0})
    assert reelmask("job", "run", members_job(clips, out, one, other, third)).returncode == 0
    assert run_record(out)["frames_predicted"] == 160
    assert reelmask("verify", out, "--deep").returncode == 0


def test_a_fusion_setting_links_again_without_predicting(clips, tmp_path):
    out = tmp_path / "out"
    members = [("one", {"jitter_px": 3.0}), ("other", {"seed": 5, "jitter_px": 3.0})]
    assert reelmask("job", "run", members_job(clips, out, *members)).returncode == 0
    digest = result_digest(out)
    strict = members_job(clips, out, *members, tau=0.99)
    assert reelmask("job", "run", strict).returncode == 0
    assert run_record(out)["frames_predicted"] == 0 and run_record(out)["videos_linked"] == 8
    assert result_digest(out) != digest
    members[1] = ("other", {"seed": 5, "jitter_px": 3.0})
    assert reelmask("job", "run", members_job(clips, out, *members)).returncode == 0
    assert result_digest(out) == digest


def test_members_with_other_labels_need_a_label_map(clips, tmp_path):
    """Label 1 is a box to one and a disc to the other: their votes must not mix."""
    truth = json.loads((clips / "truth.json").read_text())
    swapped = {1: 2, 2: 1}
    for row in truth["categories"]:
        row["id"] = swapped[row["id"]]
    for row in truth["annotations"]:
        row["category_id"] = swapped[row["category_id"]]
    (tmp_path / "other.json").write_text(json.dumps(truth))
    members = [("one", {}), ("other", {"truth": str(tmp_path / "other.json")})]
    job = members_job(clips, tmp_path / "out", *members)
    refused = reelmask("job", "run", job)
    assert refused.returncode == 2 and "label_map=" in refused.stderr
    (tmp_path / "map.json").write_text(json.dumps({"other": {"1": 2, "2": 1}}))
    labels = str(tmp_path / "map.json")
    job = members_job(clips, tmp_path / "out", *members, label_map=labels)
    done = reelmask("job", "run", job)
    assert done.returncode == 0, done.stderr
    assert all(
        row["members"] == ["one", "other"] for row in table(tmp_path / "out", "tracks").to_pylist()
    )
    (tmp_path / "map.json").write_text(json.dumps({"nobody": {"1": 2}}))
    refused = reelmask("job", "run", job)
    assert refused.returncode == 2 and "no member is called nobody" in refused.stderr


def test_sampling_keeps_the_frame_index_of_the_source(clips, tmp_path):
    out = tmp_path / "out"
    assert label(clips, out, "--every", "3", "--set", "shard_frames=2").returncode == 0
    assert set(table(out, "frames")["frame_index"].to_pylist()) == set(range(0, 20, 3))
    assert run_record(out)["frames_predicted"] == 8 * 7
    assert label(clips, out, "--fps", "5").returncode == 0
    assert run_record(out)["frames_predicted"] == 8 * 10


def test_two_runs_on_one_folder(clips, tmp_path):
    """The second leaves with code 4; after SIGKILL of the first the folder is free at once."""
    out = tmp_path / "out"
    truth = clips / "truth.json"
    words = ("label", clips, "--out", out, "--system", "oracle", "--set", f"truth={truth}")
    words += ("--set", "proposals=true")
    first = start(*words, failpoints="after_segment=hang")
    deadline = time.monotonic() + 600
    while not list(out.glob("manifest/in_flight/*.json")):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.05)
    second = reelmask(*words)
    assert second.returncode == 4 and "another run holds" in second.stderr
    first.kill()
    first.wait()
    assert reelmask(*words).returncode == 0


def test_interrupted_runs_resume(clips, clean, tmp_path):
    out = tmp_path / "out"
    truth = clips / "truth.json"
    words = ("label", clips, "--out", out, "--system", "oracle", "--set", f"truth={truth}")
    words += ("--set", "proposals=true", "--set", "shard_frames=5")
    running = start(*words, failpoints="after_segment=hang@3")
    deadline = time.monotonic() + 600
    while len(list(out.glob("frames/part-*"))) < 2:
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.05)
    running.terminate()
    assert running.wait(timeout=600) == 130
    assert reelmask(*words).returncode == 0
    assert result_digest(out) == result_digest(clean)


def test_a_full_disk_stops_with_a_clear_line_and_resumes(clips, clean, tmp_path):
    out = tmp_path / "out"
    small = ("--set", "shard_frames=5")
    for place in ("write_rows=enospc@3", "replace=enospc@4", "before_publish=enospc@2"):
        stopped = label(clips, out, *small, failpoints=place)
        assert stopped.returncode == 1, place
        assert "no space left" in stopped.stderr and "Traceback" not in stopped.stderr
    done = label(clips, out, *small)
    assert done.returncode == 0 and result_digest(out) == result_digest(clean)


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK) or os.geteuid() != 0, reason="needs mount")
def test_a_really_full_disk(clips, clean, tmp_path):
    """The same with a file system that has no room, where this machine lets us mount one."""
    out = tmp_path / "small"
    out.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60k", "none", str(out)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        stopped = label(clips, out / "out", "--set", "shard_frames=5")
        assert stopped.returncode == 1
        assert "no space left" in stopped.stderr and "Traceback" not in stopped.stderr
        subprocess.run(["mount", "-o", "remount,size=50m", str(out)], check=True)
        assert label(clips, out / "out", "--set", "shard_frames=5").returncode == 0
        assert result_digest(out / "out") == result_digest(clean)
    finally:
        subprocess.run(["umount", str(out)], check=True)


@pytest.mark.parametrize("what", ["hang", "segv"])
def test_a_decoder_that_dies_is_quarantined_and_the_rest_finishes(clips, clean, tmp_path, what):
    """Three blamed attempts, then a failure row; later it can be tried again."""
    out = tmp_path / "out"
    bad = f"decode_frame[clip_0003]={what}"
    quick = ("--set", "decode_timeout_seconds=1")
    done = label(clips, out, *quick, failpoints=bad)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    (failure,) = open_failures(out)
    assert (failure["video_id"], failure["stage"], failure["attempts"]) == (
        "clip_0003",
        "decode",
        3,
    )
    status = {row["video_id"]: row["status"] for row in table(out, "videos").to_pylist()}
    assert status.pop("clip_0003") == "failed" and set(status.values()) == {"ok"}
    again = label(clips, out, *quick, failpoints=bad)
    assert again.returncode == 3 and run_record(out)["failed_attempts"] == 0
    healed = label(clips, out, *quick, "--retry-quarantined")
    assert healed.returncode == 0, healed.stderr
    assert open_failures(out) == []
    assert [row["state"] for row in table(out, "failures").to_pylist()] == ["resolved"]
    assert result_digest(out) == result_digest(clean)
    assert "clip_0003" in reelmask("explain", out, "clip_0003").stdout


def test_another_input_or_system_is_refused_unless_replaced(clips, clean, tmp_path):
    other = tmp_path / "other"
    write_clips(other, 1, num_frames=4)
    out = tmp_path / "out"
    shutil.copytree(clean, out)
    refused = label(other, out)
    assert refused.returncode == 2 and "--replace" in refused.stderr
    before = result_digest(out)
    gone = label(tmp_path / "gone", out, "--replace", "--set", f"truth={clips}/truth.json")
    assert gone.returncode == 2 and result_digest(out) == before
    assert label(other, out, "--replace").returncode == 0
    assert set(table(out, "tracks")["video_id"].to_pylist()) == {"clip_0000"}
    assert reelmask("verify", out, "--deep").returncode == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("label", "CLIPS", "--system", "oracel", "--out", "x"), "did you mean 'oracle'"),
        (("label", "CLIPS", "--system", "oracle", "--out", "x"), "'truth' is missing"),
        (("label", "nowhere", "--system", "oracle", "--out", "x"), "nowhere"),
        (("label", "CLIPS", "--system", "oracle", "--out", "x", "--set", "sede=1"), "'seed'"),
        (("label", "CLIPS", "--system", "oracle", "--out", "x", "--set", "seed=a"), "seed"),
        (("label", "CLIPS", "--system", "oracle", "--out", "x", "--every", "0"), "every"),
        (("verify", "nowhere"), "nowhere"),
        (("job", "run", "nowhere.yaml"), "nowhere.yaml"),
        (("plan", "CLIPS"), "--system"),
    ],
)
def test_mistakes_are_one_clear_line(clips, tmp_path, words, says):
    full = [str(clips) if w == "CLIPS" else str(tmp_path / w) if w == "x" else w for w in words]
    if "label" in words and says not in ("'truth' is missing",):
        full += ["--set", "truth=formula:2"]
    done = reelmask(*full)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_plan_says_what_is_left(clips, clean):
    words = ("plan", clips, "--system", "oracle", "--set", f"truth={clips}/truth.json", "--json")
    fresh = json.loads(reelmask(*words, "--set", "proposals=true").stdout)
    assert (fresh["num_videos"], fresh["frames_to_predict"]) == (8, 160)
    left = json.loads(reelmask(*words, "--set", "proposals=true", "--out", clean).stdout)
    assert (left["frames_to_predict"], left["frames_committed"]) == (0, 160)


def test_verify_finds_what_is_broken(clean, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(clean, out)
    part = min(out.glob("frames/part-*"))
    group = pq.ParquetFile(part).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    masks = next(c for c in columns if c.path_in_schema == "instances.list.element.mask")
    data = bytearray(part.read_bytes())
    data[masks.data_page_offset + masks.total_compressed_size - 20] ^= 0xFF
    part.write_bytes(data)
    found = reelmask("verify", out, "--deep")
    assert found.returncode == 1 and "cannot be read" in found.stdout, found
    part.unlink()
    broken = reelmask("verify", out)
    assert broken.returncode == 1 and "missing or damaged" in broken.stdout
