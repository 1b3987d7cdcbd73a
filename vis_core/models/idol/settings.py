"""What a job says of the network to train, which its files say again, and of how it learns."""

from __future__ import annotations

import dataclasses

from vis_core.models.idol.config import IdolConfig, IdolShape

LARGEST_PX = 16_384


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IdolSettings(IdolShape):
    """The released network unless said otherwise."""

    # Of the input when the network is used: smaller loses small objects, larger costs time.
    short_side_px: int = 480
    long_edge_cap: int = 1333  # of the other side; a frame beyond it becomes smaller as a whole

    def __post_init__(self) -> None:
        IdolShape.__post_init__(self)
        for name in ("short_side_px", "long_edge_cap"):
            if not 32 <= getattr(self, name) <= LARGEST_PX:
                raise ValueError(f"{name}: expected 32 to {LARGEST_PX}, got {getattr(self, name)}")

    def config(self, num_classes: int) -> IdolConfig:
        """Of the network for so many categories."""
        shape = {field.name: getattr(self, field.name) for field in dataclasses.fields(IdolShape)}
        return IdolConfig(num_classes=num_classes, **shape)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class IdolLearning:
    """What is learned from; the defaults are the release's last two steps."""

    # The first step of the release: instances of single pictures, without what tells them apart.
    detection_only: bool = False
    # Whether the later picture of a pair learns to find instances, too. Off, as released: half the
    # pictures teach detection.
    both_detect: bool = False
    # Weight of a loss of ours by which the backbone learns categories where objects are. The
    # release begins with a trained backbone; from scratch, categories are slow without this.
    token_loss: float = 0.0
    # A step before the first, from scratch: that loss alone, without queries. With mosaics, an
    # instance costs a hundredth of a frame.
    tokens_only: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.token_loss <= 1000:
            raise ValueError(f"token_loss: expected 0 to 1000, got {self.token_loss}")
        if self.tokens_only and not (self.token_loss and self.detection_only):
            raise ValueError("tokens_only: expected token_loss and detection_only beside it")
