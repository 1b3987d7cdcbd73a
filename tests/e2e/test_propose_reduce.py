"""propose_reduce with the network that comes with it: from videos to tracks, and across windows."""

from __future__ import annotations

import json

import pytest

from tests.support.results import reelmask, table
from tests.support.training import job_values, train
from vis_core.data.synth import SynthConfig, write_data_set
from vis_core.models.about import read_about
from vis_core.shipped import file_of

SEED = 2_000_100  # clips for tests alone
WINDOWS = [
    *("--set", "window_frames=8", "--set", "window_overlap=4"),
    *("--set", "num_key_frames=2", "--set", "min_score=0.1"),
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips") / "plain"
    write_data_set(SynthConfig(preset="plain"), folder, seed=SEED, num_videos=2)
    return folder


@pytest.fixture(scope="module")
def labelled(clips, tmp_path_factory):
    """Every third frame: 12 of each clip, in windows of 8 that share 4."""
    out = tmp_path_factory.mktemp("labelled") / "out"
    done = reelmask(
        *("label", clips, "--out", out, "--system", "propose_reduce", "--every", "3"),
        *WINDOWS,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_the_shipped_network_proposes_and_names_categories(labelled):
    names = {row["name"] for row in table(labelled, "categories").to_pylist()}
    about = read_about(file_of("shipped:propose_reduce"))
    assert names == {category.name for category in about.categories}
    assert any(table(labelled, "frames")["instances"].to_pylist())


def test_windows_share_frames(labelled):
    rows = table(labelled, "frames").select(["video_id", "window", "frame_index"]).to_pylist()
    (first, *_) = sorted({row["video_id"] for row in rows})
    found = {
        window: [r["frame_index"] // 3 for r in rows if (r["video_id"], r["window"]) == window]
        for window in ((first, 0), (first, 1))
    }
    assert sorted(found[first, 0]) == list(range(8)) and sorted(found[first, 1]) == [*range(4, 12)]


def test_linked_anew_nothing_is_predicted_again(clips, labelled):
    done = reelmask(
        *("label", clips, "--out", labelled, "--system", "propose_reduce", "--every", "3"),
        *WINDOWS,
        *("--set", "reduce=category_aware", "--json"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames_predicted"] == 0


def test_weights_of_a_training_serve_as_the_shipped_ones_do(clips, tmp_path):
    network = {"block": "basic", "blocks": [1, 1, 1, 1], "width": 8, "norm": "group"}
    network |= {"pyramid": 8, "hidden": 16, "mask_channels": 8, "legacy": False}
    network |= {"long_side_px": 96, "short_side_px": 54}
    data = tmp_path / "train"
    write_data_set(SynthConfig(preset="plain", height=108, width=192), data, seed=0, num_videos=1)
    values = job_values(
        data,
        tmp_path / "run",
        transforms={"short_side_px": [54]},
        optimizer={"kind": "adamw", "lr": 1e-3},
        schedule={"steps": 2},
    )
    values |= {"recipe": "propose_reduce", "network": network}
    values["learning"] = {"detect_in": "both", "class_weight": 2.0}
    values["mosaic"] = {"window_px": 48, "tiles": 2}
    done = train(values)
    assert done.returncode == 0, done.stderr
    weights = tmp_path / "run" / "weights" / "last.safetensors"
    done = reelmask(
        *("label", clips, "--out", tmp_path / "out", "--system", "propose_reduce"),
        *("--every", "12", "--limit", "1", "--set", f"weights={weights}"),
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["weights=shipped:nothing"], "no weights called 'nothing' come with reelmask"),
        (["weights=none.pth", "network=resnet50"], "cannot read 'none.pth'"),
        (["classes=davis"], "names its classes itself: leave classes out"),
        (["network=resnet50"], "leave network out"),
    ],
)
def test_a_mistake_about_weights_is_one_line_before_anything_runs(clips, tmp_path, settings, words):
    more = [word for setting in settings for word in ("--set", setting)]
    done = reelmask("label", clips, "--out", tmp_path / "out", "--system", "propose_reduce", *more)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("reelmask: ")]
    assert words in line and "Traceback" not in done.stderr
