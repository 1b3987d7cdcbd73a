"""Networks from files of weights: ours say what they are for, released ones are named.

Released files hold things that no network has a use for; all the rest has to fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vis_core.config import build
from vis_core.errors import UsageError
from vis_core.models.seq_mask_rcnn.config import RELEASED, SeqMaskRcnnConfig
from vis_core.models.seq_mask_rcnn.network import SeqMaskRcnn
from vis_core.models.weights import Loaded, Weights, buildable, load_into

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


def from_weights(weights: Weights, path: str, released: str | None) -> tuple[SeqMaskRcnn, Loaded]:
    """The network that a file says it is for, else the released one by this name."""
    if weights.about is None:
        if released is None:
            raise UsageError(
                f"{path!r} does not say which network its weights are for; name it with"
                f" network={'|'.join(RELEASED)}, or give a file that `reelmask train` wrote"
            )
        config, classes = RELEASED[released], number_of_classes(weights.tensors, path)
    else:
        config = _config_of(weights.about.settings, path)
        classes = len(weights.about.categories) + 1
    network = buildable(lambda: SeqMaskRcnn(config, classes), weights.tensors, path)
    try:
        return network, load_release(network, weights.tensors)
    except UsageError as error:
        raise UsageError(f"{path!r} does not fit: {error}") from error


def number_of_classes(tensors: Mapping[str, Tensor], path: str) -> int:
    """With the background."""
    for name, tensor in tensors.items():
        if name.removeprefix("module.") == "bbox_head.fc_cls.bias" and tensor.dim() == 1:
            return len(tensor)
    raise UsageError(f"{path!r} holds no released Seq Mask R-CNN: it has no bbox_head.fc_cls")


def _config_of(settings: Mapping[str, Any], path: str) -> SeqMaskRcnnConfig:
    try:
        return build(SeqMaskRcnnConfig, settings)
    except UsageError as error:
        raise UsageError(f"{path!r} describes another kind of network: {error}") from error
