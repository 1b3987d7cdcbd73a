"""Names of classes: as many as the data sets have, in their order."""

import pytest
import torch
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from vis_core.models.class_names import CLASS_NAMES, names_by_number
from vis_core.models.idol.files import categories_of
from vis_core.models.weights import Weights


def test_every_data_set_has_its_number_of_names():
    counts = {"ytvis19": 40, "ytvis21": 40, "ovis": 25, "coco": 80, "uvo": 1, "davis": 1}
    assert {name: len(names) for name, names in CLASS_NAMES.items()} == counts
    assert all(len(set(names)) == len(names) for names in CLASS_NAMES.values())
    assert list(CLASS_NAMES["ytvis21"]) == sorted(CLASS_NAMES["ytvis21"])


def test_coco_is_as_torchvision_has_it():
    listed = MaskRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
    assert list(CLASS_NAMES["coco"]) == [n for n in listed if n not in ("__background__", "N/A")]


@pytest.mark.parametrize(
    ("number", "first"), [(25, "Person"), (80, "person"), (40, "class_1"), (3, "class_1")]
)
def test_released_files_of_idol_are_recognised_by_their_number_of_classes(number, first):
    """With 40, which YouTube-VIS it was cannot be told."""
    tensors = {"detr.detr.class_embed.0.weight": torch.zeros(number, 8)}
    found = categories_of(Weights(tensors=tensors, about=None), "w.pth")
    assert [category.label for category in found] == list(range(1, number + 1))
    assert found[0].name == first


def test_a_number_that_nobody_has():
    assert names_by_number(3, {40: "ytvis19"}) == ("class_1", "class_2", "class_3")
