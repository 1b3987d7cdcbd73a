"""Weights that come with the package: small, described, and what their names say."""

import pytest
import torch

from vis_core import node_files
from vis_core.errors import UsageError
from vis_core.fingerprints import file_digests
from vis_core.models.about import read_about
from vis_core.models.weights import read_weights
from vis_core.shipped import FOLDER, file_of
from vis_core.systems import get_system

NAMES = sorted(path.stem for path in FOLDER.glob("*.safetensors"))


@pytest.mark.parametrize("name", NAMES)
def test_each_is_small_and_has_a_card_and_knows_its_recipe(name):
    path = FOLDER / f"{name}.safetensors"
    assert path.stat().st_size <= 4_000_000
    about = read_about(str(path))
    assert about.recipe == name and len(about.categories) == 8
    kinds = {tensor.dtype for tensor in read_weights(str(path)).tensors.values()}
    assert torch.float16 in kinds and torch.float32 not in kinds
    card = path.with_suffix(".md").read_text()
    for words in (f"python -m tests.bench.ship {name}", "| plain | own |", "seed", "cores"):
        assert words in card, words


@pytest.mark.parametrize("name", NAMES)
def test_each_is_what_its_system_uses_by_default(name):
    system = get_system(name)
    config = system.predict_config()
    prepared = node_files.prepare(config, file_digests(config))
    assert prepared.weights == str(FOLDER / f"{name}.safetensors")
    assert len(system.categories(prepared)) == 8
    assert system.make_predictor(prepared) is not None


def test_a_name_stands_for_the_file_on_this_machine():
    assert "propose_reduce" in NAMES
    assert file_of("shipped:propose_reduce") == str(FOLDER / "propose_reduce.safetensors")
    assert file_of("my/weights.pth") == "my/weights.pth"
    with pytest.raises(UsageError, match="no weights called 'x' come with reelmask"):
        file_of("shipped:x")
