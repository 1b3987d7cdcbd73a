"""What a job says of the network to train, which its files say again, and of how it learns."""

from __future__ import annotations

import dataclasses

from vis_core.config import check, setting
from vis_core.models.idol.config import IdolConfig, IdolShape

LARGEST_PX = 16_384


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IdolSettings(IdolShape):
    """The released network unless said otherwise."""

    short_side_px: int = setting(
        480,
        low=32,
        high=LARGEST_PX,
        says="Short side of the input when the network is used. Smaller loses small objects, larger"
        " costs time.",
    )
    long_edge_cap: int = setting(
        1333,
        low=32,
        high=LARGEST_PX,
        says="Longest other side; a frame beyond it becomes smaller as a whole.",
    )

    def config(self, num_classes: int) -> IdolConfig:
        """Of the network for so many categories."""
        shape = {field.name: getattr(self, field.name) for field in dataclasses.fields(IdolShape)}
        return IdolConfig(num_classes=num_classes, **shape)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IdolLearning:
    """What is learned from; the defaults are the release's last two steps."""

    detection_only: bool = setting(
        False,
        says="The first step of the release: learn the instances of single pictures, without what"
        " tells them apart.",
    )
    both_detect: bool = setting(
        False,
        says="The later picture of a pair learns to find instances, too. Off, as released: half the"
        " pictures teach detection.",
    )
    token_loss: float = setting(
        0.0,
        low=0,
        high=1000,
        says="Weight of a loss of ours by which the backbone learns categories where objects are."
        " The release begins with a trained backbone; from scratch, categories are slow without"
        " this.",
    )
    tokens_only: bool = setting(
        False,
        says="A step before the first, from scratch: that loss alone, without queries. With"
        " mosaics, an instance costs a hundredth of a frame.",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.tokens_only and not (self.token_loss and self.detection_only):
            raise ValueError("tokens_only: expected token_loss and detection_only beside it")
