"""Two hundred damaged files through `label`: each is labelled, partial or explained."""

import random

import pytest

from tests.support.clips import write_clips
from tests.support.results import result_digest, table
from vis_core.job import MemberSpec, make_job
from vis_core.local import run_inline
from vis_core.systems import get_system

NUM_FILES = 240


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Flips bytes, cuts a piece out or off, or swaps two pieces."""
    changed = bytearray(data)
    kind = rng.choice(["flip", "zero", "cut", "truncate", "swap"])
    a, b = sorted(rng.sample(range(len(data)), 2))
    if kind == "flip":
        for _ in range(rng.randint(1, 40)):
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    elif kind == "zero":
        changed[a : min(b, a + 4096)] = bytes(min(b, a + 4096) - a)
    elif kind == "cut":
        del changed[a : min(b, a + 500)]
    elif kind == "truncate":
        del changed[a:]
    else:
        size = min(200, b - a, len(data) - b)
        changed[a : a + size], changed[b : b + size] = data[b : b + size], data[a : a + size]
    return bytes(changed)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    root = tmp_path_factory.mktemp("mutations")
    sources = []
    for codec, suffix in (("libx264", "mp4"), ("libx265", "mp4"), ("mpeg4", "mp4")):
        (path, _) = write_clips(root / codec, 2, num_frames=12, size=(96, 128), codec=codec, gop=4)
        sources.append((path.read_bytes(), suffix))
    rng = random.Random(7)
    folder = root / "damaged"
    folder.mkdir()
    for number in range(NUM_FILES):
        data, suffix = sources[number % len(sources)]
        (folder / f"m{number:03d}.{suffix}").write_bytes(mutate(data, rng))
    return folder


def label(folder, out, shard):
    settings = {"truth": "formula:2", "shard_frames": shard, "decode_timeout_seconds": 10.0}
    return run_inline(
        make_job(
            [str(folder)], str(out), [MemberSpec(system=get_system("oracle"))], settings=settings
        )
    )


def test_every_damaged_file_is_labelled_partial_or_explained(damaged, tmp_path):
    report = label(damaged, tmp_path / "whole", 1000)
    assert report.exit_code == 3
    assert all(account["holds"] for account in report.conservation)
    videos = table(tmp_path / "whole", "videos").to_pylist()
    assert len(videos) == NUM_FILES
    kinds = {
        status: [v for v in videos if v["status"] == status]
        for status in ("ok", "partial", "failed")
    }
    assert sum(map(len, kinds.values())) == NUM_FILES and all(len(k) > 10 for k in kinds.values())
    assert all(v["error"] for v in kinds["partial"] + kinds["failed"])
    failures = {row["video_id"] for row in table(tmp_path / "whole", "failures").to_pylist()}
    assert failures == {v["video_id"] for v in kinds["partial"] + kinds["failed"]}
    label(damaged, tmp_path / "cut", 3)
    assert result_digest(tmp_path / "cut") == result_digest(tmp_path / "whole")
