"""The propose_reduce predictor: rows of a window, whatever comes in which batches, and mistakes."""

from __future__ import annotations

import dataclasses
import gc

import numpy as np
import pytest
import torch

from tests.support.fakes import fake_video
from tests.support.propose_reduce import (
    NAMES,
    TINY,
    batches,
    content,
    network,
    pictures,
    rows,
    written,
)
from vis_core.errors import UsageError
from vis_core.models.about import About
from vis_core.models.seq_mask_rcnn import files
from vis_core.models.seq_mask_rcnn.inputs import normalised
from vis_core.models.seq_mask_rcnn.window_frames import WindowFrames
from vis_core.models.weights import to_bytes
from vis_core.systems.propose_reduce import PROPOSE_REDUCE, ProposeReducePredictConfig
from vis_core.systems.propose_reduce.predictor import ProposeReducePredictor
from vis_core.windows import ShardWindow


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return written(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


def test_every_frame_has_a_row_and_every_sequence_one_mask(weights):
    found = rows(weights)
    assert [row.frame_index for row in found] == list(range(0, 14, 2))
    assert {(row.height, row.width, row.window) for row in found} == {(45, 80, 3)}
    assert sum(map(len, found)) > 7
    for row in found:
        assert len(set(row.proposals.tolist())) == len(row)
        assert row.class_scores.shape == (len(row), 2)
        np.testing.assert_array_equal(row.scores, row.class_scores.max(axis=1))
        np.testing.assert_array_equal(row.labels, row.class_scores.argmax(axis=1) + 1)


@pytest.mark.parametrize("batch", [1, 7])
def test_how_frames_arrive_changes_nothing(weights, batch):
    assert content(rows(weights, batch=batch)) == content(rows(weights))


def test_what_is_kept_changes_nothing(weights):
    assert content(rows(weights, feature_bytes=0, batch_size=2)) == content(
        rows(weights, batch_size=2)
    )


def test_features_are_computed_again_only_where_they_do_not_fit():
    frames = list(pictures(6, (36, 64)))
    for budget, computed in ((1 << 30, 6), (0, 12)):
        seen = WindowFrames(network(), frames, 2, budget)
        with torch.inference_mode():
            up = [seen[frame].query.key_1KHW for frame in range(6)]
            down = [seen[frame].query.key_1KHW for frame in range(5, -1, -1)]
        assert all(torch.equal(a, b) for a, b in zip(up, down[::-1], strict=True))
        assert seen.computed == computed - (2 if budget == 0 else 0)  # the turn is still there


def bytes_of_tensors():
    """Of all that are alive, on whatever device."""
    gc.collect()
    pieces = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), torch.Tensor) and thing.layout == torch.strided:
            pieces[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(pieces.values())


def test_a_window_leaves_nothing_behind(weights, monkeypatch):
    """Else a long video would fill its machine or its device, window by window."""
    given_back = []
    place = "vis_core.systems.propose_reduce.predictor.give_back"
    monkeypatch.setattr(place, lambda: given_back.append(bytes_of_tensors()))
    predictor = ProposeReducePredictor(
        ProposeReducePredictConfig(weights=weights, min_score=0.01, batch_size=2)
    )
    alone = bytes_of_tensors()
    for number in range(3):
        window = ShardWindow(video=fake_video("v", 14), start=0, stop=14, window=number)
        assert any(map(len, predictor.predict(batches(pictures(7), 3), window)))
    assert given_back == [alone] * 3


@pytest.mark.parametrize("kind", [torch.contiguous_format, torch.channels_last])
@torch.inference_mode()
def test_what_is_kept_of_a_batch_is_what_the_network_found_and_lies_in_one_piece(kind):
    frames, found_by = list(pictures(5, (36, 64))), network().to(memory_format=kind)
    seen = WindowFrames(found_by, frames, 3, 1 << 30)
    for first, stop in ((0, 3), (3, 5)):
        images = torch.stack([normalised(frame) for frame in frames[first:stop]])
        features = found_by.features(images)
        expected = [*features.levels, features.c2_BCHW, features.c3_BCHW]
        expected.append(found_by.query(features).value_1VHW)
        pieces = set()
        for at in range(first, stop):
            of_frame, query = seen[at]
            found = [*of_frame.levels, of_frame.c2_BCHW, of_frame.c3_BCHW, query.value_1VHW]
            for mine, theirs in zip(found, expected, strict=True):
                assert torch.equal(mine, theirs[at - first : at - first + 1])
                assert mine.stride() == torch.empty_like(theirs).stride()
                pieces.add(mine.untyped_storage().data_ptr())
        assert len(pieces) == 1


def test_one_frame_is_a_window(weights):
    assert len(rows(weights, number=1)) == 1


def test_no_object_is_no_error(weights):
    found = rows(weights, min_score=1.0)
    assert len(found) == 7 and not any(map(len, found))


def test_in_the_paper_a_key_frame_shows_what_was_detected(weights):
    release, paper = (
        rows(weights, preset=preset, num_key_frames=1, mask_overlap=0.2)
        for preset in ("release", "paper")
    )
    assert release[0].masks != paper[0].masks
    assert content(release[1:]) == content(paper[1:])


def test_presets_are_those_of_the_release_and_the_paper():
    def numbers(**settings):
        config = ProposeReducePredictConfig(**settings)
        return config.key_frames, config.memory, config.highest_mask_overlap

    assert numbers() == (5, (1, None), 0.2)
    assert numbers(data_set="davis") == (8, (None, 10), 0.2)
    assert numbers(preset="paper") == (6, (1, None), float("inf"))
    assert numbers(preset="paper", data_set="davis") == (4, (1, None), float("inf"))
    assert numbers(num_key_frames=3, memory_about=4, mask_overlap=0.5) == (3, (None, 4), 0.5)


def test_smooth_masks_are_other_masks(weights):
    plain, smooth = rows(weights), rows(weights, smooth=True)
    assert [row.proposals.tolist() for row in plain] == [row.proposals.tolist() for row in smooth]
    assert any(a.masks != b.masks for a, b in zip(plain, smooth, strict=True))


# --- files ----------------------------------------------------------------------------------------


def test_names_come_from_the_file(weights):
    config = ProposeReducePredictConfig(weights=weights)
    assert PROPOSE_REDUCE.categories(config) == NAMES
    with pytest.raises(UsageError, match="leave classes out"):
        PROPOSE_REDUCE.categories(dataclasses.replace(config, classes="davis"))
    with pytest.raises(UsageError, match="leave network out"):
        PROPOSE_REDUCE.categories(dataclasses.replace(config, network="resnet50"))


@pytest.mark.parametrize(
    ("num_classes", "classes", "names"),
    [
        (41, None, "person"),
        (41, "ytvis21", "airplane"),
        (2, None, "instance"),
        (4, None, "class_1"),
    ],
)
def test_a_released_checkpoint_predicts(tmp_path, monkeypatch, num_classes, classes, names):
    small = dataclasses.replace(TINY, block="bottleneck", norm="batch", legacy=True, width=4)
    monkeypatch.setitem(files.RELEASED, "resnet50", small)
    path = tmp_path / "release.pth"
    tensors = {f"module.{k}": v for k, v in network(small, num_classes).state_dict().items()}
    tensors["module.prop_head.convs.0.conv.weight"] = torch.zeros(1)  # dead
    torch.save({"meta": {}, "state_dict": tensors}, path)
    config = ProposeReducePredictConfig(
        weights=str(path), network="resnet50", classes=classes, long_side_px=64, short_side_px=36
    )
    assert PROPOSE_REDUCE.categories(config)[0].name == names
    assert len(PROPOSE_REDUCE.categories(config)) == num_classes - 1
    window = ShardWindow(video=fake_video("v", 4), start=0, stop=4)
    found = list(ProposeReducePredictor(config).predict(batches(pictures(2), 2), window))
    assert [row.frame_index for row in found] == [0, 2]


def test_files_that_do_not_fit_are_one_line(tmp_path, weights):
    path = tmp_path / "other.pth"
    torch.save({"state_dict": {"a": torch.zeros(2)}}, path)
    for settings, words in (
        ({}, "does not say which network"),
        ({"network": "resnet50"}, "no released Seq Mask R-CNN"),
    ):
        with pytest.raises(UsageError, match=words):
            ProposeReducePredictor(ProposeReducePredictConfig(weights=str(path), **settings))
    about = About(recipe="flow_match_detector", settings={"hidden": 3, "x": 1}, categories=NAMES)
    other = tmp_path / "other.safetensors"
    other.write_bytes(to_bytes(torch.nn.Linear(2, 2), about))
    with pytest.raises(UsageError, match="another kind of network"):
        ProposeReducePredictor(ProposeReducePredictConfig(weights=str(other)))
    with pytest.raises(UsageError, match="has 40 classes"):
        bare = tmp_path / "bare.pth"
        torch.save(network().state_dict(), bare)
        PROPOSE_REDUCE.categories(
            ProposeReducePredictConfig(weights=str(bare), network="resnet50", classes="ytvis19")
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"network": "resnet18"}, "expected one of"),
        ({"long_side_px": 640}, "both or neither"),
        ({"long_side_px": 100, "short_side_px": 200}, "short_side_px up to"),
        ({"memory_every": 1, "memory_about": 2}, "one of both"),
        ({"window_frames": 10, "window_overlap": 10}, "less than window_frames"),
        ({"num_key_frames": 0}, "1 to 10000"),
        ({"min_score": 2.0}, "min_score"),
    ],
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        ProposeReducePredictConfig(**settings)
