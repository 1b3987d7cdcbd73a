"""Released checkpoints: what is in them that the network has no use for, and the rest into it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from vis_core.errors import UsageError
from vis_core.models.seq_mask_rcnn.network import SeqMaskRcnn
from vis_core.models.weights import Loaded, load_into

# A copy of the mask head that was never run.
DEAD = ("prop_head.convs.", "prop_head.upsample.", "prop_head.conv_logits.")
_COUNTERS = "*.num_batches_tracked"  # older files are without; nothing reads them


def live_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without the wrapper's prefix and the dead copy."""
    named = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    if len(named) != len(tensors):
        raise UsageError("the file has the same tensors twice, with and without 'module.'")
    return {name: tensor for name, tensor in named.items() if not name.startswith(DEAD)}


def load_release(network: SeqMaskRcnn, tensors: Mapping[str, Tensor]) -> Loaded:
    """Fills the network; a tensor that lacks, has another shape or no place is an error."""
    live = live_tensors(tensors)
    mine = network.state_dict()
    strange = sorted(set(live).difference(mine))
    if strange:
        raise UsageError(
            f"{len(strange)} tensors have no place in the network: {', '.join(strange[:5])}"
        )
    counted = any(name.endswith("num_batches_tracked") for name in live)
    has_counters = any(name.endswith("num_batches_tracked") for name in mine)
    loaded = load_into(network, live, (_COUNTERS,) if has_counters and not counted else ())
    dead = sorted(name for name in tensors if name.removeprefix("module.").startswith(DEAD))
    return Loaded(kept=loaded.kept, reset=loaded.reset, unused=dead)
