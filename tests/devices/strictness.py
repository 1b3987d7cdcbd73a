"""The device that stands in for an accelerator is as strict as one, and counts its bytes."""

from __future__ import annotations

import pytest
import torch

from tests.support.stand_in import MEMORY, stand_in


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: here + there,
        lambda here, there: torch.cat([there, here]),
        lambda here, there: here[there.long()],
        lambda here, there: there.index_put_((torch.tensor([0, 1]),), here[:2]),
        lambda here, there: torch.nn.functional.linear(there[None], here[None]),
    ],
)
def test_tensors_of_two_places_do_not_mix(mixed):
    with pytest.raises(RuntimeError, match="on the same device"):
        mixed(torch.zeros(3), torch.zeros(3, device=stand_in()))


def test_what_accelerators_allow_is_allowed():
    there = torch.arange(3.0, device=stand_in())
    assert (there + torch.tensor(1.0)).tolist() == [1, 2, 3]
    assert there[torch.tensor([2, 0])].tolist() == [2, 0]
    assert there.cpu().numpy().tolist() == [0, 1, 2]
    assert float(there.sum()) == 3


def test_nothing_comes_back_that_is_not_asked_for():
    there = torch.zeros(3, device=stand_in())
    assert there.device == stand_in() and (there + 1).device == stand_in()
    with pytest.raises((TypeError, RuntimeError), match="numpy"):
        there.numpy()


def test_bytes_are_counted_while_tensors_live():
    """In pieces of 512; a view takes none; what came between counts for the most."""
    before = MEMORY.now
    there = torch.zeros(300, device=stand_in())
    view = there[10:]
    assert MEMORY.now - before == 1536
    MEMORY.forget_most()
    both = torch.cat([there, there])
    del both, there
    assert (MEMORY.now - before, MEMORY.most - before) == (1536, 1536 + 2560)
    del view
    assert MEMORY.now == before
