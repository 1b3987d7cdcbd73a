"""IDOL from the command line: trained, used with what was trained, given files that do not fit."""

import pytest
import safetensors.torch
import torch

from tests.support.idol import SMALL, write_weights
from tests.support.results import open_failures, reelmask, result_digest, table
from tests.support.training import job_values, losses, train, write_clips
from vis_core.config import as_values
from vis_core.models.swin import SIZES, Swin
from vis_core.models.weights import read_weights

NETWORK = {**as_values(SMALL), "short_side_px": 96}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("idol") / "clips", 0, 3)


def label(clips, out, weights, *words):
    settings = ("--set", f"weights={weights}", "--set", "init_score=0", "--set", "add_new=0")
    return reelmask("label", clips, "--out", out, "--system", "idol", *settings, *words)


def test_a_network_labels_videos_the_same_at_any_shard_size(clips, tmp_path):
    """Random weights, real rows: masks, embeddings, categories of the file."""
    weights = write_weights(tmp_path / "w.safetensors")
    for name, frames in (("whole", 512), ("cut", 7)):
        done = label(clips, tmp_path / name, weights, "--set", f"shard_frames={frames}")
        assert done.returncode == 0, done.stderr
        assert "108 frames predicted" in done.stdout
        assert open_failures(tmp_path / name) == []
    assert result_digest(tmp_path / "whole") == result_digest(tmp_path / "cut")
    assert len(table(tmp_path / "whole", "masks")) > 20
    assert table(tmp_path / "whole", "categories")["name"].to_pylist() == ["disc", "star"]


def test_two_sizes_are_two_members_that_are_fused(clips, tmp_path):
    """Views of one network, by a job file."""
    weights = write_weights(tmp_path / "w.safetensors")
    members = "".join(
        f"  - {{name: at{side}, system: idol, settings: {{short_side_px: {side},"
        f" weights: '{weights}'}}}}\n"
        for side in (64, 96)
    )
    job = tmp_path / "job.yaml"
    job.write_text(f"inputs: ['{clips}']\nout: '{tmp_path / 'out'}'\nmembers:\n{members}")
    done = reelmask("job", "run", job)
    assert done.returncode == 0, done.stderr
    assert set(table(tmp_path / "out", "frames")["member"].to_pylist()) == {"at64", "at96"}


def test_two_steps_of_training_and_labels_from_what_they_made(clips, tmp_path):
    """Pictures first, then pairs that begin with the first step's weights."""
    common = {
        "recipe": "idol",
        "transforms": {"crop": 0.0, "short_side_px": [96], "long_side_px": 160},
        "optimizer": {"lr": 1e-3, "clip_norm": 0.1},
        "schedule": {"kind": "constant", "milestones": [], "steps": 4},
    }
    first = job_values(clips, tmp_path / "one") | {"groups": []}
    first |= common | {
        "sampling": {"num_frames": 1},
        "network": NETWORK,
        "learning": {"detection_only": True},
    }
    done = train(first)
    assert done.returncode == 0, done.stderr
    assert {"ce", "ce_0", "mask", "dice"} < set(losses(tmp_path / "one")[0])

    weights = tmp_path / "one" / "weights" / "last.safetensors"
    second = job_values(clips, tmp_path / "two") | {"groups": []} | common
    second |= {"network": NETWORK, "start": {"weights": str(weights)}}
    done = train(second)
    assert done.returncode == 0, done.stderr
    assert {"reid", "reid_aux"} < set(losses(tmp_path / "two")[0])

    weights = tmp_path / "two" / "weights" / "last.safetensors"
    done = label(clips, tmp_path / "out", weights)
    assert done.returncode == 0, done.stderr
    assert len(table(tmp_path / "out", "categories")) == 8


def test_a_training_begins_with_a_backbone_of_others_on_mosaics(clips, tmp_path):
    """A rate of nothing leaves the backbone as the file has it."""
    torch.manual_seed(0)
    file = Swin(SIZES["swin_micro"]).state_dict()
    file = {name: tensor for name, tensor in file.items() if not name.startswith("norm")}
    safetensors.torch.save_file(file, tmp_path / "swin.safetensors")
    values = job_values(clips, tmp_path / "run") | {"recipe": "idol", "groups": []}
    values |= {
        "transforms": {"crop": 0.0, "short_side_px": [96], "long_side_px": 160},
        "optimizer": {"lr": 0.0},
        "schedule": {"kind": "constant", "milestones": [], "steps": 1},
        "network": {**NETWORK, "backbone": "swin_micro"},
        "mosaic": {"window_px": 48, "tiles": 2},
        "start": {
            "weights": str(tmp_path / "swin.safetensors"),
            "take": ["*backbone*"],
            "reset": ["*.backbone.norm?.*"],
        },
    }
    done = train(values)
    assert done.returncode == 0, done.stderr
    assert f"{len(file)} tensors taken from the file" in done.stderr
    found = read_weights(str(tmp_path / "run" / "weights" / "last.safetensors")).tensors
    for name, tensor in file.items():
        assert torch.equal(found[f"detr.detr.backbone.0.backbone.{name}"], tensor)


def test_a_window_that_no_frame_has_room_for_is_one_line(clips, tmp_path):
    values = job_values(clips, tmp_path / "run") | {"recipe": "idol", "groups": []}
    values |= {"network": NETWORK, "mosaic": {"window_px": 4000, "tiles": 2}}
    done = train(values)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "mosaic: window_px: expected at most the shorter side of every frame" in done.stderr


def test_weights_that_do_not_fit_are_one_line(clips, tmp_path):
    """Damaged, of another recipe, not in the package."""
    broken = tmp_path / "broken.safetensors"
    whole = write_weights(tmp_path / "whole.safetensors").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    recipe = write_weights(tmp_path / "recipe.safetensors", recipe="flow_match_detector")
    for weights, says in (
        (broken, "cannot read the weights"),
        (recipe, "expected 'idol'"),
        ("shipped:nothing", "no weights called 'nothing' come with reelmask"),
    ):
        done = label(clips, tmp_path / "out", weights)
        assert done.returncode in (1, 2) and says in done.stderr, (weights, done.stderr)
        assert "Traceback" not in done.stderr
