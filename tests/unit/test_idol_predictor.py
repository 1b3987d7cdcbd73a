"""IDOL's predictor: sizes, masks, rows that depend on nothing but the frame, files that fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.idol import (
    CATEGORIES,
    SIZE,
    SMALL,
    assert_same,
    pictures,
    predicted,
    random_network,
    write_weights,
)
from vis_core.errors import UsageError
from vis_core.models import weights
from vis_core.models.idol import Idol, IdolConfig
from vis_core.models.idol.files import categories_of, from_weights
from vis_core.models.idol.network import sizes_of
from vis_core.models.idol.pictures import full_masks, input_size, resized
from vis_core.models.idol.selection import select_queries
from vis_core.systems.idol import IDOL, IdolPredictConfig


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_weights(tmp_path_factory.mktemp("idol") / "small.safetensors")


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return pictures()


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "short", "cap", "expected"),
    [
        ((720, 1280), 480, 1333, (480, 853)),
        ((720, 1280), 640, 1333, (640, 1138)),
        ((1080, 1920), 800, 1333, (750, 1333)),
        ((1080, 1920), 800, 1440, (800, 1422)),
        ((1280, 720), 480, 1333, (853, 480)),
        ((480, 480), 480, 1333, (480, 480)),
    ],
)
def test_the_input_has_the_short_side_unless_the_long_edge_is_at_its_cap(
    size, short, cap, expected
):
    assert input_size(size, short, cap) == expected


@pytest.mark.parametrize("size", [(48, 80), (120, 213)])
def test_pictures_are_resized_as_pillow_does(frames, size):
    """Which the release uses; bytes differ by rounding at most."""
    found = resized(frames[0], size).permute(1, 2, 0).numpy().astype(int)
    theirs = Image.fromarray(frames[0]).resize(size[::-1], Image.Resampling.BILINEAR)
    assert np.abs(found - np.asarray(theirs).astype(int)).max() <= 1


def test_masks_come_back_at_the_frames_size_without_the_padding():
    """x4, cut to the picture, then the nearest pixels of it."""
    logits = torch.full((20, 16, 24), -5.0)
    logits[:, :8, :12] = 5.0
    found = full_masks(logits, (60, 90), (120, 180))
    assert found.shape == (20, 120, 180)
    assert found[:, :60, :90].all() and not found[:, 70:].any() and not found[:, :, 102:].any()


# --- rows -----------------------------------------------------------------------------------------


def test_rows_hold_what_the_network_found(file, frames):
    """Best first, above the floor, with the masks and boxes of their queries."""
    rows = predicted(file, frames[:2], emit_floor=0.3)
    network = random_network()
    size = input_size(SIZE, SMALL.short_side_px, SMALL.long_edge_cap)
    pictures = [resized(frame, size) for frame in frames[:2]]
    with torch.no_grad():
        decoded = network(pictures)
        scores, boxes = network.class_logits(decoded).sigmoid(), network.boxes(decoded)
        chosen = [select_queries(scores[i], boxes[i], 0.3) for i in range(2)]
        sizes = [sizes_of(picture) for picture in pictures]
        masks = network.masks(decoded, network.mask_features(decoded), sizes, chosen)
    for i, row in enumerate(rows):
        assert len(row) > 1 and (np.diff(row.scores) <= 0).all() and row.scores[-1] > 0.3
        np.testing.assert_allclose(row.class_scores, scores[i, chosen[i]], rtol=1e-5, atol=1e-6)
        assert np.array_equal(row.labels, row.class_scores.argmax(1) + 1)
        width = (row.boxes[:, 2] - row.boxes[:, 0]) / SIZE[1]
        inside = boxes[i, chosen[i]].numpy()
        whole = (inside[:, :2] > inside[:, 2:] / 2).all(1) & (
            inside[:, :2] + inside[:, 2:] / 2 < 1
        ).all(1)
        np.testing.assert_allclose(width[whole], inside[whole, 2], atol=1e-5)
        assert full_masks(masks[i], size, SIZE).sum() > 0


def test_the_best_instance_is_never_left_out(file, frames):
    rows = predicted(file, frames[:2], emit_floor=1.0)
    assert [len(row) for row in rows] == [1, 1]


@pytest.mark.parametrize("shard", [1, 3, 7])
def test_rows_do_not_depend_on_the_shard(file, frames, shard):
    """Short batches are filled up; not a bit differs."""
    assert_same(predicted(file, frames), predicted(file, frames, shard))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_rows_do_not_depend_on_the_batch(file, frames, batch_size):
    """Sums in another order may move the last digits, and no mask of these."""
    for one, two in zip(
        predicted(file, frames), predicted(file, frames, batch_size=batch_size), strict=True
    ):
        assert list(one.masks) == list(two.masks)
        np.testing.assert_allclose(one.class_scores, two.class_scores, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.boxes, two.boxes, atol=1e-3)


def test_another_size_is_another_view(file, frames):
    small, large = (predicted(file, frames[:1], short_side_px=side)[0] for side in (48, 96))
    assert (small.height, small.width) == (large.height, large.width) == SIZE
    assert len(small) != len(large) or not np.allclose(small.scores, large.scores)


# --- files ----------------------------------------------------------------------------------------


def test_half_precision_in_a_file_is_computed_in_full(tmp_path):
    halved = write_weights(tmp_path / "half.safetensors", random_network().half())
    read = weights.read_weights(str(halved))
    network, settings = from_weights(read, str(halved))
    assert settings == SMALL and not network.training
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    assert {tensor.dtype for tensor in read.tensors.values()} == {torch.float16}


def test_a_released_file_is_recognised_by_its_tensors(tmp_path):
    """Depth and number of categories; it says nothing else."""
    network = Idol(IdolConfig(num_classes=3))
    file = tmp_path / "released.pth"
    torch.save({"model": network.state_dict(), "iteration": 7}, file)
    read = weights.read_weights(str(file))
    _, settings = from_weights(read, str(file))
    assert (settings.depth, settings.short_side_px, settings.long_edge_cap) == (50, 480, 1333)
    assert [category.label for category in categories_of(read, str(file))] == [1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"recipe": "flow_match_detector"}, "recipe 'flow_match_detector'"),
        ({"settings": {"width": 48}}, "another kind of network: width"),
        ({"settings": {"wide": 48}}, "another kind of network: unknown setting"),
        ({"settings": {"width": 64}}, "does not fit: .* tensors do not fit"),
    ],
)
def test_files_of_other_networks_are_refused(tmp_path, changes, says):
    file = write_weights(tmp_path / "other.safetensors", **changes)
    with pytest.raises(UsageError, match=says):
        from_weights(weights.read_weights(str(file)), str(file))


def test_tensors_without_a_place_are_refused(file):
    read = weights.read_weights(str(file))
    more = dataclasses.replace(read, tensors={**read.tensors, "backdrop": torch.zeros(1)})
    with pytest.raises(UsageError, match=r"1 tensors .* no place for: backdrop"):
        from_weights(more, "file")


def test_categories_are_those_of_the_file(file):
    assert IDOL.categories(IdolPredictConfig(weights=str(file))) == CATEGORIES


@pytest.mark.parametrize(
    "wrong", [{"short_side_px": 8}, {"long_edge_cap": 0}, {"emit_floor": 2}, {"batch_size": 0}]
)
def test_a_wrong_setting_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        IdolPredictConfig(**wrong)
