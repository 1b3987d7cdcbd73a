"""IDOL's recipe: what a batch holds, and losses that are those of the released network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.support.golden_networks import read_network
from tests.support.idol import CATEGORIES, SMALL
from vis_core.data.sample import Sample
from vis_core.errors import UsageError
from vis_core.models.idol import Idol, IdolConfig
from vis_core.models.idol.criterion import Pair, Target, losses_of
from vis_core.models.idol.losses import WEIGHTS
from vis_core.models.idol.network import convert
from vis_core.models.idol.settings import IdolLearning
from vis_core.systems.idol.training import IDOL_PAIRS, IdolModule, collate
from vis_core.training.job import make_train_job
from vis_core.training.recipes import get_recipe

PAIRS, ALONE = IdolLearning(), IdolLearning(detection_only=True)


def sample(*seen: tuple[bool, ...], crowd: tuple[bool, ...] = ()) -> Sample:
    """A clip with a row per frame: which instances it shows, as squares side by side."""
    number = len(seen[0])
    masks = []
    for place, row in enumerate(seen):
        picture = np.zeros((number, 64, 96), bool)
        for index in np.flatnonzero(row):
            picture[index, 20:40, 4 + 30 * index + place : 24 + 30 * index + place] = True
        masks.append(picture)
    random = np.random.default_rng(0)
    return Sample(
        video_id="v",
        frame_index=np.arange(len(seen)),
        frames=[random.integers(0, 256, (64, 96, 3), np.uint8) for _ in seen],
        masks=masks,
        labels=np.arange(number) % len(CATEGORIES),
        ids=np.arange(number),
        crowd=np.array(crowd or (False,) * number),
    )


# --- batches --------------------------------------------------------------------------------------


def test_a_pair_teaches_its_key_and_names_who_is_seen_again():
    """The instance that only the later picture shows is left out."""
    batch = collate(SMALL, PAIRS, [sample((True, True, False), (True, False, True))])
    assert len(batch["pictures"]) == 2
    (target,), (pair,) = batch["targets"], batch["pairs"]
    assert target["picture"] == 0 and target["labels_G"].tolist() == [0, 1]
    torch.testing.assert_close(target["boxes_G4"][0], torch.tensor([14, 30, 20, 20]) / 96 * _tall())
    assert pair["picture"] == 1 and pair["target"] == 0
    assert pair["valid_G"].tolist() == [True, False]
    torch.testing.assert_close(pair["boxes_G4"][0], torch.tensor([15, 30, 20, 20]) / 96 * _tall())


def _tall() -> torch.Tensor:
    """Shares of the width to shares of each side."""
    return torch.tensor([1, 1.5, 1, 1.5])


def test_both_pictures_of_a_pair_can_teach():
    both = IdolLearning(both_detect=True)
    batch = collate(SMALL, both, [sample((True, True, False), (True, False, True))] * 2)
    assert [target["picture"] for target in batch["targets"]] == [0, 1, 2, 3]
    assert [len(target["labels_G"]) for target in batch["targets"]] == [2, 2, 2, 2]
    assert [pair["target"] for pair in batch["pairs"]] == [0, 2]


def test_single_pictures_teach_detection_alone():
    batch = collate(SMALL, ALONE, [sample((True,)), sample((False,))])
    assert [len(target["labels_G"]) for target in batch["targets"]] == [1, 0]
    assert batch["pairs"] == []


def test_crowds_are_no_instances():
    batch = collate(SMALL, ALONE, [sample((True, True), crowd=(False, True))])
    assert batch["targets"][0]["labels_G"].tolist() == [0]


def test_contrast_needs_pairs():
    with pytest.raises(UsageError, match="num_frames 2"):
        collate(SMALL, PAIRS, [sample((True,))])


# --- losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("learning", "clips"),
    [
        (PAIRS, [sample((True, True), (True, True)), sample((True, True), (False, True))]),
        (PAIRS, [sample((False, False), (True, True))]),
        (PAIRS, [sample((True, True), (False, False))]),
        (ALONE, [sample((True, True)), sample((False, True))]),
        (ALONE, [sample((False,))]),
    ],
    ids=["pairs", "empty key", "none seen again", "pictures", "empty picture"],
)
def test_losses_are_finite_and_reach_every_parameter(learning, clips):
    """What learns gets a gradient, if only zeros: workers wait for one another's."""
    torch.manual_seed(0)
    module = IdolModule(SMALL, learning, CATEGORIES)
    terms = module(collate(SMALL, learning, clips), list(range(len(clips))))
    total = sum(term.weight * term.total / max(term.over, 1) for term in terms.values())
    assert torch.isfinite(total)
    total.backward()
    missing = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    assert missing == []
    assert ("reid" in terms) == (learning is PAIRS)
    still = {name for name, p in module.named_parameters() if not p.requires_grad}
    assert all("reid" in name for name in still) and bool(still) == (learning is ALONE)


def test_every_layer_weighs_alike():
    torch.manual_seed(0)
    terms = IdolModule(SMALL, PAIRS, CATEGORIES)(
        collate(SMALL, PAIRS, [sample((True,), (True,))]), [0]
    )
    for name, term in terms.items():
        assert term.weight == WEIGHTS[f"loss_{name.removesuffix('_0')}"]
    layers = {name.removesuffix("_0") for name in terms if name.endswith("_0")}
    assert layers == {"ce", "bbox", "giou", "mask", "dice"}


def test_the_seed_alone_decides_which_negatives_are_drawn():
    torch.manual_seed(0)
    many = dataclasses.replace(SMALL, num_queries=60)
    module = IdolModule(many, PAIRS, CATEGORIES).eval()
    batch = collate(many, PAIRS, [sample((True, True), (True, True))])
    with torch.no_grad():
        found = [float(module(batch, [seed])["reid_aux"].total) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_a_batch_has_the_released_losses(shared):
    """Both pairs of the golden fixture at once, all layers."""
    whole = read_network(shared, "idol_whole")
    network = Idol(
        IdolConfig(
            num_classes=5,
            num_queries=100,
            stem_width=8,
            stage_width=16,
            inner_width=4,
            width=64,
            encoder_layers=2,
            decoder_layers=3,
            ffn_width=96,
        )
    )
    convert(network, whole.weights)
    network.eval()
    out, given = whole.outputs, whole.inputs
    targets, pairs = [], []
    for pair, picture in enumerate((0, 2)):
        here = given[f"train.{picture}.ids"] != -1
        targets.append(
            Target(
                picture=picture,
                boxes_G4=out[f"train.target.key{pair}.boxes"],
                labels_G=out[f"train.target.key{pair}.labels"],
                masks_GHW=given[f"train.{picture}.masks"][here],
            )
        )
        pairs.append(
            Pair(
                target=pair,
                picture=picture + 1,
                boxes_G4=out[f"train.target.ref{pair}.boxes"],
                valid_G=out[f"train.target.ref{pair}.valid"].bool(),
            )
        )
    pictures = [given[f"train.{picture}.image_uint8_rgb"] for picture in range(4)]
    with torch.no_grad():
        found = losses_of(network, network(pictures), pictures, targets, pairs, [0, 1])
    assert len(found) == 17
    for name, (total, over) in found.items():
        if name != "loss_reid_aux":  # of negatives drawn at random
            whole.assert_close(total / over, f"train.loss.{name}")


def test_a_recipes_weights_are_for_idol():
    assert get_recipe("idol") is IDOL_PAIRS
    assert IDOL_PAIRS.system("w.safetensors") == ("idol", {"weights": "w.safetensors"})


def test_tokens_learn_categories_only_if_asked_to():
    """A loss of ours: once for each object and level that has a token on it."""
    torch.manual_seed(0)
    asked = dataclasses.replace(ALONE, token_loss=1.5)
    batch = collate(SMALL, asked, [sample((True, False))])
    terms = IdolModule(SMALL, asked, CATEGORIES)(batch, [0])
    # 20 x 20 px: cells have their middle inside at strides 8 and 16, none at 32.
    assert (terms["tokens"].over, terms["tokens"].weight) == (2, 1.5)
    assert terms["tokens"].total > 0
    assert "tokens" not in IdolModule(SMALL, ALONE, CATEGORIES)(batch, [0])


def test_tokens_alone_leave_the_queries_as_they_are():
    asked = dataclasses.replace(ALONE, token_loss=1.0, tokens_only=True)
    module = IdolModule(SMALL, asked, CATEGORIES)
    terms = module(collate(SMALL, asked, [sample((True, True))]), [0])
    assert set(terms) == {"tokens"}
    terms["tokens"].total.backward()
    moved = {name for name, value in module.network.named_parameters() if value.grad is not None}
    assert any("backbone" in name for name in moved)
    assert not any("decoder" in name or "query_embed" in name for name in moved)


@pytest.mark.parametrize(
    "wrong",
    [{"tokens_only": True}, {"token_loss": -1.0}],
)
def test_a_wrong_setting_is_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataclasses.replace(ALONE, **wrong)


# --- job files ------------------------------------------------------------------------------------

JOBS = sorted((Path(__file__).parents[2] / "docs" / "jobs").glob("idol_*.yaml"))


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.stem)
def test_the_job_files_can_be_read(file):
    job = make_train_job(yaml.safe_load(file.read_text()))
    assert job.recipe is IDOL_PAIRS
    assert job.learning.detection_only == (job.sampling.num_frames == 1)


@pytest.mark.parametrize(
    ("name", "batch", "lr", "steps", "milestones", "short_side"),
    [
        ("idol_coco_1", 32, 2e-4, 59200, (22200, 44400), 640),
        ("idol_coco_2", 32, 2e-4, 59200, (22200, 44400), 640),
        ("idol_ytvis", 32, 1e-4, 12000, (8000,), 480),
        ("idol_ovis", 16, 1e-4, 12000, (8000,), 720),
    ],
)
def test_schedules_are_the_released_ones(name, batch, lr, steps, milestones, short_side):
    file = next(file for file in JOBS if file.stem == name)
    job = make_train_job(yaml.safe_load(file.read_text()))
    assert (job.loop.batch_size, job.optimizer.lr, job.schedule.steps) == (batch, lr, steps)
    assert (job.schedule.milestones, job.network.short_side_px) == (milestones, short_side)
    assert (job.optimizer.clip_norm, job.optimizer.weight_decay) == (0.01, 1e-4)
    assert [(rule.match, rule.lr_factor) for rule in job.groups] == [("*backbone*", 0.1)]
